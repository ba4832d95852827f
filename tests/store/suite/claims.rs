//! Transactions: who wins, and that all or nothing happens.

use futures_util::future::join_all;
use rs_overlay::store::{Outcome, Store, StoreError, TXN_LIMIT, Txn};

use super::commit;
use crate::watched::map;

pub(super) async fn of_two_one_wins(store: &dyn Store) {
    for round in 0..10 {
        one_wins(store, &format!("two/{round}"), 2).await;
    }
}

pub(super) async fn of_many_one_wins(store: &dyn Store) {
    for round in 0..3 {
        one_wins(store, &format!("many/{round}"), 32).await;
    }
}

async fn one_wins(store: &dyn Store, prefix: &str, claimants: usize) {
    let claim = |me: usize| {
        let key = format!("{prefix}/claim");
        store.txn(
            Txn::new().absent(&key).put(&key, me.to_string()).put(format!("{prefix}/owner"), me.to_string()),
        )
    };
    let outcomes: Vec<_> =
        join_all((0..claimants).map(claim)).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = (0..claimants).filter(|me| outcomes[*me] == Outcome::Committed).collect();
    let [winner] = winners[..] else { panic!("{prefix}: {winners:?} won") };
    let found = map(store, &format!("{prefix}/")).await;
    assert!(found.len() == 2 && found.values().all(|value| *value == winner.to_string()), "{found:?}");
}

pub(super) async fn a_changed_key_is_noticed(store: &dyn Store) {
    commit(store, Txn::new().put("changed/a", "1")).await;
    let read = store.range("changed/").await.unwrap().remove(0);
    let update = |value| store.txn(Txn::new().unchanged(&read).put("changed/a", value));
    assert_eq!(update("2").await.unwrap(), Outcome::Committed);
    assert_eq!(update("3").await.unwrap(), Outcome::Conflict);
    let now = store.range("changed/").await.unwrap().remove(0);
    assert_eq!(now.value, "2");
    assert_ne!(now.revision, read.revision);
    commit(store, Txn::new().delete("changed/a")).await;
    assert_eq!(store.txn(Txn::new().unchanged(&now).put("changed/a", "4")).await.unwrap(), Outcome::Conflict);
    // The same value written again is another state.
    commit(store, Txn::new().put("changed/a", "2")).await;
    assert_eq!(store.txn(Txn::new().unchanged(&now).delete("changed/a")).await.unwrap(), Outcome::Conflict);
    let again = store.range("changed/").await.unwrap().remove(0);
    assert_eq!(
        store.txn(Txn::new().unchanged(&again).delete("changed/a")).await.unwrap(),
        Outcome::Committed
    );
    assert!(map(store, "changed/").await.is_empty());
}

pub(super) async fn a_failed_guard_changes_nothing(store: &dyn Store) {
    commit(store, Txn::new().put("atomic/there", "1").put("atomic/other", "1")).await;
    let before = store.range("atomic/").await.unwrap();
    let other = before.iter().find(|entry| entry.key == "atomic/other").unwrap();
    let bad = Txn::new().unchanged(other).absent("atomic/there");
    let bad = bad.put("atomic/new", "1").put("atomic/there", "2").delete("atomic/other");
    assert_eq!(store.txn(bad).await.unwrap(), Outcome::Conflict);
    assert_eq!(store.range("atomic/").await.unwrap(), before);
}

pub(super) async fn deleting_what_is_absent_is_fine(store: &dyn Store) {
    commit(store, Txn::new().delete("absent/a").put("absent/b", "1")).await;
    assert_eq!(map(store, "absent/").await.into_keys().collect::<Vec<_>>(), ["absent/b"]);
}

pub(super) async fn sixty_four_fit_and_no_more(store: &dyn Store) {
    let half = TXN_LIMIT / 2;
    let claim = |txn: Txn, n: usize| txn.absent(format!("long/{n:02}")).put(format!("long/{n:02}"), "1");
    let most = (0..half).fold(Txn::new(), claim);
    assert_eq!(store.txn(most).await.unwrap(), Outcome::Committed);
    let puts = (0..TXN_LIMIT).fold(Txn::new(), |txn, n| txn.put(format!("long/{n:02}"), "2"));
    assert_eq!(store.txn(puts.clone()).await.unwrap(), Outcome::Committed);
    let before = map(store, "long/").await;
    assert_eq!(before.len(), TXN_LIMIT);
    let error = store.txn(puts.delete("long/one-more")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("65 guards and changes is too long"), "{error}");
    assert_eq!(map(store, "long/").await, before);
}

pub(super) async fn nothing_to_do_is_done(store: &dyn Store) {
    assert_eq!(store.txn(Txn::new()).await.unwrap(), Outcome::Committed);
    assert_eq!(store.txn(Txn::new().absent("nothing/a")).await.unwrap(), Outcome::Committed);
    commit(store, Txn::new().put("nothing/a", "1")).await;
    assert_eq!(store.txn(Txn::new().absent("nothing/a")).await.unwrap(), Outcome::Conflict);
}
