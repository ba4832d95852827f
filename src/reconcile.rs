//! The background tasks that make one thing equal to another: the snapshot to the store, the kernel to
//! the plan, the store to this host's endpoints, the engine's networks to the cluster's.
//!
//! All of them are level-triggered: an event says "look again" and nothing more, a failure is tried
//! again with growing pauses, and none of them ever undoes something because the store is away.

mod cluster;
pub mod collect;
pub mod housekeeping;
pub mod mirror;
pub mod naming;
pub mod propagate;
pub mod publisher;
pub mod refill;
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
}

impl Applied {
    /// Whether the endpoint's link is there, in a network that has its tunnel: the data plane shows one
    /// without as a VXLAN device on port 0.
    pub fn has_port(&self, endpoint: &EndpointId) -> bool {
        let whole = self.overlay.segments.values().filter(|segment| segment.vxlan.port != 0);
        whole.map(|segment| &segment.ports).any(|ports| ports.contains_key(endpoint))
    }

    /// Why a network is not as it should be.
    pub fn complaint_of(&self, network: &NetworkId) -> Option<String> {
        self.complaints.get(network).or(self.trouble.as_ref()).cloned()
    }
}
