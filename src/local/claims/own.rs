//! One address of the book, and what the book says of many.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    local::LocalData,
    model::{AddressClaim, ClaimKind, NetworkId, NodeId},
};

/// Within this time, in milliseconds, whoever asks is the container that has just left: a restart.
pub(super) const RESTART_MS: u64 = 3_000;
/// Within this time, in milliseconds, containers that were stopped are started again, in the order in which
/// they were stopped. What has been out of use for longer has rested.
const STOPPED_MS: u64 = 60_000;

/// An address that this host holds: in reserve, or for a container.
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own, and all may be together")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnClaim {
    /// The subnet.
    pub cidr: IpNet,
    /// The address.
    pub ip: IpAddr,
    /// The network of the cluster that has the subnet.
    pub network: NetworkId,
    /// What the address is for at the moment; never the gateway or an auxiliary address.
    #[serde(flatten)]
    pub kind: ClaimKind,
    /// The container that has it, or had it last, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Counts takeovers.
    #[serde(default)]
    pub generation: u64,
    /// Since when it is what it is, as [`moment`](super::Local::moment) tells: how long a reserve has rested.
    pub since_ms: u64,
    /// A person has named it (`--ip`): the container will want just this one again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// A container of this host has had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used: bool,
    /// A container had it when this host went down without a word: the next to ask will be that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub former: bool,
    /// The engine has given it back while an endpoint had it: it rests when that one goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_back: bool,
    /// The host that holds it by now, by the store's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_to: Option<NodeId>,
}

/// What became of a wish for one particular address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is handed out now.
    Yes,
    /// This host holds it for somebody else, whose name may be known.
    InUse(Option<String>),
    /// This host does not hold it.
    NotHeld,
}

impl OwnClaim {
    /// What the store is to hold of it.
    pub fn record(&self, node: &NodeId) -> AddressClaim {
        AddressClaim {
            node: node.clone(),
            kind: self.kind.clone(),
            container: self.container.clone().filter(|_| self.kind.is_use()),
            generation: self.generation,
            since_ms: self.since_ms,
        }
    }

    /// Whether it is held in reserve and still ours.
    pub fn is_reserve(&self) -> bool {
        self.kind == ClaimKind::Reserve && self.lost_to.is_none()
    }
}

impl LocalData {
    /// What this host holds in a subnet.
    pub fn claims_in(&self, cidr: &IpNet) -> impl Iterator<Item = &OwnClaim> {
        let cidr = *cidr;
        self.claims.values().filter(move |claim| claim.cidr == cidr)
    }

    /// The addresses of a subnet that are in reserve and that no endpoint has, the ones longest out of use
    /// first.
    pub fn reserve_of(&self, cidr: &IpNet) -> Vec<OwnClaim> {
        let used: BTreeSet<IpAddr> =
            self.endpoints.values().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
        let free = self.claims_in(cidr).filter(|claim| claim.is_reserve() && !used.contains(&claim.ip));
        let mut free: Vec<_> = free.cloned().collect();
        free.sort_by_key(|claim| (claim.since_ms, claim.ip));
        free
    }

    /// The address to spend next. A container that comes back should have its own again: while the store is
    /// away that is where all other hosts look for it. Only new engines tell who asks; with others it is a
    /// guess, and a wrong one does no harm.
    pub(super) fn next_of(&self, cidr: &IpNet, container: Option<&str>, now_ms: u64) -> Option<OwnClaim> {
        let own = |claim: &OwnClaim| container.is_some() && claim.container.as_deref() == container;
        let rank = |claim: &OwnClaim| {
            let age = now_ms.saturating_sub(claim.since_ms);
            match (claim.former, claim.used) {
                _ if own(claim) => (0, 0),
                _ if claim.named => (5, claim.since_ms),
                (true, _) => (1, claim.since_ms),
                // The one that left last. Moments may run ahead of the clock, so ages would not tell.
                (_, true) if age < RESTART_MS => (2, u64::MAX - claim.since_ms),
                (_, true) if age < STOPPED_MS => (3, claim.since_ms),
                _ => (4, claim.since_ms),
            }
        };
        self.reserve_of(cidr).into_iter().min_by_key(|claim| (rank(claim), claim.ip))
    }

    /// Claims of containers of this host that another host holds by now.
    pub fn lost_claims(&self) -> impl Iterator<Item = &OwnClaim> {
        self.claims.values().filter(|claim| claim.lost_to.is_some())
    }

    /// Whether a container here has, or is about to have, an address of the network.
    pub fn uses(&self, network: &NetworkId) -> bool {
        self.endpoints.values().any(|endpoint| endpoint.network == *network)
            || self.claims.values().any(|claim| claim.network == *network && claim.kind.is_use())
    }
}

impl OwnClaim {
    /// Identity within the book.
    pub fn key(&self) -> (IpNet, IpAddr) {
        (self.cidr, self.ip)
    }
}
