//! A host's own state, as far as others can be compared with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::model::{Endpoint, EndpointId, Network, NetworkId, NodeId};

/// What a host knows of itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// The host.
    pub node: NodeId,
    /// The cluster it belongs to, once it has met one.
    pub cluster: Option<String>,
    /// The incarnation of the store in which it has told all it has.
    pub incarnation: Option<String>,
    /// Networks of its engine, by Docker's id.
    pub networks: BTreeMap<NetworkId, OwnNetwork>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointId, OwnEndpoint>,
    /// Addresses that are queued to be given back.
    pub releases: BTreeSet<(IpNet, IpAddr)>,
    /// Networks whose removal here is not settled in the store.
    pub departures: BTreeSet<NetworkId>,
}

/// A network of the engine.
#[derive(Debug, Clone)]
pub struct OwnNetwork {
    /// The network of the cluster, as this host has it.
    pub network: Network,
    /// Since when the engine has it, in seconds since 1970.
    pub since: u64,
}

/// An endpoint of the engine.
#[derive(Debug, Clone)]
pub struct OwnEndpoint {
    /// What the other hosts must know of it.
    pub record: Endpoint,
    /// Docker's id of its network.
    pub docker_network: NetworkId,
    /// Its container's network namespace is there.
    pub alive: bool,
    /// Another host has its address now: the store knows nothing of it until its container ends.
    pub cut_off: bool,
}

impl Own {
    /// Whether the engine here has a network of the cluster.
    pub fn has(&self, network: &NetworkId) -> bool {
        self.networks.values().any(|own| own.network.id == *network)
    }

    /// Whether the store has to know an endpoint from this host.
    pub fn tells(&self, id: &EndpointId) -> bool {
        self.endpoints.get(id).is_some_and(|endpoint| !endpoint.cut_off)
    }

    /// Whether an endpoint here uses an address.
    pub fn uses(&self, cidr: &IpNet, ip: IpAddr) -> bool {
        cidr.contains(&ip) && self.endpoints.values().any(|e| e.record.addresses.contains(&ip))
    }
}
