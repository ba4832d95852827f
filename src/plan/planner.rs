//! Plans again only what has changed: the segments of all other networks are those of the last time.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Overlay, Segment, Situation, desired::plan_with};
use crate::model::{Death, Endpoints, Network, NetworkId, Node, NodeId, Shared, Snapshot};

/// Remembers the segment of each network, and what it was planned from.
#[derive(Debug, Default)]
pub struct Planner {
    planned: BTreeMap<NetworkId, (Ground, Segment)>,
}

/// All that the segment of a network follows from, but for this host's own containers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ground {
    network: Network,
    endpoints: Shared<Endpoints>,
    nodes: Shared<BTreeMap<NodeId, Node>>,
    dead: BTreeMap<NodeId, Death>,
    vtep: IpAddr,
    vxlan_port: u16,
    underlay_mtu: u32,
    fast_path: bool,
}

impl Planner {
    /// What [`desired`](super::desired()) says of the same.
    pub fn desired(&mut self, snapshot: &Snapshot, host: &Situation<'_>) -> Overlay {
        let mut used = BTreeMap::new();
        let wanted = plan_with(snapshot, host, |network, plan| {
            let ground = Ground {
                network: network.clone(),
                endpoints: snapshot.endpoints.get(&network.id).cloned().unwrap_or_default(),
                nodes: snapshot.nodes.clone(),
                dead: snapshot.dead.clone(),
                vtep: host.vtep,
                vxlan_port: host.vxlan_port,
                underlay_mtu: host.underlay_mtu,
                fast_path: host.fast_path,
            };
            let last = self.planned.remove(&network.id).filter(|(last, _)| *last == ground);
            let segment = last.map_or_else(plan, |(_, segment)| segment);
            used.insert(network.id.clone(), (ground, segment.clone()));
            segment
        });
        self.planned = used;
        wanted
    }
}
