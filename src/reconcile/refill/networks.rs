//! What a host puts into a store that has lost it: tombstones, networks with all that belongs to them, its
//! own marks of networks that have left it, and the addresses in use here.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{
    addresses,
    rivals::{Picture, Verdict},
};
use crate::{
    clock,
    local::Local,
    model::{GaveWay, Network, NetworkId, Removed, Snapshot},
    reconcile::{housekeeping::Unfinished, removal},
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger, record},
};

/// How often to look again when other hosts fill the store at the same time.
const TRIES: u32 = 32;
/// Tombstones in one transaction.
const BATCH: usize = 24;

/// One host's filling of one incarnation.
pub(super) struct Filling<'a> {
    /// The store, each change guarded by the incarnation.
    pub(super) ledger: Ledger,
    pub(super) local: &'a Local,
    /// The cluster as it was known before.
    pub(super) snapshot: &'a Snapshot,
    /// Incarnations in which networks were created that nobody may rely on yet.
    pub(super) newcomers: Vec<String>,
    /// The one in which this host knew the store before, if it did.
    pub(super) before: Option<&'a str>,
}

impl Filling<'_> {
    /// Puts in what is missing, takes out what a tombstone says is gone. To be called again after an error:
    /// whatever is there already stays.
    pub(super) async fn run(&self) -> Result<(), Unfinished> {
        self.tombstones().await?;
        self.bury_the_dead().await?;
        self.hosts().await?;
        let networks = self.own_networks();
        let mut restored = 0;
        for network in networks.values() {
            restored += usize::from(self.restore(network).await?);
        }
        if restored > 0 {
            info!(networks = restored, "networks put back into the cluster store");
        }
        for network in self.snapshot.departed.iter().filter(|id| networks.contains_key(*id)) {
            let mark = keys::departed(network, self.local.node());
            let txn = Txn::new().absent(mark.as_str()).put(mark, record::encode(&serde_json::json!({})));
            self.ledger.commit(txn).await?;
        }
        addresses::withdraw(&self.ledger, self.local).await?;
        addresses::in_use(&self.ledger, self.local).await?;
        Ok(())
    }

    /// Networks of this host's engine, and those that were in the store before; not those that this host
    /// has just removed.
    fn own_networks(&self) -> BTreeMap<NetworkId, Network> {
        let mut networks = BTreeMap::clone(&self.snapshot.networks);
        self.local.read(|data| {
            for binding in data.bindings.values() {
                // What the store said last is newer than the copy, unless that copy alone has the name.
                let network = networks.entry(binding.network.id.clone());
                let known = network.or_insert_with(|| binding.network.clone());
                if known.name.is_none() {
                    *known = binding.network.clone();
                }
            }
            networks.retain(|id, _| !data.departures.contains_key(id));
        });
        // Created before there was any incarnation, and known since: it is no newcomer.
        let dated = networks.into_iter().map(|(id, network)| match (network.created_in(), self.before) {
            (Some(""), Some(before)) => (id, network.in_incarnation(Some(before))),
            _ => (id, network),
        });
        dated.collect()
    }

    /// Hosts that are not here to speak for themselves: who they were, and which of them are dead.
    async fn hosts(&self) -> Result<(), StoreError> {
        let own = self.local.node();
        for host in self.snapshot.hosts.values().filter(|host| host.id != *own) {
            let key = keys::host(&host.id);
            self.ledger.commit(Txn::new().absent(key.as_str()).put(key, record::encode(host))).await?;
        }
        for death in self.snapshot.dead.values().filter(|death| death.id != *own) {
            let (key, node) = (keys::dead(&death.id), keys::node(&death.id));
            let txn = Txn::new().absent(key.as_str()).absent(node);
            // On a conflict the host has returned, or another one has said it.
            self.ledger.commit(txn.put(key, record::encode(death))).await?;
        }
        Ok(())
    }

    async fn tombstones(&self) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let there = self.ledger.store().range(keys::REMOVED).await?;
            let missing: Vec<_> = self
                .snapshot
                .removed
                .iter()
                .map(|(id, removed)| (keys::removed(id), removed))
                .filter(|(key, _)| there.iter().all(|entry| entry.key != *key))
                .collect();
            let mut lost = false;
            for batch in missing.chunks(BATCH) {
                let txn = batch.iter().fold(Txn::new(), |txn, (key, removed)| {
                    txn.absent(key.as_str()).put(key.as_str(), record::encode(removed))
                });
                lost |= self.ledger.commit(txn).await? == Outcome::Conflict;
            }
            if !lost {
                return Ok(());
            }
        }
        Err(self.contended("tombstones"))
    }

    /// A store that was set back may have networks that were removed since.
    async fn bury_the_dead(&self) -> Result<(), Unfinished> {
        let removed = self.ledger.list::<Removed>(keys::REMOVED).await?;
        for held in self.ledger.list::<Network>(keys::NETWORKS).await? {
            let tomb = keys::removed(&held.record.id);
            if let Some(tomb) = removed.iter().find(|removed| removed.entry.key == tomb) {
                info!(
                    network = held.record.title(),
                    "removing a network again that the store had forgotten to be gone"
                );
                removal::erase(&self.ledger, &held.record, &tomb.record).await?;
            }
        }
        Ok(())
    }

    /// Makes the store have a network with all its claims, or finds out why it must not; whether it was
    /// changed.
    async fn restore(&self, network: &Network) -> Result<bool, Unfinished> {
        let mut changed = false;
        for _ in 0..TRIES {
            let picture = Picture::read(&self.ledger).await?;
            match picture.assess(network, &self.newcomers) {
                Verdict::Complete => {
                    addresses::reserved(&self.ledger, network).await?;
                    return Ok(changed);
                }
                Verdict::Removed => return Ok(false),
                Verdict::Blocked(why) => {
                    warn!(
                        network = network.title(),
                        why, "a network cannot be put back into the cluster store"
                    );
                    return Ok(false);
                }
                Verdict::Loses { to, over } => {
                    self.give_way(network, &to, over).await?;
                    return Ok(true);
                }
                Verdict::Wins { over } => {
                    for (loser, over) in over {
                        self.give_way(&loser, network, over).await?;
                    }
                }
                Verdict::Missing(txn) => {
                    changed |= self.ledger.commit(txn).await? == Outcome::Committed;
                }
            }
        }
        Err(self.contended(network.title()).into())
    }

    async fn give_way(&self, loser: &Network, to: &Network, over: String) -> Result<(), Unfinished> {
        warn!(
            network = loser.title(),
            to = to.title(),
            over,
            "a network gives way to one that the cluster had when its store was lost"
        );
        let gave_way = GaveWay { to: to.id.clone(), title: to.title().to_owned(), over };
        let tomb = Removed {
            title: loser.title().to_owned(),
            by: self.local.node().clone(),
            since: clock::unix_seconds(),
            gave_way: Some(gave_way),
            extra: BTreeMap::new(),
        };
        removal::erase(&self.ledger, loser, &tomb).await
    }

    fn contended(&self, what: &str) -> StoreError {
        StoreError::Unavailable {
            store: self.ledger.store().kind().to_owned(),
            detail: format!("the records of {what} keep changing"),
        }
    }
}
