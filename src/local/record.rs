//! The records of a host's own state.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Endpoint, EndpointId, IpamMode, MacAddr, Network, NetworkId, NodeId};

/// A network of the engine, and the network of the cluster that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Docker's id here.
    pub docker_id: NetworkId,
    /// The network as the store had it last.
    pub network: Network,
    /// Who hands out addresses on this host.
    pub ipam: IpamMode,
    /// When, in seconds since 1970.
    pub created_at: u64,
}

/// An endpoint of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEndpoint {
    /// The engine's id.
    pub id: EndpointId,
    /// The network of the cluster.
    pub network: NetworkId,
    /// Docker's id of that network here.
    pub docker_network: NetworkId,
    /// Ethernet address.
    pub mac: MacAddr,
    /// Addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Those of them that were claimed with the endpoint and go with it (the engine's IPAM chose them).
    #[serde(default)]
    pub claimed: Vec<(IpNet, IpAddr)>,
    /// MTU of its link.
    pub mtu: u32,
    /// Path of the container's network namespace, once joined.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Name of the container, once the engine has told it.
    #[serde(default)]
    pub container: Option<String>,
    /// Full id of the container, once the engine has told it.
    #[serde(default)]
    pub container_id: Option<String>,
    /// Further names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Names that it did not have from the beginning, in lower case, and when the engine told each, in
    /// seconds since 1970.
    #[serde(default)]
    pub named_at: BTreeMap<String, u64>,
    /// When, in seconds since 1970.
    pub created_at: u64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// The highest generation of the claims on its addresses.
    #[serde(default)]
    pub generation: u64,
    /// Set once an address of it is another container's: it is off the network for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<CutOff>,
}

/// Why an endpoint is off its network: an address of it was taken over while this host was away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    /// The address.
    pub ip: IpAddr,
    /// The host that holds it now.
    pub node: NodeId,
    /// Name of that host at the time.
    pub host: String,
    /// Name of the container that has it now, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When this was found, in seconds since 1970.
    pub since: u64,
}

/// A claim that is to be given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The pool.
    pub cidr: IpNet,
    /// The address.
    pub ip: IpAddr,
    /// Only a claim made before this moment, in milliseconds since 1970, is meant.
    pub until_ms: u64,
}

/// A network that the engine has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The network.
    pub network: NetworkId,
    /// What people called it.
    pub title: String,
    /// When, in seconds since 1970.
    pub since: u64,
}

impl LocalEndpoint {
    /// What the other hosts must know of it.
    pub fn publish(&self, node: &NodeId, vtep: IpAddr) -> Endpoint {
        Endpoint {
            id: self.id.clone(),
            network: self.network.clone(),
            node: node.clone(),
            vtep,
            mac: self.mac,
            addresses: self.addresses.clone(),
            container: self.container.clone(),
            container_id: self.container_id.clone(),
            aliases: self.aliases.clone(),
            named_at: self.named_at.clone(),
            generation: self.generation,
            created_at: self.created_at,
            extra: BTreeMap::new(),
        }
    }
}

impl Release {
    /// Identity within the queue.
    pub fn key(&self) -> String {
        Self::key_of(&self.cidr, self.ip)
    }

    /// The same, of an address.
    pub fn key_of(cidr: &IpNet, ip: IpAddr) -> String {
        format!("{cidr}={ip}")
    }

    /// Name of its file, without the ending.
    pub(super) fn file_name(&self) -> String {
        file_of(&self.key())
    }
}

/// Name of the file of an address, without the ending.
pub(super) fn file_of(key: &str) -> String {
    key.replace('/', "_")
}
