//! The layout of the store. Every key has one owner who writes it.
//!
//! ```text
//! v1/meta                        the cluster
//! v1/meta/<incarnation>          there as long as the store has not been emptied or set back
//! v1/marks/<node>                how far a host has come in telling what it has
//! v1/nodes/<node>                a host, leased
//! v1/hosts/<node>                a host that has once been here
//! v1/dead/<node>                 a host that was declared dead and has not returned
//! v1/networks/<net>              a network
//! v1/names/<name>                which network has that name
//! v1/vnis/<vni>                  which network has that VNI
//! v1/pools/<address>_<length>    a subnet and what it belongs to
//! v1/addresses/<pool>/<ip>       who holds an address
//! v1/endpoints/<net>/<ep>        an endpoint and the host it is on
//! v1/departed/<net>/<node>       a host on which the network was removed while others still use it
//! v1/present/<net>/<node>        a host whose engine has the network
//! v1/wanted/<pool>[/<ip>]        a host needs an address that others hold in reserve
//! v1/removed/<net>               a network that was removed, which nobody may bring back
//! ```

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{EndpointId, NetworkId, NodeId, Vni};

/// The cluster's own record.
pub const META: &str = "v1/meta";
/// The cluster, its incarnation and all marks: what tells in one read whether the store is as it was.
pub const CLUSTER: &str = "v1/m";
/// All marks.
pub const MARKS: &str = "v1/marks/";
/// All names.
pub const NAMES: &str = "v1/names/";
/// All networks that were removed.
pub const REMOVED: &str = "v1/removed/";
/// All hosts.
pub const NODES: &str = "v1/nodes/";
/// All hosts that have ever been here.
pub const HOSTS: &str = "v1/hosts/";
/// All hosts that were declared dead.
pub const DEAD: &str = "v1/dead/";
/// All networks.
pub const NETWORKS: &str = "v1/networks/";
/// All VNIs.
pub const VNIS: &str = "v1/vnis/";
/// All pools.
pub const POOLS: &str = "v1/pools/";
/// All marks of hosts that a network has left.
pub const DEPARTED: &str = "v1/departed/";
/// All records of hosts that have a network.
pub const PRESENT: &str = "v1/present/";
/// All claims on addresses.
pub const ADDRESSES: &str = "v1/addresses/";
/// All calls for addresses that are held in reserve.
pub const WANTED: &str = "v1/wanted/";
/// All endpoints.
pub const ENDPOINTS: &str = "v1/endpoints/";

/// What goes with an incarnation of the store.
pub fn incarnation(id: &str) -> String {
    format!("{META}/{id}")
}

/// The incarnation in a key that [`incarnation`] made.
pub fn incarnated(key: &str) -> Option<&str> {
    key.strip_prefix(META)?.strip_prefix('/')
}

/// A host's mark.
pub fn mark(node: &NodeId) -> String {
    format!("{MARKS}{node}")
}

/// The host in a key that [`mark`] made.
pub fn marked(key: &str) -> Option<NodeId> {
    NodeId::new(key.strip_prefix(MARKS)?).ok()
}

/// The tombstone of a network.
pub fn removed(id: &NetworkId) -> String {
    format!("{REMOVED}{id}")
}

/// The network in a key that [`removed`] made.
pub fn buried(key: &str) -> Option<NetworkId> {
    NetworkId::new(key.strip_prefix(REMOVED)?).ok()
}

/// A host.
pub fn node(id: &NodeId) -> String {
    format!("{NODES}{id}")
}

/// A host that has once been here.
pub fn host(id: &NodeId) -> String {
    format!("{HOSTS}{id}")
}

/// The word that a host is dead.
pub fn dead(id: &NodeId) -> String {
    format!("{DEAD}{id}")
}

/// A network.
pub fn network(id: &NetworkId) -> String {
    format!("{NETWORKS}{id}")
}

/// The claim on a network name. Docker's names have no `/`, other bytes are written as `%XX`.
pub fn name(name: &str) -> String {
    let mut key = String::from(NAMES);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            key.push(char::from(byte));
        } else {
            let escaped = format!("%{byte:02X}");
            key.push_str(&escaped);
        }
    }
    key
}

/// The claim on a VNI.
pub fn vni(vni: Vni) -> String {
    format!("{VNIS}{vni}")
}

/// The claim on a subnet.
pub fn pool(cidr: &IpNet) -> String {
    format!("{POOLS}{}", pool_part(cidr))
}

/// All addresses of a subnet.
pub fn addresses(cidr: &IpNet) -> String {
    format!("{ADDRESSES}{}/", pool_part(cidr))
}

/// The claim on an address.
pub fn address(cidr: &IpNet, ip: IpAddr) -> String {
    format!("{}{ip}", addresses(cidr))
}

/// The address in a key that [`address`] made.
pub fn address_of(key: &str) -> Option<IpAddr> {
    key.rsplit('/').next()?.parse().ok()
}

