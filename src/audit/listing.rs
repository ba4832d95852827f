//! All records of a cluster, as they are at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use serde::de::DeserializeOwned;

use crate::{
    model::{
        AddressClaim, Death, Endpoint, EndpointId, KnownHost, Mark, Meta, Network, NetworkClaim, NetworkId,
        Node, NodeId, Pool, Removed, Vni,
    },
    store::{keys, record},
};

/// The store's records, each in its place.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The cluster.
    pub meta: Option<Meta>,
    /// Incarnations of the store that have a key.
    pub incarnations: BTreeSet<String>,
    /// How far each host has come in telling what it has.
    pub marks: BTreeMap<NodeId, Mark>,
    /// Hosts whose lease is alive.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Hosts that have ever been here.
    pub hosts: BTreeMap<NodeId, KnownHost>,
    /// Those that were declared dead.
    pub dead: BTreeMap<NodeId, Death>,
    /// Networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Networks by their name's key.
    pub names: BTreeMap<String, NetworkId>,
    /// Networks by VNI.
    pub vnis: BTreeMap<Vni, NetworkId>,
    /// Subnets.
    pub pools: BTreeMap<IpNet, Pool>,
    /// Claims on addresses.
    pub addresses: BTreeMap<(IpNet, IpAddr), AddressClaim>,
    /// Endpoints of all hosts, by network.
    pub endpoints: BTreeMap<(NetworkId, EndpointId), Endpoint>,
    /// Which host's engine has which network.
    pub present: BTreeSet<(NetworkId, NodeId)>,
    /// Which host has removed which network.
    pub departed: BTreeSet<(NetworkId, NodeId)>,
    /// Networks that were removed.
    pub removed: BTreeMap<NetworkId, Removed>,
    /// Calls for addresses that are held in reserve.
    pub wanted: BTreeSet<(IpNet, Option<IpAddr>)>,
    /// Keys under which something unreadable stands.
    pub unreadable: Vec<String>,
}

impl Listing {
    /// Sorts the values of all keys. Keys of a newer release are passed over.
    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut listing = Self::default();
        for (key, value) in entries {
            if listing.take(key, value).is_none() {
                listing.unreadable.push(key.to_owned());
            }
        }
        listing
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        if key == keys::META {
            self.meta = Some(read(key, value)?);
        } else if let Some(incarnation) = keys::incarnated(key) {
            self.incarnations.insert(incarnation.to_owned());
        } else if key.starts_with(keys::MARKS) {
            self.marks.insert(keys::marked(key)?, read(key, value)?);
        } else if key.starts_with(keys::HOSTS) {
            let host: KnownHost = read(key, value)?;
            self.hosts.insert(host.id.clone(), host);
        } else if key.starts_with(keys::DEAD) {
            let death: Death = read(key, value)?;
            self.dead.insert(death.id.clone(), death);
        } else if key.starts_with(keys::REMOVED) {
            self.removed.insert(keys::buried(key)?, read(key, value)?);
        } else if key.starts_with(keys::WANTED) {
            self.wanted.insert(keys::wanted_of(key)?);
        } else if key.starts_with(keys::NODES) {
            let node: Node = read(key, value)?;
            self.nodes.insert(node.id.clone(), node);
        } else if key.starts_with(keys::NETWORKS) {
            let network: Network = read(key, value)?;
            self.networks.insert(network.id.clone(), network);
        } else if key.starts_with(keys::NAMES) {
            self.names.insert(key.to_owned(), read::<NetworkClaim>(key, value)?.network);
        } else if key.starts_with(keys::VNIS) {
            self.vnis.insert(keys::vni_of(key)?, read::<NetworkClaim>(key, value)?.network);
        } else if key.starts_with(keys::POOLS) {
            let pool: Pool = read(key, value)?;
            self.pools.insert(pool.cidr, pool);
        } else if key.starts_with(keys::ADDRESSES) {
            self.addresses.insert((keys::pool_of(key)?, keys::address_of(key)?), read(key, value)?);
        } else if key.starts_with(keys::ENDPOINTS) {
            self.endpoints.insert(keys::endpoint_of(key)?, read(key, value)?);
        } else if key.starts_with(keys::PRESENT) {
            self.present.insert(keys::network_and_node(key)?);
        } else if key.starts_with(keys::DEPARTED) {
            self.departed.insert(keys::network_and_node(key)?);
        }
        Some(())
    }

    /// What people call a network: its name, or the beginning of its id.
    pub fn title<'a>(&'a self, network: &'a NetworkId) -> &'a str {
        self.networks.get(network).map_or(network.short(), Network::title)
    }

    /// What people call a host: its hostname, or its id where nothing is known of it.
    pub fn host<'a>(&'a self, node: &'a NodeId) -> &'a str {
        let live = self.nodes.get(node).map(|node| &node.hostname);
        let known = || self.hosts.get(node).map(|host| &host.hostname);
        live.or_else(known).map_or(node.as_str(), String::as_str)
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &str) -> Option<T> {
    record::decode(key, value).ok()
}
