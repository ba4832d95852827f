//! An endpoint: one container's place in one network.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EndpointId, MacAddr, NetworkId, NodeId};

/// What every host must know of an endpoint in order to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The engine's id.
    pub id: EndpointId,
    /// The network it is part of.
    pub network: NetworkId,
    /// The host it lives on, which alone writes this record.
    pub node: NodeId,
    /// Underlay address of that host.
    pub vtep: IpAddr,
    /// Ethernet address inside the network.
    pub mac: MacAddr,
    /// Addresses inside the network, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Name of the container, once the engine has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Full id of the container, once the engine has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Further names: aliases, hostname.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Names that it did not have from the beginning, in lower case, and when its host learnt of each, in
    /// seconds since 1970.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_at: BTreeMap<String, u64>,
    /// Counts takeovers of the address; a lower one is ignored.
    #[serde(default)]
    pub generation: u64,
    /// When it was created, in seconds since 1970.
    pub created_at: u64,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Endpoint {
    /// What people call it: its container's name, or the beginning of its id.
    pub fn title(&self) -> &str {
        self.container.as_deref().unwrap_or(self.id.short())
    }
}
