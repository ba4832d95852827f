//! Makes the store's records of this host's endpoints and networks equal to those it has. A store that was
//! away, or was wiped, gets them all again.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::mirror::Health;
use crate::{
    backoff::Backoff,
    local::Local,
    model::{Endpoint, Presence},
    store::{StoreError, Txn, keys, ledger::Ledger, record},
};

/// Records in one transaction; well below what every store takes.
const BATCH: usize = 32;
/// How often the store's records are read again, in case somebody else changed them.
const REREAD: Duration = Duration::from_secs(30);

/// The publishing task.
pub struct Publisher {
    /// The store.
    pub ledger: Ledger,
    /// The endpoints.
    pub local: Arc<Local>,
    /// This host's underlay address.
    pub vtep: IpAddr,
    /// Tells when the store is back.
    pub health: watch::Receiver<Health>,
}

impl Publisher {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut published: Option<BTreeMap<String, String>> = None;
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
                Ok(()) = self.health.changed() => published = None,
                () = tokio::time::sleep(pause) => published = None,
            }
        }
    }

    async fn round(&self, published: &mut Option<BTreeMap<String, String>>) -> Result<(), StoreError> {
        let there = match published.take() {
            Some(there) => there,
            None => self.own_records().await?,
        };
        let wanted = self.wanted();
        let mut steps = Vec::new();
        steps.extend(there.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None)));
        let stale = wanted.iter().filter(|(key, text)| there.get(*key) != Some(*text));
        steps.extend(stale.map(|(key, text)| (key.clone(), Some(text.clone()))));
        for batch in steps.chunks(BATCH) {
            let mut txn = Txn::new();
            for (key, text) in batch {
                txn = match text {
                    Some(text) => txn.put(key.as_str(), text.as_str()),
                    None => txn.delete(key.as_str()),
                };
            }
            self.ledger.commit(txn).await?;
        }
        *published = Some(wanted);
        Ok(())
    }

    fn wanted(&self) -> BTreeMap<String, String> {
        let node = self.local.node();
        self.local.read(|data| {
            let records = data.connected().map(|endpoint| {
                let key = keys::endpoint(&endpoint.network, &endpoint.id);
                (key, record::encode(&endpoint.publish(node, self.vtep)))
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

    async fn own_records(&self) -> Result<BTreeMap<String, String>, StoreError> {
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
        Ok(own.into_iter().chain(present.map(|entry| (entry.key, entry.value))).collect())
    }
}
