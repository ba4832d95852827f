//! The probe device: the segment on which hosts ask for each other.
//!
//! It has no bridge, but an address of its own: whom a host asks, is that host's kernel. Unlike all other
//! tunnels it learns where a question came from, so that a host answers also those of which its daemon, if
//! it is dead by then, has never heard. Entries for the known hosts are permanent, and cannot be taken over
//! by what is learnt.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::InfoKind,
};
use nix::errno::Errno;

use super::{
    Kernel,
    error::Failure,
    link_messages::{create_probe, probe_messages},
    links::Link,
    socket::{Channel, Request},
};
use crate::{
    dataplane::{
        DataplaneError,
        names::{Alias, vxlan_link},
    },
    model::{NetworkId, PROBE_PREFIX, Vni, probe_address},
    plan::Vxlan,
};

/// An address that may vanish again, or is not answered for.
const UNSURE: AddressHeaderFlags = AddressHeaderFlags::Tentative.union(AddressHeaderFlags::Dadfailed);

impl Kernel {
    /// Makes the device anew, unless it is as it should be.
    pub(super) async fn make_probe(&self, vxlan: &Vxlan) -> Result<(), DataplaneError> {
        let name = vxlan_link(Vni::PROBE);
        let what = format!("probe device {name}");
        let during = |failure: Failure| failure.during(&what);
        if let Some(old) = self.inside.link(&name).await.map_err(during)? {
            if !old.is(&InfoKind::Vxlan) {
                return Err(self.foreign(&what, &name, "VXLAN device"));
            }
            let addresses = self.inside.addresses_of(old.index).await.map_err(during)?;
            if good_probe(&old, &addresses) == Some(*vxlan) {
                return Ok(());
            }
            self.inside.delete_link(old.index).await.map_err(during)?;
        }
        match self.host.call(create_probe(&name, vxlan, self.inside.namespace())).await {
            Err(failure) if failure.errno() == Some(Errno::EEXIST) => {
                return Err(self.vni_taken(Vni::PROBE, vxlan, &what).await);
            }
            other => other.map_err(during)?,
        }
        let Some(made) = self.inside.link(&name).await.map_err(during)? else {
            return Err(DataplaneError::Refused {
                what,
                detail: "it vanished as soon as it was made".into(),
            });
        };
        let alias = Alias::of_segment(&NetworkId::of_probes());
        match self.inside.all(probe_messages(made.index, &alias, vxlan)).await {
            // Bringing the device up opens the UDP socket.
            Err(failure) if failure.errno() == Some(Errno::EADDRINUSE) => {
                return Err(self.port_taken(vxlan.port, &what).await);
            }
            other => other.map_err(during)?,
        }
        let address = add_address(made.index, probe_address(vxlan.local));
        match self.inside.call(address).await {
            Err(failure)
                if matches!(
                    failure.errno(),
                    Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::EACCES)
                ) =>
            {
                Err(DataplaneError::Refused {
                    what,
                    detail: "this kernel has no IPv6, or it is disabled".into(),
                })
            }
            other => other.map_err(during),
        }
    }
}

/// The settings of a probe device that is as we make it; `None`: it has to be made anew.
pub(super) fn good_probe(link: &Link, addresses: &BTreeSet<Ipv6Addr>) -> Option<Vxlan> {
    let vxlan = link.good_probe()?;
    addresses.contains(&probe_address(vxlan.local)).then_some(vxlan)
}

impl Channel {
    /// The IPv6 addresses of a link that have our prefix length and are answered for.
    pub(super) async fn addresses_of(&self, link: u32) -> Result<BTreeSet<Ipv6Addr>, Failure> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.index = link;
        let rows = self.dump(RouteNetlinkMessage::GetAddress(message)).await?;
        Ok(rows.into_iter().filter_map(|row| usable_address(row, link)).collect())
    }
}

fn usable_address(row: RouteNetlinkMessage, link: u32) -> Option<Ipv6Addr> {
    let RouteNetlinkMessage::NewAddress(row) = row else { return None };
    let header = &row.header;
    // A kernel without IPv6 answers with the rows of all other families.
    let usable = header.family == AddressFamily::Inet6
        && header.index == link
        && header.prefix_len == PROBE_PREFIX
        && !header.flags.intersects(UNSURE);
    row.attributes.iter().filter(|_| usable).find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(ip)) => Some(*ip),
        _ => None,
    })
}

/// Nobody else can have it, so that it need not be looked for first (`NODAD`).
fn add_address(link: u32, ip: Ipv6Addr) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.index = link;
    message.header.prefix_len = PROBE_PREFIX;
    message.header.flags = AddressHeaderFlags::Nodad | AddressHeaderFlags::Permanent;
    message.attributes.push(AddressAttribute::Address(ip.into()));
    Request::new(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}