/// The subnet in a key that [`pool`] or [`address`] made.
pub fn pool_of(key: &str) -> Option<IpNet> {
    let rest = key.strip_prefix(POOLS).or_else(|| key.strip_prefix(ADDRESSES))?;
    let (address, length) = rest.split('/').next()?.split_once('_')?;
    IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// The VNI in a key that [`vni`] made.
pub fn vni_of(key: &str) -> Option<Vni> {
    key.strip_prefix(VNIS)?.parse().ok()
}

/// Network and endpoint in a key that [`endpoint`] made.
pub fn endpoint_of(key: &str) -> Option<(NetworkId, EndpointId)> {
    let (network, endpoint) = key.strip_prefix(ENDPOINTS)?.split_once('/')?;
    Some((NetworkId::new(network).ok()?, EndpointId::new(endpoint).ok()?))
}

/// The call for an address of a subnet: for any, or for just that one.
pub fn wanted(cidr: &IpNet, ip: Option<IpAddr>) -> String {
    let pool = pool_part(cidr);
    ip.map_or_else(|| format!("{WANTED}{pool}"), |ip| format!("{WANTED}{pool}/{ip}"))
}

/// Subnet and address in a key that [`wanted`] made.
pub fn wanted_of(key: &str) -> Option<(IpNet, Option<IpAddr>)> {
    let rest = key.strip_prefix(WANTED)?;
    let (pool, ip) = rest.split_once('/').map_or((rest, None), |(pool, ip)| (pool, Some(ip)));
    let (address, length) = pool.rsplit_once('_')?;
    let cidr = IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()?;
    match ip {
        None => Some((cidr, None)),
        Some(ip) => Some((cidr, Some(ip.parse().ok()?))),
    }
}

/// All endpoints of a network.
pub fn endpoints(network: &NetworkId) -> String {
    format!("{ENDPOINTS}{network}/")
}

/// An endpoint.
pub fn endpoint(network: &NetworkId, endpoint: &EndpointId) -> String {
    format!("{}{endpoint}", endpoints(network))
}

/// All marks of hosts that one network has left.
pub fn departed_of(network: &NetworkId) -> String {
    format!("{DEPARTED}{network}/")
}

/// The mark that a network has left a host.
pub fn departed(network: &NetworkId, node: &NodeId) -> String {
    format!("{}{node}", departed_of(network))
}

/// All records of hosts that have one network.
pub fn present_of(network: &NetworkId) -> String {
    format!("{PRESENT}{network}/")
}

/// The record that a host's engine has a network.
pub fn present(network: &NetworkId, node: &NodeId) -> String {
    format!("{}{node}", present_of(network))
}

/// Network and host in a key that [`present`] or [`departed`] made.
pub fn network_and_node(key: &str) -> Option<(NetworkId, NodeId)> {
    let rest = key.strip_prefix(PRESENT).or_else(|| key.strip_prefix(DEPARTED))?;
    let (network, node) = rest.split_once('/')?;
    Some((NetworkId::new(network).ok()?, NodeId::new(node).ok()?))
}

fn pool_part(cidr: &IpNet) -> String {
    format!("{}_{}", cidr.network(), cidr.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_no_surprises() {
        let cidr: IpNet = "10.9.0.0/24".parse().unwrap();
        let ip = "10.9.0.2".parse().unwrap();
        assert_eq!(pool(&cidr), "v1/pools/10.9.0.0_24");
        assert_eq!(address(&cidr, ip), "v1/addresses/10.9.0.0_24/10.9.0.2");
        assert_eq!(address_of(&address(&cidr, ip)), Some(ip));
        assert_eq!((pool_of(&pool(&cidr)), pool_of(&address(&cidr, ip))), (Some(cidr), Some(cidr)));
        let six: IpNet = "2001:db8::/64".parse().unwrap();
        assert_eq!(pool_of(&pool(&six)), Some(six));
        assert_eq!(vni_of(&vni(Vni::new(7).unwrap())), Vni::new(7).ok());
        let (net, end) = (NetworkId::new("n").unwrap(), EndpointId::new("e").unwrap());
        assert_eq!(endpoint_of(&endpoint(&net, &end)), Some((net, end)));
        let (network, node) = (NetworkId::new("n").unwrap(), NodeId::new("h").unwrap());
        let both = Some((network.clone(), node.clone()));
        assert_eq!(network_and_node(&present(&network, &node)), both);
        assert_eq!(network_and_node(&departed(&network, &node)), both);
        assert_eq!(network_and_node("v1/networks/n/h"), None);
        for ip in [None, Some(ip)] {
            assert_eq!(wanted_of(&wanted(&cidr, ip)), Some((cidr, ip)));
        }
        for odd in ["v1/wanted/", "v1/wanted/10.9.0.0", "v1/wanted/10.9.0.0_99", "v1/wanted/10.9.0.0_24/x"] {
            assert_eq!(wanted_of(odd), None, "{odd}");
        }
        let node = NodeId::new("h").unwrap();
        assert_eq!(marked(&mark(&node)), Some(node.clone()));
        for key in [META.to_owned(), incarnation("i"), mark(&node)] {
            assert!(key.starts_with(CLUSTER), "{key}");
        }
        assert_eq!(name("my net/ä"), "v1/names/my%20net%2F%C3%A4");
    }
}
