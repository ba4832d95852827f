//! Makes the store's records of this host's endpoints and networks equal to those it has. A store that was
//! away, or was wiped, gets them all again.

mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::records::{Records, networks_of};
use super::mirror::Health;
use crate::{
    backoff::Backoff,
    clock,
    local::{Local, Told, Trace},
    model::{Mark, NetworkId, Presence, Underlay},
    store::{
        Outcome, StoreError, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
    watched::Watched,
};

/// Records in one transaction; well below what every store takes.
const BATCH: usize = 32;
/// How often the store is asked whether it still has all records, in case somebody else changed them.
const ASK: Duration = Duration::from_secs(30);

/// What the store has of this host.
struct Published {
    records: Records,
    /// This host's mark; only in stores that have an incarnation.
    mark: Option<Held<Mark>>,
    /// The incarnation in which all this was read.
    incarnation: Option<String>,
}

/// The publishing task.
pub struct Publisher {
    /// The store.
    pub ledger: Ledger,
    /// The endpoints.
    pub local: Arc<Local>,
    /// Where this host takes VXLAN packets.
    pub underlay: watch::Receiver<Underlay>,
    /// Tells when the store is back.
    pub health: watch::Receiver<Health>,
}

impl Publisher {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut published: Option<Published> = None;
        loop {
            let pause = match self.round(&mut published).await {
                Ok(()) => {
                    retry.reset();
                    ASK
                }
                Err(error) => {
                    debug!(%error, "endpoints and networks not published yet");
                    published = None;
                    retry.pause()
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = changes.changed() => {}
                Ok(()) = self.underlay.changed() => {}
                Ok(()) = self.health.changed() => published = None,
                () = tokio::time::sleep(pause) => published = self.still(published).await,
            }
        }
    }

    async fn round(&self, published: &mut Option<Published>) -> Result<(), StoreError> {
        let incarnation = self.local.read(|data| data.store_incarnation().map(str::to_owned));
        // What was told before the store was lost has to be told again.
        let there = match published.take().filter(|there| there.incarnation == incarnation) {
            Some(there) => there,
            None => self.read(incarnation).await?,
        };
        let wanted = self.wanted();
        let steps = there.records.steps_to(&wanted);
        if let Some(incarnation) = &there.incarnation {
            let mut networks = self.traced(incarnation).unwrap_or_default();
            networks.extend(there.records.networks().into_iter().chain(networks_of(wanted.keys())));
            self.trace(incarnation, networks);
        }
        let mut batches = steps.chunks(BATCH).peekable();
        let mut marked = there.incarnation.is_none();
        while let Some(batch) = batches.next() {
            let mut txn = Txn::new();
            for (key, text) in batch {
                txn = match text {
                    Some(text) => txn.put(key.as_str(), text.as_str()),
                    None => txn.delete(key.as_str()),
                };
            }
            if batches.peek().is_none() && !marked {
                self.commit_marked(txn, &there).await?;
                marked = true;
            } else {
                self.ledger.commit(txn).await?;
            }
        }
        let current = there.mark.as_ref().map(|held| &held.record.incarnation) == there.incarnation.as_ref();
        if !marked && !current {
            self.commit_marked(Txn::new(), &there).await?;
        }
        let mark = if steps.is_empty() && current {
            there.mark
        } else {
            self.own_mark(there.incarnation.as_deref()).await?
        };
        let records = there.records.become_of(wanted);
        *published = Some(Published { records, mark, incarnation: there.incarnation });
        Ok(())
    }

    /// What was published, if the store still has it.
    async fn still(&self, published: Option<Published>) -> Option<Published> {
        let mut there = published?;
        let incarnation = there.incarnation.clone()?;
        let mark = self.own_mark(Some(&incarnation)).await.ok()?;
        let same = mark.map(|held| held.entry) == there.mark.as_ref().map(|held| held.entry.clone());
        if !same || !there.records.are_there(&self.ledger).await.ok()? {
            return None;
        }
        // What was sent in the last moment may have arrived after all had been looked at.
        let networks = there.records.networks();
        let left: BTreeSet<_> = self.traced(&incarnation)?.difference(&networks).cloned().collect();
        if !Records::read(&self.ledger, &self.local, Some(&left)).await.ok()?.is_empty() {
            return None;
        }
        self.trace(&incarnation, networks);
        Some(there)
    }

    /// The networks of which the store may have records of this host, where that is known.
    fn traced(&self, incarnation: &str) -> Option<BTreeSet<NetworkId>> {
        let trace = self.local.read(|data| data.trace.clone());
        trace.filter(|trace| trace.incarnation == incarnation).map(|trace| trace.networks)
    }

    /// Remembers them before the first record in a network is written: after a crash this is where it is looked for.
    fn trace(&self, incarnation: &str, networks: BTreeSet<NetworkId>) {
        let trace = Trace { incarnation: incarnation.to_owned(), networks };
        if let Err(error) = self.local.set_trace(trace) {
            warn!(%error, "cannot remember where the cluster store has records of this host");
        }
    }

    /// Raises this host's mark with the last of its changes: it says then that all are there. A mark that is
    /// not as it was read is one of an earlier time, and must be noticed as that.
    async fn commit_marked(&self, txn: Txn, there: &Published) -> Result<(), StoreError> {
        let Some(incarnation) = there.incarnation.clone() else { return Ok(()) };
        let told = self.local.read(|data| data.told.as_ref().map_or(0, |told| told.tide));
        let tide = there.mark.as_ref().map_or(0, |held| held.record.tide).max(told) + 1;
        let extra = there.mark.as_ref().map(|held| held.record.extra.clone()).unwrap_or_default();
        let mark = Mark { incarnation: incarnation.clone(), tide, at: clock::unix_seconds(), extra };
        let key = keys::mark(self.local.node());
        let txn = match &there.mark {
            Some(held) => txn.unchanged(&held.entry),
            None => txn.absent(key.as_str()),
        };
        if self.ledger.commit(txn.put(key, record::encode(&mark))).await? == Outcome::Conflict {
            return Err(self.gone_back());
        }
        // A mark that is not remembered is lower than the one in the store, which does no harm.
        if let Err(error) = self.local.set_told(Told { incarnation, tide }) {
            warn!(%error, "cannot remember what the cluster store was told");
        }
        Ok(())
    }

    async fn own_mark(&self, incarnation: Option<&str>) -> Result<Option<Held<Mark>>, StoreError> {
        let Some(incarnation) = incarnation else { return Ok(None) };
        let mark = self.ledger.get::<Mark>(&keys::mark(self.local.node())).await?;
        let told = self.local.read(|data| data.told.clone()).filter(|told| told.incarnation == incarnation);
        let tide = mark.as_ref().map_or(0, |held| held.record.tide);
        if told.is_some_and(|told| tide < told.tide) { Err(self.gone_back()) } else { Ok(mark) }
    }

    fn gone_back(&self) -> StoreError {
        StoreError::Unsettled {
            store: self.ledger.store().kind().to_owned(),
            detail: "has gone back in time: it lacks what this host has told it".to_owned(),
        }
    }

    fn wanted(&self) -> BTreeMap<String, String> {
        let node = self.local.node();
        let vtep = self.underlay.see(|underlay| underlay.vtep);
        self.local.read(|data| {
            let records = data.connected().map(|endpoint| {
                let key = keys::endpoint(&endpoint.network, &endpoint.id);
                (key, record::encode(&endpoint.publish(node, vtep)))
            });
            let present = data.bindings.values().map(|binding| {
                let presence = Presence {
                    docker_id: binding.docker_id.clone(),
                    since: binding.created_at,
                    extra: BTreeMap::new(),
                };
                (keys::present(&binding.network.id, node), record::encode(&presence))
            });
            records.chain(present).collect()
        })
    }

    async fn read(&self, incarnation: Option<String>) -> Result<Published, StoreError> {
        let mark = self.own_mark(incarnation.as_deref()).await?;
        let networks = incarnation.as_deref().and_then(|incarnation| self.traced(incarnation));
        let records = Records::read(&self.ledger, &self.local, networks.as_ref()).await?;
        Ok(Published { records, mark, incarnation })
    }
}

#[cfg(test)]
mod tests;
