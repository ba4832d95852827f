//! Networks of the cluster that the daemon is creating in its engine right now. No driver call says who has
//! begun it, so this is how `RequestPool` knows its own daemon's creation. In memory only.

use std::sync::{MutexGuard, PoisonError};

use ipnet::IpNet;

use super::Local;
use crate::model::{Network, NetworkId};

/// A creation under way.
#[derive(Debug)]
pub(super) struct Creation {
    number: u64,
    network: NetworkId,
    /// Those that the engine has not asked for yet.
    subnets: Vec<IpNet>,
}

/// While it lives, the first request for each subnet of that network is taken for the daemon's own.
#[derive(Debug)]
pub struct Announced<'a> {
    local: &'a Local,
    number: u64,
}

impl Local {
    /// Announces that the engine is about to be told to create a network of the cluster.
    pub fn announce(&self, network: &Network) -> Announced<'_> {
        let mut creations = self.creations();
        let number = creations.last().map_or(0, |last| last.number + 1);
        let subnets = network.subnets.iter().map(|subnet| subnet.cidr).collect();
        creations.push(Creation { number, network: network.id.clone(), subnets });
        Announced { local: self, number }
    }

    /// The announced network that has just this subnet, for the one request that the engine makes of it: what
    /// comes after that is somebody else's.
    pub fn take_announced(&self, cidr: &IpNet) -> Option<NetworkId> {
        self.creations().iter_mut().find_map(|creation| {
            let at = creation.subnets.iter().position(|subnet| subnet == cidr)?;
            creation.subnets.swap_remove(at);
            Some(creation.network.clone())
        })
    }

    /// Whether the daemon is creating this network of the cluster.
    pub fn is_announced(&self, network: &NetworkId) -> bool {
        self.creations().iter().any(|creation| creation.network == *network)
    }

    fn creations(&self) -> MutexGuard<'_, Vec<Creation>> {
        self.creations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also when the creation is broken off.
impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.local.creations().retain(|creation| creation.number != self.number);
    }
}
