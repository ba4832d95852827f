//! The cluster itself: which one it is, whether its store is still the one that was known, and which
//! networks must not come back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NetworkId, NodeId};

/// The cluster's own record. Another id means another cluster; another incarnation means that the store
/// was emptied or set back and is filled again by the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Drawn by the first host.
    pub cluster: String,
    /// Drawn whenever the store begins anew; empty in clusters of before there were incarnations.
    #[serde(default)]
    pub incarnation: String,
    /// How often that has happened, as far as whoever wrote this knows; 0 in a cluster's first store.
    #[serde(default)]
    pub turns: u64,
    /// Founded a moment ago by a host that knows of no other cluster: hosts that do may still say that this
    /// is the emptied store of theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Incarnations in which only hosts wrote that did not know of the cluster: what was created in them
    /// gives way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub void: Vec<String>,
    /// When the cluster was founded, in seconds since 1970.
    pub created_at: u64,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A host's word on what it has told the store. Only that host writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The last incarnation in which the host has told all that it has.
    pub incarnation: String,
    /// Counts the host's changes. A store in which it is lower than it was has gone back in time.
    pub tide: u64,
    /// When it was written, in seconds since 1970 by that host's clock; only for sweeping.
    pub at: u64,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A network that was removed: a tombstone. Ids of networks are never drawn twice, so it stays true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What people called the network.
    pub title: String,
    /// The host that removed it.
    pub by: NodeId,
    /// When, in seconds since 1970 by that host's clock; only for sweeping and for people.
    pub since: u64,
    /// The network that it had to give way to, and why; absent where a person removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_way: Option<GaveWay>,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Why a network was removed without anybody asking for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaveWay {
    /// The network that has stayed.
    pub to: NetworkId,
    /// What people call that one.
    pub title: String,
    /// What both have: `subnet 10.9.0.0/24`, `VNI 4096`, `name blue`.
    pub over: String,
}
