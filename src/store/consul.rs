//! The cluster store in Consul's key-value part.
//!
//! Two things differ from etcd. A key that is written with a lease is deleted and locked in one
//! transaction, since Consul lets no session write what another one holds: it counts as two operations.
//! And a key on a lease that is written without one stays on its lease.

mod client;
mod operation;
mod watch;

use std::time::Duration;

use futures_util::FutureExt as _;

use self::client::{Client, Failed};
use super::{
    Entry, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch, address::Address, feed::Feed,
    prefix::Prefix, timeouts::Timeouts,
};

/// Consul as a store. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Consul {
    client: Client,
    prefix: Prefix,
    address: Address,
    timeouts: Timeouts,
}

impl Consul {
    /// `base` is the URL of an agent, without a path. Sends nothing yet.
    pub(crate) fn new(
        http: reqwest::Client,
        base: &str,
        token: Option<String>,
        prefix: Prefix,
        address: Address,
        timeouts: Timeouts,
    ) -> Result<Self, String> {
        Ok(Self { client: Client::new(http, base, token, timeouts)?, prefix, address, timeouts })
    }

    async fn transact(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.address.check(&txn)?;
        if txn.is_empty() {
            return Ok(Outcome::Committed);
        }
        let dead = |lease: &&LeaseId| !client::is_session(&lease.0);
        if let Some(lease) = txn.leases().find(dead) {
            return Err(StoreError::LeaseEnded(lease.clone()));
        }
        let operations =
            operation::operations(&txn, &self.prefix).map_err(|text| self.address.refused(text))?;
        match self.client.txn(&operations).await.map_err(|failed| failed.of_change(&self.address))? {
            Ok(()) => Ok(Outcome::Committed),
            Err(no) => match operation::verdict(&txn, &no) {
                operation::Verdict::Conflict => Ok(Outcome::Conflict),
                operation::Verdict::LeaseEnded(lease) => Err(StoreError::LeaseEnded(lease)),
                operation::Verdict::Refused(text) => Err(self.address.refused(text)),
            },
        }
    }
}

impl Store for Consul {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        async move {
            let listed = self.client.list(&self.prefix, prefix, None).await;
            let listing = listed.map_err(|failed| failed.of_read(&self.address))?;
            Ok(listing.entries.into_values().collect())
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        self.transact(txn).boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (feed, events) = Feed::new();
        let watcher = watch::Watcher::new(self.client.clone(), self.prefix.clone(), prefix, self.timeouts);
        Watch::new(events, tokio::spawn(watcher.run(feed)))
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        async move {
            let made = self.client.create_session(ttl).await;
            // A session that nobody knows of holds no key and ends by itself: nothing was changed.
            made.map(LeaseId).map_err(|failed| failed.of_read(&self.address))
        }
        .boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        async move {
            match self.client.renew_session(&lease.0).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(StoreError::LeaseEnded(lease.clone())),
                Err(failed) => Err(failed.of_read(&self.address)),
            }
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        async move {
            let destroyed = self.client.destroy_session(&lease.0).await;
            destroyed.map_err(|failed: Failed| failed.of_change(&self.address))
        }
        .boxed()
    }

    fn kind(&self) -> &'static str {
        "consul"
    }
}
