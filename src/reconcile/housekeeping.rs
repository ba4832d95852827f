//! Gives back what this host no longer needs: addresses, networks that its engine has removed, and what
//! broken-off operations left behind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{mirror::Health, removal};
use crate::{
    backoff::Backoff,
    clock,
    local::{Local, LocalData, LocalError, Release},
    model::{AddressClaim, ClaimKind, Network, NetworkId, Pool, Space},
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger},
};

/// How often to look for what was left behind.
const SWEEP: Duration = Duration::from_mins(1);
/// Age, in seconds, from which a subnet without a network, or an address without an endpoint, was left
/// behind: an engine goes from one to the other in seconds.
const LEFT_BEHIND: u64 = 180;

/// The housekeeping task.
pub struct Housekeeping {
    /// The store.
    pub ledger: Ledger,
    /// This host's state, with its queues.
    pub local: Arc<Local>,
    /// Tells when the store is back.
    pub health: watch::Receiver<Health>,
}

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl Housekeeping {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut used = BTreeSet::new();
        let mut sweep_at = tokio::time::Instant::now();
        loop {
            changes.mark_unchanged();
            let sweep = tokio::time::Instant::now() >= sweep_at;
            let pause = match self.round(&mut used, sweep).await {
                Ok(()) => {
                    retry.reset();
                    if sweep {
                        sweep_at = tokio::time::Instant::now() + SWEEP;
                    }
                    SWEEP
                }
                Err(error) => {
                    debug!(%error, "not everything given back yet");
                    retry.pause()
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = changes.changed() => {}
                Ok(()) = self.health.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(&self, used: &mut BTreeSet<NetworkId>, sweep: bool) -> Result<(), Unfinished> {
        let data = self.local.data();
        for release in data.releases.values() {
            self.give_back(release).await?;
        }
        for departure in data.departures.values() {
            removal::leave(&self.ledger, &self.local, &departure.network, &departure.title).await?;
            self.local.remove_departure(&departure.network)?;
        }
        let now = data.networks_in_use();
        // Whoever removed the network elsewhere may have looked before an address was given back here, so
        // that is a moment to ask again as well.
        let given_back = data.bindings.values().map(|binding| &binding.network).filter(|network| {
            data.releases.values().any(|release| network.subnets.iter().any(|s| s.cidr == release.cidr))
        });
        let left: BTreeSet<_> = given_back.map(|network| &network.id).chain(&*used).collect();
        for network in left.into_iter().filter(|id| !now.contains(id)) {
            removal::finish_if_departed(&self.ledger, &self.local, network).await?;
        }
        *used = now;
        if sweep {
            self.sweep_pools().await?;
            self.sweep_networks().await?;
            self.sweep_addresses().await?;
            self.sweep_departed(used).await?;
            self.sweep_present().await?;
        }
        Ok(())
    }

    /// What hosts that will not come back have told of networks that are gone. A host that lives takes its
    /// own word back.
    async fn sweep_present(&self) -> Result<(), Unfinished> {
        // The hosts and the networks last: one that has only just come must not be taken for one of before.
        let told = self.ledger.store().range(keys::PRESENT).await?;
        let nodes = self.ledger.store().range(keys::NODES).await?;
        let networks = self.ledger.store().range(keys::NETWORKS).await?;
        for entry in told {
            let Some((network, node)) = keys::network_and_node(&entry.key) else { continue };
            let node = keys::node(&node);
            let network = keys::network(&network);
            if nodes.iter().all(|e| e.key != node) && networks.iter().all(|e| e.key != network) {
                self.ledger.commit(Txn::new().unchanged(&entry).delete(entry.key.as_str())).await?;
            }
        }
        Ok(())
    }

    async fn give_back(&self, release: &Release) -> Result<(), Unfinished> {
        let key = keys::address(&release.cidr, release.ip);
        let claim = self.ledger.get::<AddressClaim>(&key).await?;
        // An engine may give an address back before it deletes the endpoint: it waits for that then.
        if self.local.read(|data| data.user_of(&release.cidr, release.ip).is_some()) {
            return Ok(());
        }
        if let Some(claim) = claim
            && claim.record.node == *self.local.node()
            && claim.record.since_ms <= release.until_ms
            && (!is_reserved(&claim.record.kind) || !self.has_network(&release.cidr).await?)
        {
            // On a conflict it has just been claimed anew, and is not to be given back.
            let gone = self.ledger.commit(Txn::new().unchanged(&claim.entry).delete(key)).await?;
            if gone == Outcome::Committed {
                self.local.end_takeover(release)?;
            }
        }
        self.local.settle_release(release)?;
        Ok(())
    }

    async fn has_network(&self, cidr: &ipnet::IpNet) -> Result<bool, StoreError> {
        let pool = self.ledger.get::<Pool>(&keys::pool(cidr)).await?;
        Ok(pool.is_some_and(|pool| pool.record.network.is_some()))
    }

    /// Networks that some engine has removed and that nobody uses any more. Of two hosts whose last
    /// containers end together, each may still see the other's; and one may have been away.
    async fn sweep_departed(&self, used: &BTreeSet<NetworkId>) -> Result<(), Unfinished> {
        let marks = self.ledger.store().range(keys::DEPARTED).await?;
        let networks: BTreeSet<_> =
            marks.iter().filter_map(|mark| keys::network_and_node(&mark.key)).map(|(n, _)| n).collect();
        for network in networks.difference(used) {
            removal::finish_if_departed(&self.ledger, &self.local, network).await?;
        }
        // A host that died in the middle of a removal left subnets closed, where no container starts.
        for pool in self.ledger.list::<Pool>(keys::POOLS).await? {
            if let Some(network) = pool.record.network.filter(|_| pool.record.closing) {
                info!(pool = %pool.record.cidr, "reopening a subnet whose removal was broken off");
                removal::reopen(&self.ledger, &network).await?;
            }
        }
        Ok(())
    }

    /// Subnets that this host claimed for networks which were never created.
    async fn sweep_pools(&self) -> Result<(), Unfinished> {
        let now = clock::unix_seconds();
        for pool in self.ledger.list::<Pool>(keys::POOLS).await? {
            let old = now.saturating_sub(pool.record.since) > LEFT_BEHIND;
            if old
                && pool.record.network.is_none()
                && pool.record.node == *self.local.node()
                && pool.record.space != Space::Global
            {
                info!(pool = %pool.record.cidr, "giving back a subnet whose network was never created");
                let mut txn = Txn::new().unchanged(&pool.entry).delete(pool.entry.key.as_str());
                for claim in
                    self.ledger.store().range(&keys::addresses(&pool.record.cidr)).await?.into_iter().take(32)
                {
                    txn = txn.delete(claim.key);
                }
                self.ledger.commit(txn).await?;
            }
        }
        Ok(())
    }

    /// Networks whose creation was broken off here after they had reached the store: no engine has them, and
    /// nobody will ever tell their names.
    async fn sweep_networks(&self) -> Result<(), Unfinished> {
        let now = clock::unix_seconds();
        for held in self.ledger.list::<Network>(keys::NETWORKS).await? {
            let network = held.record;
            let old = now.saturating_sub(network.created_at) > LEFT_BEHIND;
            let here = |data: &LocalData| data.bindings.values().any(|b| b.network.id == network.id);
            if old
                && network.name.is_none()
                && !network.allocated
                && network.created_by == *self.local.node()
                && !self.local.read(here)
            {
                info!(network = network.title(), "removing a network whose creation was broken off");
                removal::leave(&self.ledger, &self.local, &network.id, network.title()).await?;
            }
        }
        Ok(())
    }

    /// Addresses that this host claimed for containers which were never started.
    async fn sweep_addresses(&self) -> Result<(), Unfinished> {
        let now = clock::unix_millis();
        for pool in self.ledger.list::<Pool>(keys::POOLS).await? {
            // Of the global space a swarm's manager hands out to other hosts: no endpoint here uses it.
            if pool.record.space == Space::Global || pool.record.network.is_none() {
                continue;
            }
            let cidr = pool.record.cidr;
            for claim in self.ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await? {
                let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
                let own = claim.record.node == *self.local.node() && !is_reserved(&claim.record.kind);
                let old = now.saturating_sub(claim.record.since_ms) > LEFT_BEHIND * 1000;
                if own && old && self.local.read(|data| data.user_of(&cidr, ip).is_none()) {
                    info!(%ip, "giving back an address whose container was never started");
                    self.ledger
                        .commit(Txn::new().unchanged(&claim.entry).delete(claim.entry.key.as_str()))
                        .await?;
                }
            }
        }
        Ok(())
    }
}

fn is_reserved(kind: &ClaimKind) -> bool {
    matches!(kind, ClaimKind::Gateway | ClaimKind::Auxiliary)
}
