//! Makes the store's records of this host's endpoints and networks equal to those it has. A store that was
//! away, or was wiped, gets them all again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::mirror::Health;
use crate::{
    backoff::Backoff,
    clock,
    local::{Local, Told},
    model::{Endpoint, Mark, Presence, Underlay},
    store::{
        Outcome, StoreError, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
};

/// Records in one transaction; well below what every store takes.
const BATCH: usize = 32;
/// How often the store's records are read again, in case somebody else changed them.
const REREAD: Duration = Duration::from_secs(30);

/// What the store has of this host.
struct Published {
    /// Keys and texts.
    records: BTreeMap<String, String>,
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
                    REREAD
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
                () = tokio::time::sleep(pause) => published = None,
            }
        }
    }

    async fn round(&self, published: &mut Option<Published>) -> Result<(), StoreError> {
        let incarnation = self.local.read(|data| data.store_incarnation().map(str::to_owned));
        // What was told before the store was lost has to be told again.
        let there = match published.take().filter(|there| there.incarnation == incarnation) {
            Some(there) => there,
            None => self.own_records(incarnation).await?,
        };
        let wanted = self.wanted();
        let mut steps = Vec::new();
        let gone = there.records.keys().filter(|key| !wanted.contains_key(*key));
        steps.extend(gone.map(|key| (key.clone(), None)));
        let stale = wanted.iter().filter(|(key, text)| there.records.get(*key) != Some(*text));
        steps.extend(stale.map(|(key, text)| (key.clone(), Some(text.clone()))));
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
        *published = Some(Published { records: wanted, mark, incarnation: there.incarnation });
        Ok(())
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
        let vtep = self.underlay.borrow().vtep;
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

    async fn own_records(&self, incarnation: Option<String>) -> Result<Published, StoreError> {
        let mark = self.own_mark(incarnation.as_deref()).await?;
        let all = self.ledger.list::<Endpoint>(keys::ENDPOINTS).await?;
        let own = all.into_iter().filter(|held| held.record.node == *self.local.node());
        let own: BTreeMap<_, _> = own.map(|held| (held.entry.key, held.entry.value)).collect();
        if own.len() > self.local.read(|data| data.endpoints.len()) {
            warn!(records = own.len(), "the store has endpoints of this host that are gone; removing them");
        }
        let present = self.ledger.store().range(keys::PRESENT).await?;
        let here =
            |key: &str| keys::network_and_node(key).is_some_and(|(_, node)| node == *self.local.node());
        let present = present.into_iter().filter(|entry| here(&entry.key));
        let records = own.into_iter().chain(present.map(|entry| (entry.key, entry.value))).collect();
        Ok(Published { records, mark, incarnation })
    }
}
