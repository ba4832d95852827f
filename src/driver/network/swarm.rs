//! Networks of a swarm. Its manager allocates them and their addresses, for all hosts; each host then asks for
//! the same again in its own address space.
//!
//! A manager keeps what it has allocated in its own store, and in memory what it has asked us for. One that
//! begins, after the restart of its engine or when another one has ended, asks for all of it again: subnet,
//! gateway, network, and the address of each task that lives, by name. That is no second claim. What it does not
//! ask for any more was given back while nobody managed, and is swept up.

use ipnet::IpNet;
use tracing::info;

use super::NewNetwork;
use crate::{
    driver::{Driver, DriverError, pool::PoolRequest},
    ipam::{Hold, PoolId},
    model::{Network, NetworkId, Pool, Space},
    store::{Outcome, Txn, keys, record},
};

/// How often to look again when addresses are claimed while a manager begins.
const TRIES: u32 = 16;

impl Driver {
    /// The subnet of a network that this or an earlier manager has allocated, if a manager asks for it again.
    pub(in crate::driver) async fn allocated_pool(
        &self,
        cidr: &IpNet,
        request: &PoolRequest,
    ) -> Result<Option<PoolId>, DriverError> {
        let Some(pool) = self.ledger.get::<Pool>(&keys::pool(cidr)).await? else { return Ok(None) };
        let pool = pool.record;
        let Some(id) = pool.network.filter(|_| pool.space == Space::Global && pool.ip_range == request.range)
        else {
            return Ok(None);
        };
        // In a network of a cluster store it is somebody else's claim.
        let network = self.ledger.get::<Network>(&keys::network(&id)).await?;
        let allocated = network.is_some_and(|network| network.record.allocated);
        // If it is for another network after all, its allocation is refused.
        Ok(allocated.then_some(PoolId { cidr: *cidr, hold: Hold::Global }))
    }

    /// Whether our IPAM has chosen the subnets that a manager allocates: it does not say whose they are.
    pub(super) async fn has_our_pools(&self, new: &NewNetwork) -> Result<bool, DriverError> {
        for subnet in &new.subnets {
            let pool = self.ledger.get::<Pool>(&keys::pool(&subnet.cidr)).await?;
            if pool.is_none_or(|pool| pool.record.space != Space::Global) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A manager begins, and hands out the addresses of `network` from now on.
    pub(super) async fn begin_term(&self, network: &Network) -> Result<(), DriverError> {
        for subnet in &network.subnets {
            let key = keys::pool(&subnet.cidr);
            for _ in 0..TRIES {
                let Some(pool) = self.ledger.get::<Pool>(&key).await? else { break };
                if pool.record.network.as_ref() != Some(&network.id) || pool.record.space != Space::Global {
                    break;
                }
                let term_ms = Some(self.local.moment());
                let begun = Pool { node: self.node().clone(), term_ms, ..pool.record.clone() };
                let txn = Txn::new().unchanged(&pool.entry).put(key.as_str(), record::encode(&begun));
                if self.ledger.commit(txn).await? == Outcome::Committed {
                    info!(network = network.title(), pool = %subnet.cidr, "this host's engine manages the swarm from now on");
                    break;
                }
            }
        }
        Ok(())
    }

    /// A manager ended after it had allocated `network` and before its swarm knew: the next one chooses anew. What
    /// was allocated goes, unless containers use it.
    pub(super) async fn forget_allocation(&self, network: &Network) -> Result<(), DriverError> {
        self.free_network(&network.id).await?;
        self.settle_departures().await;
        if self.ledger.get::<Network>(&keys::network(&network.id)).await?.is_none() {
            return Ok(());
        }
        Err(DriverError::Conflict {
            network: network.title().to_owned(),
            conflict: "was allocated with other subnets, and is still in use".to_owned(),
        })
    }

    pub(super) fn taken_in_swarm(&self, new: &NewNetwork, owner: &NetworkId) -> DriverError {
        let snapshot = self.snapshot();
        let title = snapshot.networks.get(owner).map_or(owner.short(), |network| network.title());
        DriverError::Conflict {
            network: new.docker_id.short().to_owned(),
            conflict: format!("has the subnet of network {title}; choose another --subnet"),
        }
    }
}
