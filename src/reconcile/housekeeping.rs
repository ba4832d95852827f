//! Gives back what this host no longer needs: addresses, networks that its engine has removed, and what
//! broken-off operations left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{cluster, mirror::Health, removal, terms};
use crate::{
    backoff::Backoff,
    clock,
    local::{Local, LocalData, LocalError, Release},
    model::{AddressClaim, Mark, Mode, Network, NetworkId, Pool, Removed, Snapshot},
    store::{Revision, StoreError, Txn, gate::Footing, keys, ledger::Ledger},
    watched::Watched,
};

/// How often to look for what was left behind.
const SWEEP: Duration = Duration::from_mins(1);
/// So many hosts each look that often; more of them look as much less often, so that a large cluster's store is read no
/// more than a small one's. What somebody has left behind of networks and hosts, whichever host looks first clears away.
const SWEEPERS: usize = 10;
/// How long a call for addresses stands; somewhat less than the time between two looks.
const CALL: Duration = Duration::from_secs(50);
/// Age, in seconds, from which a subnet without a network, or an address without an endpoint, was left
/// behind: an engine goes from one to the other in seconds.
const LEFT_BEHIND: u64 = 180;
/// For how long, in seconds, the cluster remembers which networks were removed, and hosts that are gone: a
/// host that was away for longer may bring a network back into a store that was lost meanwhile.
const REMEMBERED: u64 = 30 * 24 * 3600;

/// The housekeeping task.
pub struct Housekeeping {
    /// The store.
    pub ledger: Ledger,
    /// This host's state, with its queues.
    pub local: Arc<Local>,
    /// Tells when the store is back.
    pub health: watch::Receiver<Health>,
    /// Whether the store has what all hosts know; absent: it is never lost.
    pub footing: Option<watch::Receiver<Footing>>,
}

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("the hosts are filling the cluster store again, and not all have told yet what they use")]
    Settling,
}

