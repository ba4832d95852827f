//! A daemon that dies in the middle of filling a store.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt as _;
use rs_overlay::store::{Store, StoreError, Txn};
use serde_json::json;

use super::scene::{booked, clear, contents, has, settled};
use crate::support::{
    before::Before,
    docker::Net,
    host::{Host, embedded},
};

/// A store that after `left` changes does none any more: as far as it can see, its user is dead.
fn mortal(inner: &Arc<dyn Store>, left: &Arc<AtomicUsize>) -> Arc<dyn Store> {
    let left = Arc::clone(left);
    let hook = move |_: &Txn| {
        let alive = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let dead = || StoreError::Unavailable { store: "mortal".into(), detail: "no more".into() };
        std::future::ready(alive.map(drop).map_err(|_| dead())).boxed()
    };
    Arc::new(Before { inner: Arc::clone(inner), hook: Box::new(hook) })
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
        let left = Arc::new(AtomicUsize::new(changes));
        let dying = Host::standing(mortal(&store, &left), dir.path(), 1);
        dying
            .until("its end, or all to be filled", async || {
                let left = left.load(Ordering::SeqCst);
                let full = contents(&*store).await == before;
                (left > 0 && !full).then(|| format!("{left} changes are left"))
            })
            .await;
        let lived = left.load(Ordering::SeqCst) > 0;
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
