//! All of a host's own state, and what readers ask of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Binding, Departure, KnownCluster, LocalEndpoint, Release, Told};
use crate::model::{EndpointId, NetworkId};

/// All of the host's own state, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct LocalData {
    /// Networks of the engine, by Docker's id.
    pub bindings: BTreeMap<NetworkId, Binding>,
    /// Endpoints of the engine.
    pub endpoints: BTreeMap<EndpointId, LocalEndpoint>,
    /// Claims to give back.
    pub releases: BTreeMap<String, Release>,
    /// Networks that the engine has removed, whose removal is not settled in the store.
    pub departures: BTreeMap<NetworkId, Departure>,
    /// The cluster that all this belongs to.
    pub cluster: Option<KnownCluster>,
    /// This host's mark in the store.
    pub told: Option<Told>,
}

impl LocalData {
    /// The binding of a network of the cluster.
    pub fn binding_of(&self, network: &NetworkId) -> Option<&Binding> {
        self.bindings.values().find(|binding| binding.network.id == *network)
    }

    /// Networks that have an endpoint here.
    pub fn networks_in_use(&self) -> BTreeSet<NetworkId> {
        self.endpoints.values().map(|endpoint| endpoint.network.clone()).collect()
    }

    /// The endpoint that uses an address of a network.
    pub fn user_of(&self, cidr: &IpNet, ip: IpAddr) -> Option<&LocalEndpoint> {
        self.endpoints.values().find(|e| e.addresses.contains(&ip) && cidr.contains(&ip))
    }
}
