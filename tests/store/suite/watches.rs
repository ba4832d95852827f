//! Watches while nothing breaks.

use std::{collections::BTreeSet, time::Duration};

use rs_overlay::store::{Store, Txn, WatchEvent};

use super::commit;
use crate::watched::{Map, Watched};

pub(super) async fn listing_then_changes(store: &dyn Store) {
    commit(store, Txn::new().put("order/a", "1").put("order/b", "1")).await;
    let mut watched = Watched::new(store.watch("order/"));
    assert_eq!(watched.raw().await, WatchEvent::Init);
    for key in ["order/a", "order/b"] {
        assert!(
            matches!(watched.raw().await, WatchEvent::Put(entry) if entry.key == key && entry.value == "1")
        );
    }
    assert_eq!(watched.raw().await, WatchEvent::InitDone);
    commit(store, Txn::new().put("order/a", "2")).await;
    let WatchEvent::Put(told) = watched.raw().await else { panic!("no Put") };
    // What a watch tells can be used as a guard.
    assert_eq!(store.range("order/a").await.unwrap(), std::slice::from_ref(&told));
    commit(store, Txn::new().unchanged(&told).delete("order/a")).await;
    assert_eq!(watched.raw().await, WatchEvent::Delete("order/a".into()));
    commit(store, Txn::new().put("order/c", "3").delete("order/b")).await;
    let both: BTreeSet<_> = [watched.raw().await, watched.raw().await]
        .into_iter()
        .map(|event| match event {
            WatchEvent::Put(entry) => format!("put {}", entry.key),
            WatchEvent::Delete(key) => format!("delete {key}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(both, ["delete order/b".to_owned(), "put order/c".to_owned()].into());
}

pub(super) async fn others_keys_are_not_told(store: &dyn Store) {
    let mut watched = Watched::new(store.watch("mine/a"));
    watched.until("the first listing", Map::is_empty).await;
    commit(store, Txn::new().put("mine/b", "1").put("mine", "1").put("mine/ab", "1").put("mine/a/1", "1"))
        .await;
    watched.until("both keys", |known| known.len() == 2).await;
    watched.for_a_while(Duration::from_millis(300)).await;
    let keys: Vec<_> = ["mine/a/1", "mine/ab"].into();
    watched.until("just these keys", |known| known.keys().collect::<Vec<_>>() == keys).await;
}

pub(super) async fn many_changes_end_in_the_last_state(store: &dyn Store) {
    let mut watched = Watched::new(store.watch("busy/"));
    for n in 0..200 {
        let txn = Txn::new().put(format!("busy/{}", n % 7), n.to_string());
        commit(store, if n % 5 == 0 { txn.delete(format!("busy/{}", (n + 3) % 7)) } else { txn }).await;
    }
    watched.until_equal("the last state", store, "busy/").await;
}

pub(super) async fn dropping_it_ends_it(store: &dyn Store) {
    for _ in 0..20 {
        let mut watched = Watched::new(store.watch("dropped/"));
        watched.until("the first listing", |known| known.len() <= 1).await;
        drop(watched);
        drop(store.watch("dropped/"));
        commit(store, Txn::new().put("dropped/a", "1")).await;
    }
}
