//! Leases.

use std::time::Duration;

use rs_overlay::store::{LeaseId, Store, StoreError, Txn};
use tokio::time::{Instant, sleep};

use super::commit;
use crate::watched::{Watched, map};

/// Shortest that every store can do without lengthening it much; Consul makes 10 s of it.
const TTL: Duration = Duration::from_secs(3);

pub(super) async fn an_unrenewed_lease_takes_its_keys(store: &dyn Store) {
    let lease = store.lease(TTL).await.unwrap();
    commit(
        store,
        Txn::new().put_leased("ends/a", "1", &lease).put_leased("ends/b", "1", &lease).put("ends/c", "1"),
    )
    .await;
    let mut watched = Watched::new(store.watch("ends/"));
    watched.until("all keys", |known| known.len() == 3).await;
    watched.until("the end of the leased ones", |known| known.keys().eq(["ends/c"])).await;
    assert_eq!(watched.inits, 1, "the watch tells the end as deletes");
    assert_eq!(map(store, "ends/").await.into_keys().collect::<Vec<_>>(), ["ends/c"]);
    ended(&store.keep_alive(&lease).await, &lease);
    ended(&store.txn(Txn::new().put_leased("ends/d", "1", &lease)).await, &lease);
    assert_eq!(map(store, "ends/").await.len(), 1);
}

pub(super) async fn renewal_keeps_keys(store: &dyn Store) {
    let ttl = Duration::from_secs(5);
    let lease = store.lease(ttl).await.unwrap();
    commit(store, Txn::new().put_leased("kept/a", "1", &lease)).await;
    // Longer than any store keeps a lease by itself: Consul doubles its 10 s.
    let end = Instant::now() + Duration::from_secs(23);
    while Instant::now() < end {
        store.keep_alive(&lease).await.unwrap();
        assert_eq!(map(store, "kept/").await.len(), 1);
        sleep(Duration::from_millis(500)).await;
    }
    store.revoke(&lease).await.unwrap();
}

pub(super) async fn revoking_takes_keys_at_once(store: &dyn Store) {
    let lease = store.lease(Duration::from_mins(1)).await.unwrap();
    let other = store.lease(Duration::from_mins(1)).await.unwrap();
    commit(store, Txn::new().put_leased("revoked/a", "1", &lease).put_leased("revoked/b", "1", &other)).await;
    let mut watched = Watched::new(store.watch("revoked/"));
    watched.until("both keys", |known| known.len() == 2).await;
    store.revoke(&lease).await.unwrap();
    assert_eq!(map(store, "revoked/").await.into_keys().collect::<Vec<_>>(), ["revoked/b"]);
    watched.until("the end of one", |known| known.keys().eq(["revoked/b"])).await;
    ended(&store.keep_alive(&lease).await, &lease);
    store.keep_alive(&other).await.unwrap();
    store.revoke(&lease).await.unwrap();
    store.revoke(&other).await.unwrap();
}

pub(super) async fn a_lease_that_never_was_has_ended(store: &dyn Store) {
    for name in ["", "nonsense", "7f", "11111111-1111-1111-1111-111111111111", "ä/../x"] {
        let lease = LeaseId(name.into());
        ended(&store.keep_alive(&lease).await, &lease);
        ended(&store.txn(Txn::new().put("never/b", "1").put_leased("never/a", "1", &lease)).await, &lease);
        store.revoke(&lease).await.unwrap();
    }
    assert!(map(store, "never/").await.is_empty());
}

pub(super) async fn a_key_moves_to_a_new_lease(store: &dyn Store) {
    let old = store.lease(Duration::from_mins(1)).await.unwrap();
    let new = store.lease(Duration::from_mins(1)).await.unwrap();
    commit(store, Txn::new().put_leased("moved/a", "old", &old)).await;
    commit(store, Txn::new().put_leased("moved/a", "new", &new)).await;
    store.revoke(&old).await.unwrap();
    assert_eq!(map(store, "moved/").await.into_values().collect::<Vec<_>>(), ["new"]);
    store.revoke(&new).await.unwrap();
    assert!(map(store, "moved/").await.is_empty());
}

fn ended<T: std::fmt::Debug>(result: &Result<T, StoreError>, lease: &LeaseId) {
    assert!(matches!(result, Err(StoreError::LeaseEnded(named)) if named == lease), "{lease:?}: {result:?}");
}
