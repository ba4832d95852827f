//! Claims on subnets. Each is one create-if-absent of one key; that no two overlapping ones survive
//! follows from looking at all of them afterwards.

use ipnet::IpNet;

use super::{Driver, DriverError};
use crate::{
    ipam::{Overlap, first_overlap, overlapping},
    model::{NodeId, Pool, Snapshot},
    store::{Outcome, Txn, keys, ledger::Held, record},
};

/// How often a transaction is tried again after losing a race, before the caller is told.
pub(super) const TRIES: u32 = 64;

impl Driver {
    /// Claims `pool.cidr`, or says what it overlaps.
    ///
    /// Keys of overlapping subnets differ, so the claim alone does not exclude them: after it, all
    /// claims are read, and whoever sees another one that overlaps takes its own back. Of two hosts that
    /// claim at once at least one sees the other, so never do both stay; it can happen that both yield.
    ///
    /// `resume` takes over an own claim without a network. That is for a subnet that somebody has named;
    /// one that was chosen here must be new, since another call of this host may have just chosen it too.
    pub(super) async fn claim_pool(&self, pool: &Pool, resume: bool) -> Result<Held<Pool>, DriverError> {
        self.check_routes(&pool.cidr)?;
        let key = keys::pool(&pool.cidr);
        let claim = match self.ledger.get::<Pool>(&key).await? {
            // Ours, from a creation that was broken off.
            Some(old) if resume && old.record.network.is_none() && old.record.node == *self.node() => {
                Txn::new().unchanged(&old.entry)
            }
            Some(other) => return Err(self.pool_overlap(&pool.cidr, &other.record)),
            None => Txn::new().absent(key.as_str()),
        };
        let claimed = self.ledger.commit(claim.put(key.as_str(), record::encode(pool))).await?;
        let pools = self.ledger.list::<Pool>(keys::POOLS).await?;
        let other = pools.iter().find(|p| p.entry.key != key && overlapping(&p.record.cidr, &pool.cidr));
        let own = pools.iter().find(|p| p.entry.key == key);
        match (claimed, own, other) {
            (Outcome::Committed, Some(own), None) => Ok(own.clone()),
            (Outcome::Committed, Some(own), Some(other)) => {
                let back = Txn::new().unchanged(&own.entry).delete(key.as_str());
                self.ledger.commit(back).await?;
                Err(self.pool_overlap(&pool.cidr, &other.record))
            }
            (_, Some(own), _) => Err(self.pool_overlap(&pool.cidr, &own.record)),
            (_, None, _) => Err(DriverError::Contended { what: "a subnet", tries: 1 }),
        }
    }

    /// Refuses what a host of the cluster reaches otherwise already.
    fn check_routes(&self, cidr: &IpNet) -> Result<(), DriverError> {
        let snapshot = self.snapshot();
        match first_overlap(cidr, [], snapshot.nodes.values(), None) {
            None => Ok(()),
            Some(overlap) => {
                let advice =
                    "containers there could not tell the two apart: choose another --subnet".to_owned();
                Err(DriverError::Overlap { cidr: *cidr, overlap, advice })
            }
        }
    }

    fn pool_overlap(&self, cidr: &IpNet, other: &Pool) -> DriverError {
        let snapshot = self.snapshot();
        let host = host_title(&snapshot, &other.node);
        let (network, detail, advice) = if let Some(id) = &other.network {
            let title = snapshot.networks.get(id).map_or(id.short(), |network| network.title());
            let advice = "that network is on every host by itself: use it, or choose another --subnet";
            (title.to_owned(), format!("created on host {host}"), advice.to_owned())
        } else {
            let advice =
                "choose another --subnet, or try again in three minutes if that creation was broken off";
            ("(unnamed)".to_owned(), format!("being created on host {host}"), advice.to_owned())
        };
        let overlap = Overlap::Network { cidr: other.cidr, network, detail };
        DriverError::Overlap { cidr: *cidr, overlap, advice }
    }

    /// Gives back a subnet that no network holds, and the addresses claimed in it.
    pub(super) async fn abandon_pool(&self, pool: &Held<Pool>) -> Result<(), DriverError> {
        let claims = self.ledger.store().range(&keys::addresses(&pool.record.cidr)).await?;
        let mut txn = Txn::new().unchanged(&pool.entry).delete(pool.entry.key.as_str());
        // More than a transaction holds cannot be: only gateway and auxiliary addresses are claimed yet.
        for claim in claims.into_iter().take(crate::store::TXN_ROOM - txn.len()) {
            txn = txn.delete(claim.key);
        }
        // On a conflict a network has taken it meanwhile, and keeps it.
        self.ledger.commit(txn).await?;
        Ok(())
    }
}

/// What people call a host.
pub(super) fn host_title(snapshot: &Snapshot, node: &NodeId) -> String {
    snapshot.node_title(node).to_owned()
}
