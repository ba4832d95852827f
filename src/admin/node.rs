//! One row of `node ls`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One host of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Identity.
    pub id: String,
    /// Name.
    pub hostname: String,
    /// Underlay address.
    pub vtep: IpAddr,
    /// Release of its engine, once that has answered.
    pub engine: Option<String>,
    /// Release of its daemon.
    pub daemon: String,
    /// Scope that its driver answers.
    pub scope: String,
    /// How its engine runs: `plain`, `classic` or `swarm`; absent: it has not answered.
    #[serde(default)]
    pub mode: Option<String>,
    /// Networks with an endpoint there.
    pub networks: u32,
    /// Endpoints there.
    pub endpoints: u32,
    /// Start of its daemon, the last one of a host that is gone; 0 where that is not known.
    pub since: u64,
    /// When it was there last: now, or when its lease was seen to end; 0 where nobody saw that.
    #[serde(default)]
    pub last_seen: u64,
    /// `alive`, `suspect` (its lease has ended, and everything that is known of it stays) or `dead`.
    #[serde(default = "alive")]
    pub state: String,
}

/// What a daemon that tells no state has: only hosts with a lease.
fn alive() -> String {
    "alive".to_owned()
}
