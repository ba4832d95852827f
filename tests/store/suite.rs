//! What every store does, as functions over `&dyn Store`. Each works below a prefix of its own.

mod claims;
mod leases;
mod ranges;
mod watches;

use std::time::Duration;

use futures_util::{FutureExt as _, future::join_all};
use rs_overlay::store::{Outcome, Store, StoreError, Txn};
use tokio::time::{Instant, timeout};

use super::servers::PATIENCE;

/// All behaviours, at the same time: so they also stand in each other's way as tenants of a store do.
pub(crate) async fn all(store: &dyn Store) {
    // One that hangs is named.
    macro_rules! named {
        ($($behaviour:path),* $(,)?) => {
            vec![$(async {
                let done = timeout(4 * PATIENCE, $behaviour(store)).await;
                assert!(done.is_ok(), "{} does not end", stringify!($behaviour));
            }.boxed()),*]
        };
    }
    join_all(named![
        claims::of_two_one_wins,
        claims::of_many_one_wins,
        claims::a_changed_key_is_noticed,
        claims::a_failed_guard_changes_nothing,
        claims::deleting_what_is_absent_is_fine,
        claims::sixty_four_fit_and_no_more,
        claims::nothing_to_do_is_done,
        ranges::sorted_and_by_plain_prefix,
        ranges::values_come_back_as_they_were,
        ranges::many_entries_come_whole,
        watches::listing_then_changes,
        watches::others_keys_are_not_told,
        watches::many_changes_end_in_the_last_state,
        watches::dropping_it_ends_it,
        leases::an_unrenewed_lease_takes_its_keys,
        leases::renewal_keeps_keys,
        leases::revoking_takes_keys_at_once,
        leases::a_lease_that_never_was_has_ended,
        leases::a_key_moves_to_a_new_lease,
    ])
    .await;
}

/// Commits `txn` whatever it takes; only for such as may be done twice.
pub(crate) async fn commit(store: &dyn Store, txn: Txn) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.txn(txn.clone()).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Committed);
                return;
            }
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. })) => {
                assert!(Instant::now() < deadline, "the store does not take changes: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
