//! Plans again only what has changed, and a network's table by the endpoints that have: a host that follows networks of
//! thousands is told of one container at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::Ipv4Net;

use super::{
    Overlay, Port, Segment, Situation, Sources,
    desired::{guards, is_elsewhere, is_reachable, probe, segment},
};
use crate::model::{
    Death, Endpoint, Endpoints, KnownHost, Network, NetworkId, Node, NodeId, Shared, Snapshot, Vni,
    changes::{changed, gone},
};

/// Changed endpoints, as a part of all, from which on the whole is planned anew: one of so many.
const MANY: usize = 8;

/// Remembers what it planned, and from what.
#[derive(Debug, Default)]
pub struct Planner {
    segments: BTreeMap<NetworkId, Planned>,
    probe: Option<(Peers, Segment)>,
    guards: Option<(Taken, Shared<BTreeSet<Ipv4Net>>)>,
}

/// The segment of a network, as it is without this host's own containers.
#[derive(Debug)]
struct Planned {
    ground: Ground,
    segment: Segment,
    /// Whether no two endpoints elsewhere share an address or a MAC, and all can be reached; absent: not looked yet.
    simple: Option<bool>,
}

/// All that the segment of a network follows from, but for this host's own containers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ground {
    network: Network,
    endpoints: Shared<Endpoints>,
    peers: Peers,
    underlay_mtu: u32,
    fast_path: bool,
}

/// The hosts, and how this one is reached by them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peers {
    nodes: Shared<BTreeMap<NodeId, Node>>,
    hosts: Shared<BTreeMap<NodeId, KnownHost>>,
    dead: BTreeMap<NodeId, Death>,
    vtep: IpAddr,
    vxlan_port: u16,
}

/// Subnets that the cluster has, and those that the engine must not choose again.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    networks: Shared<BTreeMap<NetworkId, Network>>,
    refused: BTreeSet<Ipv4Net>,
}

impl Planner {
    /// What [`desired`](super::desired()) says of the same.
    pub fn desired(&mut self, snapshot: &Snapshot, host: &Situation<'_>) -> Overlay {
        let mut overlay = Overlay { segments: BTreeMap::new(), guards: self.guards(snapshot, host) };
        let peers = Peers {
            nodes: snapshot.nodes.clone(),
            hosts: snapshot.hosts.clone(),
            dead: snapshot.dead.clone(),
            vtep: host.vtep,
            vxlan_port: host.vxlan_port,
        };
        let mut used = BTreeMap::new();
        for (endpoint, port) in host.ports {
            let known = snapshot.networks.get(&port.network).or_else(|| host.networks.get(&port.network));
            let Some(network) = known else { continue };
            let segment = overlay.segments.entry(network.vni).or_insert_with(|| {
                let planned = self.segment(snapshot, host, network, &peers);
                used.entry(network.id.clone()).or_insert(planned).segment.clone()
            });
            // Two networks never share a VNI in the store; a leftover of a removed one yields.
            if segment.network == network.id {
                let sources =
                    if network.checks_sources() { Sources::of(&port.addresses) } else { Sources::Any };
                let port = Port { mac: port.mac, mtu: segment.vxlan.mtu, sources, fast: segment.fast };
                if segment.fdb.contains_key(&port.mac) {
                    segment.fdb.remove(&port.mac);
                }
                segment.ports.insert(endpoint.clone(), port);
            }
        }
        self.segments = used;
        // A network that got this VNI from a release that did not reserve it keeps it.
        overlay.segments.entry(Vni::PROBE).or_insert_with(|| self.probe(snapshot, host, peers));
        overlay
    }

    fn guards(&mut self, snapshot: &Snapshot, host: &Situation<'_>) -> Shared<BTreeSet<Ipv4Net>> {
        let taken = Taken { networks: snapshot.networks.clone(), refused: host.refused.clone() };
        let last = self.guards.take().filter(|(last, _)| *last == taken);
        self.guards.insert(last.unwrap_or_else(|| (taken, guards(snapshot, host).into()))).1.clone()
    }

