//! The background tasks that make one thing equal to another: the snapshot to the store, the kernel to
//! the plan, the store to this host's endpoints, the engine's networks to the cluster's.
//!
//! All of them are level-triggered: an event says "look again" and nothing more, a failure is tried
//! again with growing pauses, and none of them ever undoes something because the store is away.

pub mod collect;
pub mod housekeeping;
mod loose;
pub mod mirror;
pub mod naming;
pub mod propagate;
pub mod publisher;
mod removal;
pub mod worker;

use std::collections::BTreeMap;

use crate::{
    model::{EndpointId, NetworkId},
    plan::Overlay,
};

/// What the worker has made of the kernel.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The kernel as it was found or made last.
    pub overlay: Overlay,
    /// The last complaint about each network that is not as it should be.
    pub complaints: BTreeMap<NetworkId, String>,
    /// A complaint that concerns no single network.
    pub trouble: Option<String>,
    /// When the kernel was last compared with the plan, in seconds since 1970; 0 before the first time.
    pub compared_at: u64,
    /// Steps taken since the start.
    pub steps: u64,
    /// What somebody else had changed and was repaired since the start, by kind of thing.
    pub repairs: BTreeMap<&'static str, Repaired>,
    /// Endpoints whose containers have lost their link: their end waits in the host's namespace.
    pub loose: BTreeMap<EndpointId, String>,
}

/// Repairs of one kind of thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// How many.
    pub count: u64,
    /// When the last one was, in seconds since 1970.
    pub last_at: u64,
    /// What the last one was.
    pub last: String,
}

impl Applied {
    /// Whether the endpoint's link is there, in a network that has its tunnel: the data plane shows one
    /// without as a VXLAN device on port 0.
    pub fn has_port(&self, endpoint: &EndpointId) -> bool {
        let whole = self.overlay.segments.values().filter(|segment| segment.vxlan.port != 0);
        whole.map(|segment| &segment.ports).any(|ports| ports.contains_key(endpoint))
    }

    /// Counts one repair.
    pub fn count_repair(&mut self, thing: &'static str, step: String, now: u64) {
        let repaired = self.repairs.entry(thing).or_default();
        *repaired = Repaired { count: repaired.count.saturating_add(1), last_at: now, last: step };
    }

    /// Why a network is not as it should be.
    pub fn complaint_of(&self, network: &NetworkId) -> Option<String> {
        self.complaints.get(network).or(self.trouble.as_ref()).cloned()
    }
}
