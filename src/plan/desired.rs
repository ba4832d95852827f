//! What a host's kernel should hold, given what the host knows of the cluster and of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net};

use super::{Overlay, Planner, Segment, Vxlan};
use crate::model::{
    Endpoint, EndpointId, MacAddr, Network, NetworkId, NodeId, PROBE_MTU, Shared, Snapshot, probe_address,
    probe_mac,
};

/// Smallest MTU that IPv4 allows on a link (RFC 791).
const SMALLEST_MTU: u32 = 68;

/// What a host knows of itself.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// This host.
    pub node: &'a NodeId,
    /// Its underlay address.
    pub vtep: IpAddr,
    /// Its UDP port.
    pub vxlan_port: u16,
    /// Largest packet its underlay carries to its peers, in bytes.
    pub underlay_mtu: u32,
    /// Its own endpoints.
    pub ports: &'a BTreeMap<EndpointId, LocalPort>,
    /// Its own copies of the networks that these are on, for the time when the store has not told yet.
    pub networks: &'a BTreeMap<NetworkId, Network>,
    /// Subnets that the engine chose and that had to be refused: it should choose another next time.
    pub refused: &'a BTreeSet<Ipv4Net>,
    /// Whether its kernel takes our programs.
    pub fast_path: bool,
}

/// An endpoint of this host, as far as the kernel is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPort {
    /// Its network.
    pub network: NetworkId,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its addresses, one of a family at most.
    pub addresses: Vec<IpAddr>,
}

/// The overlay that should be there. A network without an endpoint on this host needs no kernel state; the
/// probe network is always there.
pub fn desired(snapshot: &Snapshot, host: &Situation<'_>) -> Overlay {
    Planner::default().desired(snapshot, host)
}

/// The segment on which hosts ask for each other. Those that are suspected have to be asked still.
pub(super) fn probe(snapshot: &Snapshot, host: &Situation<'_>) -> Segment {
    let live = snapshot.nodes.values().map(|node| node.vtep);
    let vteps = live.chain(snapshot.suspects().map(|host| host.vtep));
    let peers = vteps.filter(|vtep| *vtep != host.vtep && vtep.is_ipv4() == host.vtep.is_ipv4());
    let peers: BTreeSet<_> = peers.collect();
    Segment {
        network: NetworkId::of_probes(),
        vxlan: Vxlan { local: host.vtep, port: host.vxlan_port, mtu: PROBE_MTU, flood: false },
        fast: false,
        ports: BTreeMap::new(),
        fdb: peers.iter().map(|vtep| (probe_mac(*vtep), *vtep)).collect(),
        neighbours: peers.iter().map(|vtep| (probe_address(*vtep).into(), probe_mac(*vtep))).collect(),
        flood: BTreeSet::new(),
    }
}

/// A network's segment without the containers of this host.
pub(super) fn segment(snapshot: &Snapshot, host: &Situation<'_>, network: &Network) -> Segment {
    let mtu = effective_mtu(snapshot, network, host.vtep, host.underlay_mtu);
    let mut segment = Segment {
        network: network.id.clone(),
        vxlan: Vxlan { local: host.vtep, port: host.vxlan_port, mtu, flood: network.floods() },
        // A copy for every host is the bridge's to make, and such a network is not one for speed.
        fast: host.fast_path && !network.floods(),
        ports: BTreeMap::new(),
        fdb: Shared::default(),
        neighbours: Shared::default(),
        flood: BTreeSet::new(),
    };
    let mut remote: Vec<_> =
        snapshot.endpoints_of(&network.id).filter(|e| is_elsewhere(snapshot, host, e)).collect();
    // The highest generation of an address is written last and so wins.
    remote.sort_by(|a, b| (a.generation, &a.id).cmp(&(b.generation, &b.id)));
    let mut owners: BTreeMap<IpAddr, &EndpointId> = BTreeMap::new();
    for endpoint in &remote {
        owners.extend(endpoint.addresses.iter().map(|ip| (*ip, &endpoint.id)));
    }
    for endpoint in remote {
        if !is_reachable(host, endpoint) {
            continue;
        }
        let held = |ip: &&IpAddr| owners.get(*ip) == Some(&&endpoint.id);
        let held: Vec<_> = endpoint.addresses.iter().filter(held).collect();
        // Whose addresses have all been taken over is no longer anywhere.
        if !held.is_empty() {
            segment.fdb.insert(endpoint.mac, endpoint.vtep);
            segment.flood.extend(network.floods().then_some(endpoint.vtep));
            segment.neighbours.extend(held.into_iter().map(|ip| (*ip, endpoint.mac)));
        }
    }
    segment
}

/// Whether an endpoint is on another host, and that host is not dead.
pub(super) fn is_elsewhere(snapshot: &Snapshot, host: &Situation<'_>, endpoint: &Endpoint) -> bool {
    endpoint.node != *host.node && !snapshot.is_dead(&endpoint.node)
}

/// Whether frames for an endpoint can be sent by this host's tunnels.
pub(super) fn is_reachable(host: &Situation<'_>, endpoint: &Endpoint) -> bool {
    endpoint.vtep != host.vtep && endpoint.vtep.is_ipv4() == host.vtep.is_ipv4()
}

