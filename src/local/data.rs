//! All of a host's own state, and what readers ask of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Binding, Departure, KnownCluster, LocalEndpoint, OwnClaim, Release, Told, Trace};
use crate::model::{EndpointId, NetworkId};

/// All of the host's own state, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct LocalData {
    /// Networks of the engine, by Docker's id.
    pub bindings: BTreeMap<NetworkId, Binding>,
    /// Endpoints of the engine.
    pub endpoints: BTreeMap<EndpointId, LocalEndpoint>,
    /// Addresses that this host holds, by subnet and address.
    pub claims: BTreeMap<(IpNet, IpAddr), OwnClaim>,
    /// Claims to give back that are in no book.
    pub releases: BTreeMap<String, Release>,
    /// Networks that the engine has removed, whose removal is not settled in the store.
    pub departures: BTreeMap<NetworkId, Departure>,
    /// Counts this host's registrations.
    pub incarnation: u64,
    /// The cluster that all this belongs to.
    pub cluster: Option<KnownCluster>,
    /// This host's mark in the store.
    pub told: Option<Told>,
    /// Where the store may have records of this host; absent: anywhere.
    pub trace: Option<Trace>,
}

impl LocalData {
    /// Whether this host has no network, no endpoint and no address, and owes nothing to the store.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
            && self.endpoints.is_empty()
            && self.claims.is_empty()
            && self.releases.is_empty()
            && self.departures.is_empty()
    }

    /// The binding of a network of the cluster.
    pub fn binding_of(&self, network: &NetworkId) -> Option<&Binding> {
        self.bindings.values().find(|binding| binding.network.id == *network)
    }

    /// Endpoints that are on their networks: all but those that were cut off.
    pub fn connected(&self) -> impl Iterator<Item = &LocalEndpoint> {
        self.endpoints.values().filter(|endpoint| endpoint.cut_off.is_none())
    }

    /// The generation of an address that this host holds: 0 unless it was taken over.
    pub fn generation_of(&self, cidr: &IpNet, ip: IpAddr) -> u64 {
        self.claims.get(&(*cidr, ip)).map_or(0, |claim| claim.generation)
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
