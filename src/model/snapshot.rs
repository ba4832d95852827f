//! What one host knows of the cluster at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Death, Endpoint, EndpointId, KnownHost, Mark, Meta, Network, NetworkId, Node, NodeId, Removed, Shared,
};

/// The endpoints of a network. One that does not change is the same in all snapshots.
pub type Endpoints = BTreeMap<EndpointId, Arc<Endpoint>>;

/// A mirror of the store, swapped whole; what does not change is shared by the old one and the new one. A host keeps the endpoints of those networks only that its own
/// containers are on, so that its cost grows with what it uses and not with the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster; absent before the first contact, and in a wiped store.
    pub meta: Option<Meta>,
    /// Hosts whose lease is alive.
    pub nodes: Shared<BTreeMap<NodeId, Node>>,
    /// All hosts that have ever been here.
    #[serde(default)]
    pub hosts: Shared<BTreeMap<NodeId, KnownHost>>,
    /// Those of them that were declared dead and have not returned.
    #[serde(default)]
    pub dead: BTreeMap<NodeId, Death>,
    /// All networks.
    pub networks: Shared<BTreeMap<NetworkId, Network>>,
    /// Endpoints of all hosts, by network.
    pub endpoints: BTreeMap<NetworkId, Shared<Endpoints>>,
    /// Networks whose endpoints the store has told since this daemon started; all others are as an earlier
    /// one knew them.
    #[serde(skip)]
    pub listed: BTreeSet<NetworkId>,
    /// Subnets, or single addresses of them, that no host may hold in reserve now.
    #[serde(default)]
    pub wanted: BTreeSet<(IpNet, Option<IpAddr>)>,
    /// Networks that were removed, which nobody may bring back.
    #[serde(default)]
    pub removed: BTreeMap<NetworkId, Removed>,
    /// Networks that this host has removed while others used them.
    #[serde(default)]
    pub departed: BTreeSet<NetworkId>,
    /// How far each host has come in telling the store what it has.
    #[serde(default)]
    pub marks: Shared<BTreeMap<NodeId, Arc<Mark>>>,
}

impl Snapshot {
    /// The endpoints known of `network`.
    pub fn endpoints_of(&self, network: &NetworkId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.get(network).into_iter().flat_map(|endpoints| endpoints.values().map(Arc::as_ref))
    }

    /// What people call `node`: its hostname, or its id where it is not known.
    pub fn node_title<'a>(&'a self, node: &'a NodeId) -> &'a str {
        let live = self.nodes.get(node).map(|node| &node.hostname);
        let known = || self.hosts.get(node).map(|host| &host.hostname);
        let dead = || self.dead.get(node).map(|death| &death.hostname);
        live.or_else(known).or_else(dead).map_or(node.as_str(), String::as_str)
    }

    /// Whether `node` counts as dead. A lease is stronger than what was written down before.
    pub fn is_dead(&self, node: &NodeId) -> bool {
        self.dead.contains_key(node) && !self.nodes.contains_key(node)
    }

    /// Hosts whose lease has ended and that are not declared dead: perhaps only their daemon is gone, or
    /// their way to the store.
    pub fn suspects(&self) -> impl Iterator<Item = &KnownHost> {
        self.hosts
            .values()
            .filter(|host| !self.nodes.contains_key(&host.id) && !self.dead.contains_key(&host.id))
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