/// Routes that show the cluster's subnets to the engine.
pub(super) fn guards(snapshot: &Snapshot, host: &Situation<'_>) -> BTreeSet<Ipv4Net> {
    let subnets = snapshot.networks.values().flat_map(|network| &network.subnets);
    let taken = subnets.filter_map(|subnet| match subnet.cidr {
        IpNet::V4(cidr) => Some(cidr.trunc()),
        IpNet::V6(_) => None,
    });
    let mut guards: BTreeSet<Ipv4Net> = taken.collect();
    // The engine passes over whatever overlaps a guard: a second one would only clutter the host's table.
    let shown = |cidr: &Ipv4Net| guards.iter().any(|guard| guard.contains(cidr) || cidr.contains(guard));
    let hidden: Vec<_> = host.refused.iter().copied().filter(|cidr| !shown(cidr)).collect();
    guards.extend(hidden);
    guards
}

/// Bytes that VXLAN puts in front of an inner IP packet: outer IP, UDP, VXLAN and inner Ethernet headers
/// (RFC 7348, section 5).
pub fn vxlan_overhead(vtep: IpAddr) -> u32 {
    if vtep.is_ipv4() { 50 } else { 70 }
}

/// Largest inner packet, in bytes, that an underlay carries.
pub fn inner_mtu(vtep: IpAddr, underlay_mtu: u32) -> u32 {
    underlay_mtu.saturating_sub(vxlan_overhead(vtep)).max(SMALLEST_MTU)
}

/// What all live hosts and this one carry: any of them may hold the other end.
pub fn carried_by_all(snapshot: &Snapshot, vtep: IpAddr, underlay_mtu: u32) -> u32 {
    let others = snapshot.nodes.values().map(|node| inner_mtu(node.vtep, node.underlay_mtu));
    let own = inner_mtu(vtep, underlay_mtu);
    others.chain([own]).min().unwrap_or(own)
}

