//! What one host knows of the cluster at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Endpoint, EndpointId, Meta, Network, NetworkId, Node, NodeId};

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
    /// Subnets, or single addresses of them, that no host may hold in reserve now.
    #[serde(default)]
    pub wanted: BTreeSet<(IpNet, Option<IpAddr>)>,
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

    /// The network named `name`.
    pub fn network_named(&self, name: &str) -> Option<&Network> {
        self.networks.values().find(|network| network.name.as_deref() == Some(name))
    }
}
