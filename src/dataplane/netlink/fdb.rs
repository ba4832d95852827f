//! Forwarding entries: which Ethernet address is behind which port, and behind which VTEP.
//!
//! A remote address needs two rows: one of the VXLAN device itself (`self`) with the VTEP, and one of the
//! bridge (`master`) without which the frame would count as unknown. The bridge's row is sticky: a plain
//! static row can be taken over by a frame with a forged source address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use nix::errno::Errno;

use super::{
    error::Failure,
    links::BRIDGE,
    socket::{Channel, Request},
};
use crate::model::MacAddr;

/// The device's row for frames that have no other one.
const ALL: [u8; 6] = [0; 6];

/// The forwarding rows of one port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// Rows of the device itself: the VTEP, or `None` where the row is not as we make it.
    pub(crate) own: BTreeMap<MacAddr, Option<IpAddr>>,
    /// Where the device copies frames for all to, or `None` for a row that is not as we make it.
    pub(crate) flood: BTreeSet<Option<IpAddr>>,
    /// Static rows of the bridge that point to this port, and whether each one is sticky.
    pub(crate) bridge: BTreeMap<MacAddr, bool>,
}

impl Channel {
    /// All forwarding rows, by the index of the port.
    pub(crate) async fn fdb(&self) -> Result<BTreeMap<u32, Rows>, Failure> {
        self.fdb_dump(0).await
    }

    /// The rows of one port.
    pub(crate) async fn fdb_of(&self, port: u32) -> Result<Rows, Failure> {
        Ok(self.fdb_dump(port).await?.remove(&port).unwrap_or_default())
    }

    async fn fdb_dump(&self, port: u32) -> Result<BTreeMap<u32, Rows>, Failure> {
        let mut message = NeighbourMessage::default();
        message.header.family = BRIDGE;
        message.header.ifindex = port;
        self.dump_into(RouteNetlinkMessage::GetNeighbour(message), |rows, row| {
            if let RouteNetlinkMessage::NewNeighbour(row) = row {
                take(&row, rows);
            }
        })
        .await
    }
}

fn take(row: &NeighbourMessage, rows: &mut BTreeMap<u32, Rows>) {
    let (mut mac, mut all, mut vtep, mut plain) = (None, false, None, true);
    for attribute in &row.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                (mac, all) = (mac_of(bytes), *bytes == ALL);
            }
            NeighbourAttribute::Destination(address) => vtep = ip_of(address),
            NeighbourAttribute::Port(_)
            | NeighbourAttribute::Vni(_)
            | NeighbourAttribute::IfIndex(_)
            | NeighbourAttribute::Vlan(_) => plain = false,
            _ => {}
        }
    }
    let port = rows.entry(row.header.ifindex).or_default();
    let own = row.header.flags.contains(NeighbourFlags::Own);
    if all && own {
        port.flood.extend(vtep.map(|vtep| Some(vtep).filter(|_| plain)));
    }
    let Some(mac) = mac else { return };
    if own {
        // Rows without a destination are the device's own unicast filter; what it has learnt, as only the
        // probe device does, is reachable and ages.
        if let Some(vtep) = vtep.filter(|_| row.header.state != NeighbourState::Reachable) {
            port.own.insert(mac, Some(vtep).filter(|_| plain));
        }
    } else if row.header.state == NeighbourState::Noarp && plain {
        port.bridge.insert(mac, row.header.flags.contains(NeighbourFlags::Sticky));
    }
}

/// In dumps of this family the parser leaves addresses as bytes.
pub(super) fn ip_of(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().and_then(|bytes| MacAddr::new(bytes).ok())
}

fn row(port: u32, mac: MacAddr, flags: NeighbourFlags, state: NeighbourState) -> NeighbourMessage {
    row_of(port, &mac.octets(), flags, state)
}

fn row_of(port: u32, mac: &[u8], flags: NeighbourFlags, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = BRIDGE;
    message.header.ifindex = port;
    message.header.flags = flags;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

fn upsert(message: NeighbourMessage) -> Request {
    Request::new(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

fn delete(message: NeighbourMessage) -> Request {
    Request::new(RouteNetlinkMessage::DelNeighbour(message), 0)
}

/// Frames for `mac` go through the tunnel to `vtep`. A row that pointed elsewhere is moved.
pub(crate) fn set_remote(vxlan: u32, mac: MacAddr, vtep: IpAddr) -> [Request; 2] {
    let mut own = row(vxlan, mac, NeighbourFlags::Own, NeighbourState::Permanent);
    own.attributes.push(to(vtep));
    // PERMANENT in a bridge's table would mean "an address of this host".
    let bridge = row(vxlan, mac, NeighbourFlags::Controller | NeighbourFlags::Sticky, NeighbourState::Noarp);
    [upsert(own), upsert(bridge)]
}

/// Forgets `mac`, as far as it points into the tunnel.
pub(crate) fn delete_remote(vxlan: u32, mac: MacAddr) -> [Request; 2] {
    [
        delete(row(vxlan, mac, NeighbourFlags::Own, NeighbourState::Permanent)),
        delete(row(vxlan, mac, NeighbourFlags::Controller, NeighbourState::Noarp)),
    ]
}

fn to(vtep: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match vtep {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    })
}

/// Frames for all are copied to `vtep` as well: one more destination of the device's row for "all others".
pub(crate) fn set_flood(vxlan: u32, vtep: IpAddr) -> Request {
    let mut row = row_of(vxlan, &ALL, NeighbourFlags::Own, NeighbourState::Permanent);
    row.attributes.push(to(vtep));
    Request::new(RouteNetlinkMessage::NewNeighbour(row), NLM_F_CREATE | NLM_F_APPEND)
}

/// One destination less; without one, none at all.
pub(crate) fn delete_flood(vxlan: u32, vtep: IpAddr) -> Request {
    let mut row = row_of(vxlan, &ALL, NeighbourFlags::Own, NeighbourState::Permanent);
    row.attributes.extend((!vtep.is_unspecified()).then(|| to(vtep)));
    delete(row)
}

/// `mac` is behind this container's port.
pub(crate) fn set_local(port: u32, mac: MacAddr) -> Request {
    upsert(row(port, mac, NeighbourFlags::Controller, NeighbourState::Noarp))
}

/// Takes a row off a port.
pub(crate) fn delete_local(port: u32, mac: MacAddr) -> Request {
    delete(row(port, mac, NeighbourFlags::Controller, NeighbourState::Noarp))
}

/// A row, or the device it was on, that is gone already is what a deletion wants.
pub(crate) fn gone_is_fine(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if matches!(failure.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO)) => {
            Ok(())
        }
        other => other,
    }
}
