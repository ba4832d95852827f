//! What the daemon tells about itself over its socket, as JSON. Shared by the daemon, which fills these
//! in, and the commands, which show them.
//!
//! Times are seconds since 1970. A newer daemon may send fields that are not listed here.

mod data_path;
mod network;
mod node;
mod underlay;
mod verify;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use data_path::DataPathStatus;
pub use network::{NetworkEnd, NetworkEnded, NetworkMade, NetworkOrder, NetworkRow, SubnetOrder};
pub use node::NodeRow;
pub use underlay::{UnderlayBefore, UnderlayStatus};
pub use verify::{DifferenceRow, GcOrder, GcReport, GcRow, VerifyReport};

/// Path of `StatusReport`.
pub const STATUS_PATH: &str = "/rs-overlay/v1/status";
/// Path of a list of `NetworkRow`.
pub const NETWORKS_PATH: &str = "/rs-overlay/v1/networks";
/// Path of a list of `NodeRow`.
pub const NODES_PATH: &str = "/rs-overlay/v1/nodes";

/// Path to which a `NetworkOrder` is posted; the answer is a `NetworkMade`.
pub const CREATE_PATH: &str = "/rs-overlay/v1/networks/create";
/// Path to which a `NetworkEnd` is posted; the answer is a `NetworkEnded`.
pub const REMOVE_PATH: &str = "/rs-overlay/v1/networks/remove";

/// Path to which a `NameQuestion` is sent as a query; the answer is a `NameReport`.
pub const NAMES_PATH: &str = "/rs-overlay/v1/names";

/// Path of a `VerifyReport`.
pub const VERIFY_PATH: &str = "/rs-overlay/v1/verify";
/// Path to which a `GcOrder` is posted; the answer is a `GcReport`.
pub const GC_PATH: &str = "/rs-overlay/v1/gc";

/// A name to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameQuestion {
    /// A name as a container would ask for it, or an address.
    pub name: String,
    /// Name or id of the container that would ask; absent: each network is searched for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Say as well where each answer is recorded in the store, which is asked for that.
    #[serde(default)]
    pub explain: bool,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameReport {
    /// Names of the networks that were searched, in that order.
    pub searched: Vec<String>,
    /// Who answers to it; empty: nobody.
    pub holders: Vec<NameRow>,
    /// Why revisions are not known, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// An endpoint that answers to a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its container, once that is known.
    pub container: Option<String>,
    /// Name of its host.
    pub host: String,
    /// Name of its network.
    pub network: String,
    /// Since when it holds the name: its creation, or when its host learnt of the name.
    pub since: u64,
    /// Key of its record in the store, below the prefix.
    pub record: String,
    /// Revision of that record, where it was asked for and is there.
    #[serde(default)]
    pub revision: Option<u64>,
}

/// How one daemon is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Release of the daemon.
    pub version: String,
    /// Identity of this host.
    pub node: String,
    /// Name of this host.
    pub hostname: String,
    /// Underlay address, once it is known.
    pub vtep: Option<IpAddr>,
    /// What its underlay carries; absent: the daemon is of an earlier release.
    #[serde(default)]
    pub underlay: Option<UnderlayStatus>,
    /// Which way packets take past the bridges; absent: the daemon is of an earlier release.
    #[serde(default)]
    pub data_path: Option<DataPathStatus>,
    /// Scope under which the engine has, or would have, registered the driver.
    pub scope: String,
    /// How the engine runs: `plain`, `classic` or `swarm`; absent: it has not answered yet.
    #[serde(default)]
    pub mode: Option<String>,
    /// The same in a sentence, with where it is known from.
    #[serde(default)]
    pub mode_because: String,
    /// The cluster store.
    pub store: StoreStatus,
    /// The engine.
    pub engine: EngineStatus,
    /// Networks with an endpoint on this host.
    pub networks: u32,
    /// Endpoints on this host.
    pub endpoints: u32,
    /// The last time that the kernel was compared with what should be there.
    pub reconcile: Option<ReconcileStatus>,
    /// What somebody else had changed and was repaired since the daemon's start, by kind of thing.
    #[serde(default)]
    pub repairs: Vec<RepairRow>,
    /// Networks that were removed here and live on other hosts, a sentence each.
    #[serde(default)]
    pub elsewhere: Vec<String>,
    /// What needs attention, a sentence each.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The cluster store, seen from one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `etcd`, `consul` or `embedded`.
    pub kind: String,
    /// URL as the user gave it, without credentials.
    pub url: String,
    /// Whether it answers.
    pub connected: bool,
    /// Since when that is so.
    pub since: u64,
}

/// The engine, seen from its own host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Whether its API answers.
    pub reachable: bool,
    /// Its release, once it has answered.
    pub version: Option<String>,
    /// What it calls our driver.
    #[serde(default)]
    pub driver: String,
    /// Id of the managed plugin that the daemon is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// One comparison of the kernel with what should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileStatus {
    /// When it ended.
    pub at: u64,
    /// Steps that it carried out.
    pub steps: u32,
    /// Steps of these that failed and will be tried again.
    #[serde(default)]
    pub failed: u32,
}

/// Repairs of one kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRow {
    /// What was repaired: `bridge`, `VXLAN device`, `MTU`, `port`, `forwarding entry`, `neighbour`,
    /// `guard route`, `container's link`, `DNS sockets` or `namespace's pin`.
    pub thing: String,
    /// How often.
    pub count: u64,
    /// When last; 0 where that is not known.
    pub last_at: u64,
    /// What the last one was.
    pub last: String,
}
