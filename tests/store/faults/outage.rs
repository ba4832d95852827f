//! A store that is away: calls end within their deadline, watches say so once, and all comes back alone.

use std::time::Duration;

use rs_overlay::store::{LeaseId, StoreError, Txn};
use tokio::time::{Instant, sleep};

use crate::{
    servers::{PATIENCE, Server, answers},
    suite::commit,
    watched::Watched,
};

/// The deadline of a call is 2 s; the rest is for a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(20);

pub(super) async fn calls_fail_in_time_and_recover<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let store = server.store().await;
    commit(&*store, Txn::new().put("down/a", "1")).await;
    let lease = store.lease(Duration::from_mins(1)).await.unwrap();
    server.process().kill();
    // The first call may still meet a connection that is only just closing.
    sleep(Duration::from_millis(200)).await;
    let _ = store.range("down/").await;

    unavailable("range", store.range("down/")).await;
    unavailable("txn", store.txn(Txn::new().put("down/b", "1"))).await;
    unavailable("lease", store.lease(Duration::from_mins(1))).await;
    unavailable("keep_alive", store.keep_alive(&lease)).await;
    unavailable("revoke", store.revoke(&LeaseId(lease.0.clone()))).await;
    let mut watched = Watched::new(store.watch("down/"));
    watched.until_state("the outage", |watched| watched.losts == 1).await;

    server.process().revive();
    answers(&*store).await;
    watched.until_equal("what is there", &*store, "down/").await;
    commit(&*store, Txn::new().put("down/c", "1")).await;
    watched.until("a change", |known| known.contains_key("down/c")).await;
    assert_eq!(store.range("down/").await.unwrap().len(), 2, "what failed was not done");
    // It has survived the restart with its whole time, or with what was left of that.
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.keep_alive(&lease).await {
        assert!(!matches!(error, StoreError::LeaseEnded(_)), "{error}");
        assert!(Instant::now() < deadline, "{error}");
    }
}

pub(super) async fn a_frozen_server_is_an_outage<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let store = server.store().await;
    commit(&*store, Txn::new().put("frozen/a", "1")).await;
    let mut watched = Watched::new(store.watch("frozen/"));
    watched.until("the listing", |known| known.len() == 1).await;
    server.process().freeze();
    unavailable("range", store.range("frozen/")).await;
    let start = Instant::now();
    let error = store.txn(Txn::new().put("frozen/b", "1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. } | StoreError::Unavailable { .. }), "{error}");
    assert!(start.elapsed() < IN_TIME, "the txn took {:?}", start.elapsed());
    watched.until_state("the outage", |watched| watched.losts == 1).await;
    watched.for_a_while(Duration::from_secs(3)).await;
    assert_eq!(watched.losts, 1);
    server.process().thaw();
    answers(&*store).await;
    commit(&*store, Txn::new().put("frozen/c", "1")).await;
    watched.until("a change afterwards", |known| known.contains_key("frozen/c")).await;
    watched.until_equal("what is there", &*store, "frozen/").await;
}

async fn unavailable<T: std::fmt::Debug>(what: &str, call: impl Future<Output = Result<T, StoreError>>) {
    let start = Instant::now();
    let result = call.await;
    assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{what}: {result:?}");
    assert!(start.elapsed() < IN_TIME, "{what} took {:?}", start.elapsed());
}