impl Housekeeping {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut used = BTreeSet::new();
        let mut calls = BTreeMap::new();
        let mut sweep_at = Instant::now();
        let mut wanted_at = sweep_at;
        loop {
            changes.mark_unchanged();
            let sweep = Instant::now() >= sweep_at;
            let pause = match self.round(&mut used, sweep).await {
                Ok(()) => {
                    retry.reset();
                    if sweep {
                        sweep_at = Instant::now() + rest_between_sweeps(self.live_hosts().await);
                    }
                    if Instant::now() >= wanted_at {
                        self.sweep_wanted(&mut calls).await;
                        wanted_at = Instant::now() + SWEEP;
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

    async fn live_hosts(&self) -> usize {
        self.ledger.store().range(keys::NODES).await.map_or(0, |nodes| nodes.len())
    }

    async fn round(&self, used: &mut BTreeSet<NetworkId>, sweep: bool) -> Result<(), Unfinished> {
        // A network that no host seems to use would be removed for good.
        if self.footing.as_ref().is_some_and(|footing| footing.see(Footing::is_settling)) {
            return Err(Unfinished::Settling);
        }
        let data = self.local.data();
        // The networks first: with most of them all that was held in them is gone.
        for departure in data.departures.values() {
            removal::leave(&self.ledger, &self.local, &departure.network, &departure.title).await?;
            self.local.remove_departure(&departure.network)?;
        }
        let mut by_subnet: BTreeMap<_, Vec<&Release>> = BTreeMap::new();
        for release in data.releases.values() {
            by_subnet.entry(release.cidr).or_default().push(release);
        }
        // Whoever removed the network elsewhere may have looked before an address was given back here, so
        // that is a moment to ask again as well, also if the engine here no longer has the network.
        let mut left = used.clone();
        for (cidr, releases) in by_subnet {
            self.give_back(&cidr, &releases).await?;
            let pool = self.ledger.get::<Pool>(&keys::pool(&cidr)).await?;
            left.extend(pool.and_then(|pool| pool.record.network));
        }
        let now = data.networks_in_use();
        for network in left.iter().filter(|id| !now.contains(*id)) {
            removal::finish_if_departed(&self.ledger, &self.local, network).await?;
        }
        *used = now;
        if sweep {
            self.sweep_pools().await?;
            self.sweep_networks().await?;
            self.sweep_addresses().await?;
            terms::sweep(&self.ledger, &self.local).await?;
            self.sweep_departed(used).await?;
            self.sweep_present().await?;
            self.sweep_old().await?;
        }
        Ok(())
    }

    /// Whether what was just found absent in the store was removed, and is not one of the things that a
    /// store has lost.
    async fn is_known(&self) -> Result<(), Unfinished> {
        let known = cluster::is_known(&**self.ledger.store(), &self.local, &Snapshot::default()).await?;
        if known { Ok(()) } else { Err(Unfinished::Settling) }
    }

    /// Calls for addresses that have stood for a minute: whoever made them has had what there was to have.
    /// Each host counts that minute by itself, so that no clocks are compared.
    async fn sweep_wanted(&self, calls: &mut BTreeMap<String, (Revision, Instant)>) {
        let told = self.ledger.store().range(keys::WANTED).await.unwrap_or_default();
        calls.retain(|key, _| told.iter().any(|entry| entry.key == *key));
        for entry in told {
            let now = (entry.revision, Instant::now());
            let seen = calls.entry(entry.key.clone()).or_insert(now);
            if seen.0 != entry.revision {
                *seen = now;
            } else if seen.1.elapsed() >= CALL {
                // An error leaves it for the next time.
                let _ = self.ledger.commit(Txn::new().unchanged(&entry).delete(entry.key.as_str())).await;
            }
        }
    }

    /// What hosts that will not come back have told of networks that are gone. A host that lives takes its
    /// own word back.
    async fn sweep_present(&self) -> Result<(), Unfinished> {
        // The hosts and the networks last: one that has only just come must not be taken for one of before.
        let told = self.ledger.store().range(keys::PRESENT).await?;
        let nodes = self.ledger.store().range(keys::NODES).await?;
        let networks = self.ledger.store().range(keys::NETWORKS).await?;
        self.is_known().await?;
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

    /// Tombstones, and marks of hosts that are gone, that nobody can need any more.
    async fn sweep_old(&self) -> Result<(), Unfinished> {
        let now = clock::unix_seconds();
        let old = |since: u64| now.saturating_sub(since) > REMEMBERED;
        let nodes = self.ledger.store().range(keys::NODES).await?;
        let marks = self.ledger.list::<Mark>(keys::MARKS).await?.into_iter().filter(|mark| {
            let node = keys::marked(&mark.entry.key).map(|node| keys::node(&node));
            old(mark.record.at) && nodes.iter().all(|entry| Some(&entry.key) != node.as_ref())
        });
        self.is_known().await?;
        let removed = self.ledger.list::<Removed>(keys::REMOVED).await?.into_iter();
        let removed = removed.filter(|removed| old(removed.record.since));
        for entry in marks.map(|held| held.entry).chain(removed.map(|held| held.entry)) {
            self.ledger.commit(Txn::new().unchanged(&entry).delete(entry.key.as_str())).await?;
        }
        Ok(())
    }

    async fn give_back(&self, cidr: &IpNet, releases: &[&Release]) -> Result<(), Unfinished> {
        let claims = self.ledger.list::<AddressClaim>(&keys::addresses(cidr)).await?;
        let has_network = self.has_network(cidr).await?;
        // A claim that only a lost store lacks must not be taken for one that is given back.
        self.is_known().await?;
        for release in releases {
            let ip = release.ip;
            // An engine may give an address back before it deletes the endpoint: it waits for that then.
            if self.local.read(|data| data.user_of(cidr, ip).is_some()) {
                continue;
            }
            let key = keys::address(cidr, ip);
            if let Some(claim) = claims.iter().find(|claim| claim.entry.key == key)
                && claim.record.node == *self.local.node()
                && claim.record.since_ms <= release.until_ms
                && (!claim.record.kind.is_fixed() || !has_network)
                // It has come into the book since: there it rests.
                && !self.local.rest(cidr, ip)?
            {
                // On a conflict it has just been claimed anew, and is not to be given back.
                self.ledger.commit(Txn::new().unchanged(&claim.entry).delete(key)).await?;
            }
            self.local.settle_release(release)?;
        }
        Ok(())
    }

    async fn has_network(&self, cidr: &IpNet) -> Result<bool, StoreError> {
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
            if old && pool.record.network.is_none() && pool.record.node == *self.local.node() {
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
                && network.mode() == Mode::Plain
                && network.created_by == *self.local.node()
                && !self.local.read(here)
            {
                info!(network = network.title(), "removing a network whose creation was broken off");
                removal::leave(&self.ledger, &self.local, &network.id, network.title()).await?;
            }
        }
        Ok(())
    }

    /// Addresses that this host claimed for containers which were never started, or holds by the store's
    /// word in a network that its engine no longer has.
    async fn sweep_addresses(&self) -> Result<(), Unfinished> {
        let now = clock::unix_millis();
        for pool in self.ledger.list::<Pool>(keys::POOLS).await? {
            if !pool.record.is_claimed_by_users() || pool.record.network.is_none() {
                continue;
            }
            let cidr = pool.record.cidr;
            for claim in self.ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await? {
                let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
                let own = claim.record.node == *self.local.node() && !claim.record.kind.is_fixed();
                let old = now.saturating_sub(claim.record.since_ms) > LEFT_BEHIND * 1000;
                let unused = |data: &LocalData| {
                    data.user_of(&cidr, ip).is_none() && !data.claims.contains_key(&(cidr, ip))
                };
                if own && old && self.local.read(unused) {
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

fn rest_between_sweeps(hosts: usize) -> Duration {
    SWEEP.saturating_mul(u32::try_from(hosts / SWEEPERS).unwrap_or(u32::MAX).max(1))
}