/// The MTU of a network: the least of what the user asked for, what its record says that all underlays carry,
/// and what this host's does.
pub fn effective_mtu(snapshot: &Snapshot, network: &Network, vtep: IpAddr, underlay_mtu: u32) -> u32 {
    let carried = network.carried.unwrap_or_else(|| carried_by_all(snapshot, vtep, underlay_mtu));
    let own = inner_mtu(vtep, underlay_mtu);
    network.mtu.into_iter().chain([carried, own]).min().unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Vni,
        plan::{Port, Sources},
    };

    fn network() -> Network {
        Network::plain("n1", "10.9.0.0/24")
    }

    fn endpoint(id: &str, node: &str, vtep: [u8; 4], last: u8, generation: u64) -> Endpoint {
        let ip = IpAddr::from([10, 9, 0, last]);
        Endpoint {
            id: EndpointId::new(id).unwrap(),
            network: network().id,
            node: NodeId::new(node).unwrap(),
            vtep: vtep.into(),
            mac: MacAddr::from_ip(ip),
            addresses: vec![ip],
            container: None,
            container_id: None,
            aliases: vec![],
            named_at: std::collections::BTreeMap::new(),
            generation,
            created_at: 0,
            extra: BTreeMap::new(),
        }
    }

    fn plan(endpoints: Vec<Endpoint>, ports: &BTreeMap<EndpointId, LocalPort>) -> Overlay {
        let mut snapshot = Snapshot::default();
        snapshot.networks.insert(network().id, network());
        for endpoint in endpoints {
            snapshot.endpoints.entry(network().id).or_default().insert(endpoint.id.clone(), endpoint.into());
        }
        let node = NodeId::new("a").unwrap();
        let host = Situation {
            node: &node,
            vtep: [192, 0, 2, 1].into(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            ports,
            networks: &BTreeMap::new(),
            refused: &BTreeSet::new(),
            fast_path: true,
        };
        desired(&snapshot, &host)
    }

    fn one_port() -> BTreeMap<EndpointId, LocalPort> {
        let ip = IpAddr::from([10, 9, 0, 2]);
        let port = LocalPort { network: network().id, mac: MacAddr::from_ip(ip), addresses: vec![ip] };
        BTreeMap::from([(EndpointId::new("e1").unwrap(), port)])
    }

    #[test]
    fn no_local_endpoint_no_segment_but_the_subnet_is_guarded() {
        let overlay = plan(vec![endpoint("e2", "b", [192, 0, 2, 2], 3, 0)], &BTreeMap::new());
        assert!(overlay.networks().next().is_none());
        assert_eq!(*overlay.guards, BTreeSet::from(["10.9.0.0/24".parse().unwrap()]));
    }

    #[test]
    fn a_refused_subnet_is_guarded_unless_it_shows_already() {
        let refused = ["10.9.0.128/25", "10.7.0.0/16"].map(|cidr| cidr.parse().unwrap());
        let mut snapshot = Snapshot::default();
        snapshot.networks.insert(network().id, network());
        let host = Situation {
            node: &NodeId::new("a").unwrap(),
            vtep: [192, 0, 2, 1].into(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            ports: &BTreeMap::new(),
            networks: &BTreeMap::new(),
            refused: &BTreeSet::from(refused),
            fast_path: true,
        };
        let wanted = ["10.9.0.0/24", "10.7.0.0/16"].map(|cidr| cidr.parse().unwrap());
        assert_eq!(*desired(&snapshot, &host).guards, BTreeSet::from(wanted));
    }

    #[test]
    fn remote_endpoints_become_entries_and_own_records_do_not() {
        let own = endpoint("e1", "a", [192, 0, 2, 1], 2, 0);
        let overlay = plan(vec![own, endpoint("e2", "b", [192, 0, 2, 2], 3, 0)], &one_port());
        let segment = &overlay.segments[&Vni::new(4096).unwrap()];
        let sources = Sources::Only { v4: Some([10, 9, 0, 2].into()), v6: None };
        let port = Port { mac: MacAddr::from_ip([10, 9, 0, 2].into()), mtu: 1450, sources, fast: true };
        assert_eq!(segment.ports.values().copied().collect::<Vec<_>>(), [port]);
        assert!(segment.fast);
        assert_eq!(segment.vxlan.mtu, 1450);
        let mac = MacAddr::from_ip([10, 9, 0, 3].into());
        assert_eq!(*segment.fdb, BTreeMap::from([(mac, [192, 0, 2, 2].into())]));
        assert_eq!(*segment.neighbours, BTreeMap::from([([10, 9, 0, 3].into(), mac)]));
    }

    #[test]
    fn the_higher_generation_of_an_address_wins() {
        let old = endpoint("zz", "b", [192, 0, 2, 2], 3, 0);
        let new = endpoint("aa", "c", [192, 0, 2, 3], 3, 1);
        let overlay = plan(vec![old, new], &one_port());
        let segment = &overlay.segments[&Vni::new(4096).unwrap()];
        assert_eq!(segment.fdb.values().next(), Some(&IpAddr::from([192, 0, 2, 3])));
    }

    #[test]
    fn an_endpoint_whose_addresses_are_all_taken_over_is_nowhere() {
        let old = Endpoint {
            mac: MacAddr::from_ip([10, 9, 9, 9].into()),
            ..endpoint("zz", "b", [192, 0, 2, 2], 3, 0)
        };
        let new = endpoint("aa", "c", [192, 0, 2, 3], 3, 1);
        let overlay = plan(vec![old, new.clone()], &one_port());
        let segment = &overlay.segments[&Vni::new(4096).unwrap()];
        assert_eq!(*segment.fdb, BTreeMap::from([(new.mac, new.vtep)]));
        assert_eq!(*segment.neighbours, BTreeMap::from([(new.addresses[0], new.mac)]));
    }

    /// Hosts b, c and d: alive, suspected, dead.
    fn three_hosts() -> Snapshot {
        let known = |id: &str, last: u8| {
            serde_json::json!({"id": id, "hostname": id, "vtep": IpAddr::from([192, 0, 2, last]), "incarnation": 1,
                "vxlan_port": 4789, "underlay_mtu": 1500, "daemon_version": "", "scope": "local", "boot_id": "", "since": 0})
        };
        serde_json::from_value(serde_json::json!({
            "meta": null, "networks": {"n1": network()}, "endpoints": {"n1": {
                "e2": endpoint("e2", "b", [192, 0, 2, 2], 3, 0), "e3": endpoint("e3", "c", [192, 0, 2, 3], 4, 0),
                "e4": endpoint("e4", "d", [192, 0, 2, 4], 5, 0)}},
            "nodes": {"b": known("b", 2)},
            "hosts": {"b": known("b", 2), "c": known("c", 3), "d": known("d", 4)},
            "dead": {"d": {"id": "d", "hostname": "d", "incarnation": 1, "by": "b", "since": 0}},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_on_a_suspect_stays_and_what_is_on_a_dead_host_goes() {
        let host = Situation {
            node: &NodeId::new("a").unwrap(),
            vtep: [192, 0, 2, 1].into(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            ports: &one_port(),
            networks: &BTreeMap::new(),
            refused: &BTreeSet::new(),
            fast_path: true,
        };
        let overlay = desired(&three_hosts(), &host);
        let vteps: Vec<_> = overlay.segments[&Vni::new(4096).unwrap()].fdb.values().copied().collect();
        assert_eq!(vteps, [IpAddr::from([192, 0, 2, 2]), IpAddr::from([192, 0, 2, 3])]);
        let probe = &overlay.segments[&Vni::PROBE];
        assert_eq!(probe.fdb.values().copied().collect::<Vec<_>>(), vteps, "who has to be asked for");
        assert_eq!((probe.vxlan.local, probe.neighbours.len(), probe.ports.len()), (host.vtep, 2, 0));
        // A network of before that has this VNI keeps it.
        let mut snapshot = three_hosts();
        snapshot.networks.values_mut().for_each(|network| network.vni = Vni::PROBE);
        assert_eq!(desired(&snapshot, &host).segments[&Vni::PROBE].network, network().id);
    }
}
