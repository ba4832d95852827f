//! What the daemon tells about itself over its socket, as JSON. Shared by the daemon, which fills these
//! in, and the commands, which show them.
//!
//! Times are seconds since 1970. A newer daemon may send fields that are not listed here.

mod data_path;
mod node;
mod underlay;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use data_path::DataPathStatus;
pub use node::NodeRow;
pub use underlay::{UnderlayBefore, UnderlayStatus};

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

/// A network to be created, in the terms of `docker network create`.
#[expect(clippy::struct_excessive_bools, reason = "the flags of `docker network create`")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOrder {
    /// Its name.
    pub name: String,
    /// Its subnets; none: one that the daemon chooses.
    #[serde(default)]
    pub subnets: Vec<SubnetOrder>,
    /// `--internal`.
    #[serde(default)]
    pub internal: bool,
    /// `--attachable`.
    #[serde(default)]
    pub attachable: bool,
    /// `--ipv4=false`.
    #[serde(default)]
    pub without_ipv4: bool,
    /// `--ipv6`.
    #[serde(default)]
    pub ipv6: bool,
    /// `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Let the engine's own IPAM choose addresses on this host.
    #[serde(default)]
    pub default_ipam: bool,
}

/// One subnet of a network to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetOrder {
    /// `--subnet`.
    pub subnet: IpNet,
    /// `--gateway`.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// `--ip-range`.
    #[serde(default)]
    pub ip_range: Option<IpNet>,
    /// `--aux-address`: name to address.
    #[serde(default)]
    pub aux: BTreeMap<String, IpAddr>,
}

/// A network that the engine has created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMade {
    /// Docker's id on this host.
    pub docker_id: String,
    /// Identity in the cluster.
    pub id: String,
    /// The cluster had it already, and this host takes part again.
    pub joined: bool,
}

/// A network to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEnd {
    /// Name, id in the cluster, or Docker's id on this host.
    pub name: String,
}

/// What has become of a network that this host's engine has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEnded {
    /// Identity in the cluster.
    pub id: String,
    /// Names of the hosts on which it lives on; empty: it is gone from the cluster.
    pub lives_on: Vec<String>,
    /// Names of the hosts whose engine still has it although it is gone.
    pub still_on: Vec<String>,
}

/// How kernel, plan, store, engine and a host's own state differ from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// What differs, and still did a moment later.
    pub differences: Vec<DifferenceRow>,
    /// What could not be compared and why, a sentence each.
    pub unknown: Vec<String>,
    /// How much was compared: each thing with its number.
    pub compared: BTreeMap<String, u32>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// What it lies between: `kernel`, `container`, `store`, `copy` or `engine`.
    pub area: String,
    /// What it is about.
    pub object: String,
    /// How that should be.
    pub expected: String,
    /// How it is.
    pub found: String,
}

/// Has a host collect what was left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcOrder {
    /// Only say what would be collected.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Each thing.
    pub rows: Vec<GcRow>,
    /// What could not be looked at and why, a sentence each.
    pub unknown: Vec<String>,
}

/// One thing that was left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRow {
    /// What kind of thing it is.
    pub kind: String,
    /// Which one.
    pub object: String,
    /// Why nobody needs it.
    pub why: String,
    /// What has become of it: `collected`, `would be collected`, or why it stays.
    pub outcome: String,
    /// It should be gone and is not.
    #[serde(default)]
    pub failed: bool,
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

/// One network of the cluster.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that Docker has, too")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// Identity in the cluster.
    pub id: String,
    /// Name, once it is known.
    pub name: Option<String>,
    /// Subnets, IPv4 first.
    pub subnets: Vec<IpNet>,
    /// Gateways, in the order of their subnets; a subnet may have none.
    pub gateways: Vec<IpAddr>,
    /// VXLAN identifier.
    pub vni: u32,
    /// Largest inner IP packet, in bytes.
    pub mtu: u32,
    /// Why it is not what somebody may expect.
    #[serde(default)]
    pub mtu_because: Option<String>,
    /// Broadcast and multicast reach all hosts.
    #[serde(default)]
    pub flood: bool,
    /// Names of the hosts that have endpoints in it.
    pub hosts: Vec<String>,
    /// Names of the hosts whose engine has it.
    #[serde(default)]
    pub present: Vec<String>,
    /// Names of the hosts that have removed it while others went on.
    #[serde(default)]
    pub departed: Vec<String>,
    /// Names of the live hosts that have neither: it is still coming there, or cannot.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Names of the live hosts whose engine cannot have it, each with the reason.
    #[serde(default)]
    pub unable: Vec<String>,
    /// Endpoints on all hosts.
    pub endpoints: u32,
    /// No way out of the network.
    pub internal: bool,
    /// Has IPv6.
    pub ipv6: bool,
    /// Containers may be attached by hand in swarm mode.
    pub attachable: bool,
}
