//! Puts the container's end of a pair into a running container, as an engine does at its start.

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::InfoKind,
};
use rtnetlink::LinkUnspec;

use super::{
    Kernel,
    error::Failure,
    link_messages::{set, set_up},
    socket::{Channel, Request},
};
use crate::{
    dataplane::{
        Attachment, DataplaneError,
        names::{container_link, is_container_link},
        namespace::Namespace,
    },
    model::EndpointId,
};

/// Links that one container may have.
const LINKS: u32 = 256;

impl Kernel {
    /// Endpoints whose container's end is in the host's namespace.
    pub(super) async fn ends_here(&self) -> Result<BTreeSet<EndpointId>, DataplaneError> {
        let links = self.host.links().await.map_err(|failure| failure.during("reading the host's links"))?;
        let ends = links.into_iter().filter(|link| is_container_link(&link.name) && link.is(&InfoKind::Veth));
        Ok(ends.filter_map(|link| link.alias?.endpoint).collect())
    }

    /// Moves the end of a pair into its container and gives it its name and its addresses.
    pub(super) async fn attach_end(&self, link: &Attachment) -> Result<String, DataplaneError> {
        let what = format!("link of endpoint {} in its container", link.endpoint.short());
        let during = |failure: Failure| failure.during(&what);
        let refused = |error: &io::Error| DataplaneError::Refused {
            what: format!("{what}, sandbox {}", link.sandbox.display()),
            detail: error.to_string(),
        };
        let sandbox = Arc::new(Namespace::open(&link.sandbox).map_err(|error| refused(&error))?);
        let name = container_link(&link.endpoint);
        let Some(end) = self.host.link(&name).await.map_err(during)? else {
            let detail = format!("{name} no longer waits in the host's namespace");
            return Err(DataplaneError::Refused { what, detail });
        };
        let inside = Channel::new(sandbox.clone());
        let taken: BTreeSet<_> =
            inside.links().await.map_err(during)?.into_iter().map(|link| link.name).collect();
        let free = (0..LINKS).map(|number| format!("eth{number}")).find(|name| !taken.contains(name));
        let Some(free) = free else {
            return Err(DataplaneError::Refused { what, detail: "no name is free there".into() });
        };
        let message = LinkUnspec::new_with_index(end.index).name(free.clone()).setns_by_fd(sandbox.raw());
        self.host.call(set(message.build())).await.map_err(during)?;
        let Some(end) = inside.link(&free).await.map_err(during)? else {
            return Err(DataplaneError::Refused { what, detail: format!("{free} vanished at once") });
        };
        if link.addresses.iter().any(|address| address.addr().is_ipv6()) {
            // Engines turn IPv6 off in a sandbox and on again for the links that have it. A kernel without
            // IPv6 tells by the address.
            let setting = format!("/proc/sys/net/ipv6/conf/{free}/disable_ipv6");
            if let Ok(Err(error)) = sandbox.run(|| std::fs::write(&setting, "0")) {
                tracing::debug!(%error, setting, "cannot turn IPv6 on");
            }
        }
        let addresses = link.addresses.iter().map(|net| address(end.index, net.addr(), net.prefix_len()));
        inside.all(addresses.chain([set_up(end.index)]).collect()).await.map_err(during)?;
        Ok(free)
    }
}

fn address(link: u32, ip: IpAddr, length: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = length;
    message.attributes.push(AddressAttribute::Address(ip));
    match ip {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            message.attributes.push(AddressAttribute::Local(ip));
            // All ones behind the prefix, as engines set it.
            let broadcast = u32::from(v4) | u32::MAX.checked_shr(length.into()).unwrap_or(0);
            message.attributes.push(AddressAttribute::Broadcast(broadcast.into()));
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // The claim has made it unique: a probe would only delay it.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    Request::new(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}
