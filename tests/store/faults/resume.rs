//! Watches across the end of their server.

use std::fs;

use rs_overlay::store::Txn;

use crate::{
    servers::{Server, answers},
    suite::commit,
    watched::Watched,
};

pub(super) async fn a_restart_loses_no_change<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let store = server.store().await;
    commit(&*store, Txn::new().put("again/kept", "1").put("again/gone", "1")).await;
    let mut watched = Watched::new(store.watch("again/"));
    watched.until("the listing", |known| known.len() == 2).await;
    for round in 0..3 {
        server.process().kill();
        server.process().revive();
        // The first change that it takes, and the next ones, race with the watch that comes back.
        commit(&*store, Txn::new().put(format!("again/{round}"), "first").delete("again/gone")).await;
        for n in 0..20 {
            commit(
                &*store,
                Txn::new().put(format!("again/{round}/{n}"), "1").put("again/kept", n.to_string()),
            )
            .await;
        }
        watched.until_equal("every change", &*store, "again/").await;
    }
}

pub(super) async fn a_wiped_server_is_listed_anew<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let store = server.store().await;
    for n in 0..30 {
        commit(&*store, Txn::new().put(format!("wiped/{n}"), "1")).await;
    }
    let mut watched = Watched::new(store.watch("wiped/"));
    watched.until("the listing", |known| known.len() == 30).await;
    server.process().kill();
    let data = server.data();
    if data.is_dir() { fs::remove_dir_all(data) } else { fs::remove_file(data) }.unwrap();
    server.process().revive();
    answers(&*store).await;
    commit(&*store, Txn::new().put("wiped/new", "1")).await;
    watched.until("just the new key", |known| known.keys().eq(["wiped/new"])).await;
    assert!(watched.inits >= 2, "told as changes, not as a listing");
    commit(&*store, Txn::new().put("wiped/newer", "1")).await;
    watched.until("the watch goes on", |known| known.len() == 2).await;
}
