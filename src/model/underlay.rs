//! What carries the overlay on one host, at this moment.

use std::net::IpAddr;

/// A host's way to its peers. All of it may change while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Address at which this host takes VXLAN packets, and from which it sends them.
    pub vtep: IpAddr,
    /// Largest packet, in bytes, that its routes carry to all peers.
    pub mtu: u32,
    /// The interfaces of this host have that address.
    pub present: bool,
    /// What is wrong with it, sentences for people.
    pub troubles: Vec<String>,
    /// How it was before its last change since the daemon's start.
    pub before: Option<Before>,
}

/// An underlay that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Its address then.
    pub vtep: IpAddr,
    /// What it carried then.
    pub mtu: u32,
    /// When it changed, in seconds since 1970.
    pub until: u64,
}

impl Underlay {
    /// An underlay of which nothing is wrong.
    pub fn new(vtep: IpAddr, mtu: u32) -> Self {
        Self { vtep, mtu, present: true, troubles: Vec::new(), before: None }
    }
}
