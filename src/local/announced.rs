//! Networks of the cluster that the daemon is creating in its engine right now. No driver call says who has
//! begun it, so this is how `RequestPool` knows its own daemon's creation. In memory only.

use std::sync::{MutexGuard, PoisonError};

use ipnet::IpNet;

use super::Local;
use crate::model::{Network, NetworkId};

/// While it lives, a creation with a subnet of that network is taken for the daemon's own.
#[derive(Debug)]
pub struct Announced<'a> {
    local: &'a Local,
    network: NetworkId,
}

impl Local {
    /// Announces that the engine is about to be told to create a network of the cluster.
    pub fn announce(&self, network: &Network) -> Announced<'_> {
        let subnets = network.subnets.iter().map(|subnet| subnet.cidr).collect();
        self.announced().push((network.id.clone(), subnets));
        Announced { local: self, network: network.id.clone() }
    }

    /// The announced network that has just this subnet.
    pub fn announced_with(&self, cidr: &IpNet) -> Option<NetworkId> {
        self.announced().iter().find(|(_, subnets)| subnets.contains(cidr)).map(|(id, _)| id.clone())
    }

    /// Whether the daemon is creating this network of the cluster.
    pub fn is_announced(&self, network: &NetworkId) -> bool {
        self.announced().iter().any(|(id, _)| id == network)
    }

    fn announced(&self) -> MutexGuard<'_, Vec<(NetworkId, Vec<IpNet>)>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also when the creation is broken off. A person's order and the propagator may announce the same network.
impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let mut announced = self.local.announced();
        if let Some(one) = announced.iter().position(|(id, _)| *id == self.network) {
            announced.swap_remove(one);
        }
    }
}
