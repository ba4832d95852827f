//! Neighbours on the bridges, from which ARP and neighbour discovery are answered on this host.

use std::{collections::BTreeMap, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::RouteProtocol,
};

use super::{
    error::Failure,
    fdb::{ip_of, mac_of},
    socket::{Channel, Request},
};
use crate::{dataplane::names::PROTOCOL, model::MacAddr};

/// A neighbour of ours: its MAC, or `None` where the row is not as we make it.
pub(crate) type Neighbours = BTreeMap<IpAddr, Option<MacAddr>>;

impl Channel {
    /// Our neighbours, by the index of the bridge.
    pub(crate) async fn neighbours(&self) -> Result<BTreeMap<u32, Neighbours>, Failure> {
        let mut found: BTreeMap<u32, Neighbours> = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let take = |found: &mut BTreeMap<u32, Neighbours>, row| {
                if let RouteNetlinkMessage::NewNeighbour(row) = row
                    && let Some((ip, mac)) = ours(&row)
                {
                    found.entry(row.header.ifindex).or_default().insert(ip, mac);
                }
            };
            let of_family: BTreeMap<u32, Neighbours> =
                self.dump_into(RouteNetlinkMessage::GetNeighbour(message), take).await?;
            for (bridge, mut rows) in of_family {
                found.entry(bridge).or_default().append(&mut rows);
            }
        }
        Ok(found)
    }
}

fn ours(row: &NeighbourMessage) -> Option<(IpAddr, Option<MacAddr>)> {
    let (mut ip, mut mac, mut tagged) = (None, None, false);
    for attribute in &row.attributes {
        match attribute {
            NeighbourAttribute::Destination(address) => ip = ip_of(address),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
            NeighbourAttribute::Protocol(protocol) => tagged = *protocol == RouteProtocol::from(PROTOCOL),
            _ => {}
        }
    }
    let permanent = row.header.state == NeighbourState::Permanent;
    ip.filter(|_| tagged).map(|ip| (ip, mac.filter(|_| permanent)))
}

fn row(bridge: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = bridge;
    let address = match ip {
        IpAddr::V4(ip) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(ip)
        }
        IpAddr::V6(ip) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(ip)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

/// `ip` is answered with `mac`, whatever was there.
pub(crate) fn set(bridge: u32, ip: IpAddr, mac: MacAddr) -> Request {
    let mut message = row(bridge, ip);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(PROTOCOL.into()));
    Request::new(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// `ip` is not answered any more.
pub(crate) fn delete(bridge: u32, ip: IpAddr) -> Request {
    Request::new(RouteNetlinkMessage::DelNeighbour(row(bridge, ip)), 0)
}
