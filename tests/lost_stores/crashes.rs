//! A daemon that dies in the middle of filling a store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use rs_overlay::store::{Entry, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch};
use serde_json::json;

use super::scene::{booked, clear, contents, has, settled};
use crate::support::{
    docker::Net,
    host::{Host, embedded},
};

/// A store that after some changes does none any more: as far as it can see, its user is dead.
struct Mortal {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
}

impl Store for Mortal {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.range(prefix)
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        let alive = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if alive.is_err() {
            let error = StoreError::Unavailable { store: "mortal".into(), detail: "no more".into() };
            return async { Err(error) }.boxed();
        }
        self.inner.txn(txn)
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
        "mortal"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let aux = ["10.9.0.77"];
    let one = Net::create_with(&a, 1, &json!({"Pool": "10.9.0.0/24"}), &aux, &json!({})).await.unwrap();
    Net::create(&a, 2, "10.8.0.0/24").await;
    let ip = one.take(&a, "").await.unwrap();
    one.endpoint(&a, 10, &ip).await.success("endpoint");
    let mut incarnation = settled(&[&a], None).await;
    booked(&[&a]).await;
    let before = contents(&*store).await;
    a.crash().await;
    for changes in 0.. {
        clear(&*store).await;
        let mortal = Arc::new(Mortal { inner: Arc::clone(&store), left: AtomicUsize::new(changes) });
        let dying = Host::standing(Arc::clone(&mortal) as Arc<dyn Store>, dir.path(), 1);
        dying
            .until("its end, or all to be filled", async || {
                let left = mortal.left.load(Ordering::SeqCst);
                let full = contents(&*store).await == before;
                (left > 0 && !full).then(|| format!("{left} changes are left"))
            })
            .await;
        let lived = mortal.left.load(Ordering::SeqCst) > 0;
        dying.crash().await;
        let a = Host::standing(Arc::clone(&store), dir.path(), 1);
        incarnation = settled(&[&a], Some(&incarnation)).await;
        has(&*store, &before).await;
        a.crash().await;
        if lived {
            assert!(changes > 4, "only {changes} changes fill a store");
            return;
        }
    }
}
