//! What one host knows of the cluster at one moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Endpoint, EndpointId, Mark, Meta, Network, NetworkId, Node, NodeId, Removed};

/// A mirror of the store, swapped whole. A host keeps the endpoints of those networks only that its own
/// containers are on, so that its cost grows with what it uses and not with the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster; absent before the first contact, and in a wiped store.
    pub meta: Option<Meta>,
    /// Hosts whose lease is alive.
    pub nodes: BTreeMap<NodeId, Node>,
    /// All networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Endpoints of all hosts, by network.
    pub endpoints: BTreeMap<NetworkId, BTreeMap<EndpointId, Endpoint>>,
    /// Networks that were removed, which nobody may bring back.
    #[serde(default)]
    pub removed: BTreeMap<NetworkId, Removed>,
    /// Networks that this host has removed while others used them.
    #[serde(default)]
    pub departed: BTreeSet<NetworkId>,
    /// How far each host has come in telling the store what it has.
    #[serde(default)]
    pub marks: BTreeMap<NodeId, Mark>,
}

impl Snapshot {
    /// The endpoints known of `network`.
    pub fn endpoints_of(&self, network: &NetworkId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.get(network).into_iter().flat_map(BTreeMap::values)
    }

    /// What people call `node`: its hostname, or its id while it is away.
    pub fn node_title<'a>(&'a self, node: &'a NodeId) -> &'a str {
        self.nodes.get(node).map_or(node.as_str(), |node| node.hostname.as_str())
    }

    /// Why `network` had to go, if it gave way to another: a part of a sentence that names it.
    pub fn gave_way_because(&self, network: &NetworkId) -> String {
        let gave_way = self.removed.get(network).and_then(|removed| removed.gave_way.as_ref());
        gave_way.map_or_else(String::new, |gave_way| {
            format!(
                ", since it has {} of network {}, which the cluster had before its store was lost",
                gave_way.over, gave_way.title
            )
        })
    }

    /// The network named `name`.
    pub fn network_named(&self, name: &str) -> Option<&Network> {
        self.networks.values().find(|network| network.name.as_deref() == Some(name))
    }
}
