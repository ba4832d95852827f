//! The background tasks that make one thing equal to another: the snapshot to the store, the kernel to
//! the plan, the store to this host's endpoints, the engine's networks to the cluster's.
//!
//! All of them are level-triggered: an event says "look again" and nothing more, a failure is tried
//! again with growing pauses, and none of them ever undoes something because the store is away.

pub(crate) mod cluster;
pub mod collect;
mod fit;
pub mod housekeeping;
pub mod keeper;
pub mod liveness;
mod loose;
pub mod mirror;
pub mod mode;
pub mod mtu;
pub mod naming;
pub mod propagate;
pub mod publisher;
pub mod refill;
pub(crate) mod removal;
mod terms;
pub mod worker;

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    model::{EndpointId, NetworkId, Shared, Vni, probe_address, probe_mac},
    plan::{Overlay, Segment},
};

/// What the worker has made of the kernel.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The kernel as it was found or made last.
    pub overlay: Shared<Overlay>,
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
    /// Endpoints whose containers keep another MTU than their network has, and why.
    pub unfit: BTreeMap<EndpointId, String>,
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

    /// Whether this host can be asked for, and can ask, on the probe network.
    pub fn has_probe(&self) -> bool {
        self.probe().is_some()
    }

    /// Whether the way to another host's probe device is there: a question without it would tell nothing.
    pub fn can_ask(&self, vtep: IpAddr) -> bool {
        let mac = probe_mac(vtep);
        self.probe().is_some_and(|probe| {
            probe.fdb.get(&mac) == Some(&vtep)
                && probe.neighbours.get(&IpAddr::V6(probe_address(vtep))) == Some(&mac)
        })
    }

    /// Why it cannot, if it has been tried.
    pub fn probe_trouble(&self) -> Option<&str> {
        self.complaints.get(&NetworkId::of_probes()).filter(|_| !self.has_probe()).map(String::as_str)
    }

    fn probe(&self) -> Option<&Segment> {
        let found = self.overlay.segments.get(&Vni::PROBE);
        found.filter(|segment| segment.network == NetworkId::of_probes() && segment.vxlan.port != 0)
    }

    /// Why a network is not as it should be.
    pub fn complaint_of(&self, network: &NetworkId) -> Option<String> {
        self.complaints.get(network).or(self.trouble.as_ref()).cloned()
    }
}
