//! What the kernel's address and route messages say. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressScope},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop},
};
use nix::errno::Errno;

use crate::dataplane::netlink::Failure;

const FLEETING: AddressHeaderFlags = AddressHeaderFlags::Secondary
    .union(AddressHeaderFlags::Deprecated)
    .union(AddressHeaderFlags::Tentative)
    .union(AddressHeaderFlags::Dadfailed);

/// An address of an interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    /// Of global scope and there to stay.
    pub(super) global: bool,
}
/// A kernel without one of the families answers with the rows of all others.
pub(super) fn address(row: RouteNetlinkMessage, family: AddressFamily) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(row) = row else { return None };
    if row.header.family != family {
        return None;
    }
    let mut ip = None;
    for attribute in &row.attributes {
        match attribute {
            // On a point-to-point link the other attribute is the peer's address.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            _ => {}
        }
    }
    Some(Address {
        link: row.header.index,
        ip: ip?,
        prefix: row.header.prefix_len,
        // An IPv6 address may be temporary, going or not yet checked; of IPv4 that flag means something else.
        global: row.header.scope == AddressScope::Universe
            && (family == AddressFamily::Inet || !row.header.flags.intersects(FLEETING)),
    })
}

pub(super) fn destination(route: &RouteMessage) -> Option<IpNet> {
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip_of(address),
        _ => None,
    })?;
    IpNet::new(ip, route.header.destination_prefix_length).ok()
}

pub(super) fn preferred_source(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip_of(address),
        _ => None,
    })
}

pub(super) fn metric(route: &RouteMessage) -> u32 {
    let priority = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Priority(priority) => Some(*priority),
        _ => None,
    };
    route.attributes.iter().find_map(priority).unwrap_or(0)
}

pub(super) fn route_mtu(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
            _ => None,
        }),
        _ => None,
    })
}

/// Outgoing interfaces, several for a route with several next hops.
pub(super) fn interfaces(route: &RouteMessage) -> Vec<u32> {
    let mut found = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(*index),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|hop: &RouteNextHop| hop.interface_index));
            }
            _ => {}
        }
    }
    found
}

pub(super) fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

pub(super) fn family_and_length(ip: IpAddr) -> (AddressFamily, u8) {
    match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

pub(super) fn is_no_route(failure: &Failure) -> bool {
    matches!(failure.errno(), Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL))
}

pub(super) fn is_worth_knowing(cidr: &IpNet) -> bool {
    if cidr.prefix_len() == 0 {
        return false;
    }
    match cidr.network() {
        IpAddr::V4(ip) => {
            !ip.is_loopback() && !ip.is_multicast() && !ip.is_link_local() && ip != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(ip) => ip != Ipv6Addr::LOCALHOST && !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_that_could_overlap_are_worth_knowing() {
        for yes in ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/64", "fd00::1/128", "128.0.0.0/1"] {
            assert!(is_worth_knowing(&yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "0.0.0.0/0",
            "::/0",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "fe80::/64",
            "ff00::/8",
            "::1/128",
        ] {
            assert!(!is_worth_knowing(&no.parse().unwrap()), "{no}");
        }
    }
}