    fn probe(&mut self, snapshot: &Snapshot, host: &Situation<'_>, peers: Peers) -> Segment {
        let last = self.probe.take().filter(|(last, _)| *last == peers);
        self.probe.insert(last.unwrap_or_else(|| (peers, probe(snapshot, host)))).1.clone()
    }

    fn segment(
        &mut self,
        snapshot: &Snapshot,
        host: &Situation<'_>,
        network: &Network,
        peers: &Peers,
    ) -> Planned {
        let ground = Ground {
            network: network.clone(),
            endpoints: snapshot.endpoints.get(&network.id).cloned().unwrap_or_default(),
            peers: peers.clone(),
            underlay_mtu: host.underlay_mtu,
            fast_path: host.fast_path,
        };
        let anew = |ground| Planned { ground, segment: segment(snapshot, host, network), simple: None };
        match self.segments.remove(&network.id) {
            Some(last) if last.ground == ground => last,
            Some(mut last) => match last.follow(&ground, snapshot, host) {
                Some(segment) => Planned { ground, segment, simple: Some(true) },
                None => anew(ground),
            },
            None => anew(ground),
        }
    }
}

impl Planned {
    /// The segment as it becomes when only some endpoints differ; `None` if that cannot be said from them alone.
    fn follow(&mut self, now: &Ground, snapshot: &Snapshot, host: &Situation<'_>) -> Option<Segment> {
        let last = &self.ground;
        let others_are_same = Ground { endpoints: last.endpoints.clone(), ..now.clone() } == *last;
        // A VTEP that is flooded may be there for several endpoints.
        if !others_are_same || now.network.floods() {
            return None;
        }
        let (before, after) = (&*last.endpoints, &*now.endpoints);
        let come: Vec<_> = changed(before, after).collect();
        let changed = come.iter().filter_map(|(id, _)| before.get(*id));
        let left: Vec<_> = gone(before, after).map(|(_, endpoint)| endpoint).chain(changed).collect();
        if (come.len() + left.len()) * MANY > after.len() {
            return None;
        }
        let elsewhere = |endpoint: &&Arc<Endpoint>| is_elsewhere(snapshot, host, endpoint);
        let simple = *self.simple.get_or_insert_with(|| {
            // Who shares an address or a MAC hides the other: where each has its own, there are as many as rows.
            let mut rows = (0, 0);
            for endpoint in before.values().filter(elsewhere) {
                rows.0 += usize::from(!endpoint.addresses.is_empty());
                rows.1 += endpoint.addresses.len();
            }
            rows == (self.segment.fdb.len(), self.segment.neighbours.len())
        });
        if !simple {
            return None;
        }
        let mut segment = self.segment.clone();
        for endpoint in left.into_iter().filter(elsewhere) {
            take_away(&mut segment, endpoint)?;
        }
        for endpoint in come.into_iter().map(|(_, endpoint)| endpoint).filter(elsewhere) {
            is_reachable(host, endpoint).then_some(())?;
            add(&mut segment, endpoint)?;
        }
        Some(segment)
    }
}

/// `None` if it was not there as it should have been.
fn take_away(segment: &mut Segment, endpoint: &Endpoint) -> Option<()> {
    if endpoint.addresses.is_empty() {
        return Some(());
    }
    (segment.fdb.remove(&endpoint.mac)? == endpoint.vtep).then_some(())?;
    for ip in &endpoint.addresses {
        (segment.neighbours.remove(ip)? == endpoint.mac).then_some(())?;
    }
    Some(())
}

/// `None` if something of it belongs to another one.
fn add(segment: &mut Segment, endpoint: &Endpoint) -> Option<()> {
    if endpoint.addresses.is_empty() {
        return Some(());
    }
    segment.fdb.insert(endpoint.mac, endpoint.vtep).is_none().then_some(())?;
    for ip in &endpoint.addresses {
        segment.neighbours.insert(*ip, endpoint.mac).is_none().then_some(())?;
    }
    Some(())
}
