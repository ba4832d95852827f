//! A host's underlay, as `status` tells it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A host's underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderlayStatus {
    /// Largest packet that it carries, in bytes.
    pub mtu: u32,
    /// How it was before its last change since the daemon's start.
    pub before: Option<UnderlayBefore>,
}

/// An underlay that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderlayBefore {
    /// The host's address then.
    pub vtep: IpAddr,
    /// What it carried then.
    pub mtu: u32,
    /// Until when, in seconds since 1970.
    pub until: u64,
}
