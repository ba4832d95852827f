//! A store that somebody stands in front of.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rs_overlay::store::{Entry, LeaseId, Outcome, Store, StoreFuture, Txn, Watch};

/// What has to happen before a transaction is passed on; an error is the answer then.
pub(crate) type Hook = Box<dyn Fn(&Txn) -> StoreFuture<'static, ()> + Send + Sync>;

/// A store with a hook in front of its transactions.
pub(crate) struct Before {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) hook: Hook,
}

impl Store for Before {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.range(prefix)
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        let first = (self.hook)(&txn);
        async move {
            first.await?;
            self.inner.txn(txn).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        self.inner.lease(ttl)
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.keep_alive(lease)
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.revoke(lease)
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}
