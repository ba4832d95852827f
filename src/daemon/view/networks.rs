//! `network ls`: each network, and which hosts have it.

use std::collections::{BTreeMap, BTreeSet};

use super::{View, count};
use crate::{
    admin::NetworkRow,
    daemon::mtu,
    model::{Endpoint, Mode, Network, NetworkId, Node, NodeId, Snapshot},
    plan::effective_mtu,
    store::{Entry, keys},
    watched::Watched,
};

impl View {
    pub(super) fn network_row(
        &self,
        snapshot: &Snapshot,
        network: &Network,
        endpoints: &[Endpoint],
        marks: &Marks,
    ) -> NetworkRow {
        let titles = |nodes: &BTreeSet<NodeId>| -> Vec<String> {
            let names: BTreeSet<_> = nodes.iter().map(|node| title(snapshot, node)).collect();
            names.into_iter().collect()
        };
        let hosts = endpoints.iter().map(|e| e.node.clone()).collect();
        let none = BTreeSet::new();
        let present = marks.present.get(&network.id).unwrap_or(&none);
        let departed = marks.departed.get(&network.id).unwrap_or(&none);
        // Engines that share networks fetch one when they need it, and no sooner.
        let expected =
            |node: &&Node| node.scope == "local" && network.mode() == Mode::Plain && network.name.is_some();
        let missing = snapshot.nodes.values().filter(expected).map(|node| node.id.clone());
        let missing = missing.filter(|node| !present.contains(node) && !departed.contains(node));
        let why = |node: &NodeId| snapshot.nodes.get(node).and_then(|node| node.unable_to_have(network));
        let (unable, missing): (BTreeSet<_>, BTreeSet<_>) = missing.partition(|node| why(node).is_some());
        let unable: BTreeSet<_> = unable
            .iter()
            .filter_map(|node| Some(format!("{} ({})", title(snapshot, node), why(node)?)))
            .collect();
        let underlay = self.underlay.now();
        NetworkRow {
            id: network.id.to_string(),
            name: network.name.clone(),
            subnets: network.subnets.iter().map(|subnet| subnet.cidr).collect(),
            gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
            vni: network.vni.get(),
            mtu: effective_mtu(snapshot, network, underlay.vtep, underlay.mtu),
            mtu_because: mtu::explanation(snapshot, network, &underlay),
            flood: network.floods(),
            hosts: titles(&hosts),
            present: titles(present),
            departed: titles(departed),
            missing: titles(&missing),
            unable: unable.into_iter().collect(),
            endpoints: count(endpoints.len()),
            internal: network.internal,
            ipv6: network.ipv6,
            attachable: network.attachable,
        }
    }
}

/// What people call a host, and whether it is dead.
fn title(snapshot: &Snapshot, node: &NodeId) -> String {
    let title = snapshot.node_title(node);
    if snapshot.is_dead(node) { format!("{title} (dead)") } else { title.to_owned() }
}

/// Which hosts have, or have removed, which network.
pub(super) struct Marks {
    pub(super) present: BTreeMap<NetworkId, BTreeSet<NodeId>>,
    pub(super) departed: BTreeMap<NetworkId, BTreeSet<NodeId>>,
}

pub(super) fn marks(entries: &[Entry]) -> BTreeMap<NetworkId, BTreeSet<NodeId>> {
    let mut marks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (network, node) in entries.iter().filter_map(|entry| keys::network_and_node(&entry.key)) {
        marks.entry(network).or_default().insert(node);
    }
    marks
}
