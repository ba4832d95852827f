//! etcd behind a line that can be cut: what a watch does about the part of history that it missed.

use std::sync::Arc;

use futures_util::future::join_all;
use rs_overlay::store::{Store, StoreError, Txn};

use crate::{
    proxy::Proxy,
    servers::{Etcd, Server, answers, free_port, opened},
    suite::commit,
    watched::{Map, Watched},
};

struct Line {
    server: Etcd,
    proxy: Proxy,
    /// Reaches the server without the line.
    direct: Arc<dyn Store>,
    /// Reaches it through the line.
    far: Arc<dyn Store>,
}

impl Line {
    async fn new() -> Option<Self> {
        let server = Etcd::start().await?;
        let direct = server.store().await;
        let proxy = Proxy::to(server.port()).await;
        let far = opened(&format!("etcd://127.0.0.1:{}", proxy.port), &[]).await;
        answers(&*far).await;
        Some(Self { server, proxy, direct, far })
    }

    /// Forgets history up to now.
    async fn compact(&self) {
        let endpoint = format!("http://127.0.0.1:{}", self.server.port());
        let mut client = etcd_client::Client::connect([endpoint], None).await.unwrap();
        let now = client.get("x", None).await.unwrap().header().unwrap().revision();
        client.compact(now, Some(etcd_client::CompactionOptions::new().with_physical())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_break_needs_no_listing() {
    let Some(line) = Line::new().await else { return };
    commit(&*line.direct, Txn::new().put("break/a", "1").put("break/b", "1")).await;
    let mut watched = Watched::new(line.far.watch("break/"));
    watched.until("the listing", |known| known.len() == 2).await;
    for round in 0..5 {
        // Mended at once: the connections are gone, the next attempt finds a server.
        line.proxy.cut();
        commit(&*line.direct, Txn::new().put(format!("break/{round}"), "1").delete("break/a")).await;
        line.proxy.mend();
        watched.until_equal("what happened in the break", &*line.direct, "break/").await;
    }
    let told = watched.losts;
    assert_eq!(watched.inits, 1 + told, "a listing more than outages ({told})");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_during_a_break_brings_a_listing() {
    let Some(line) = Line::new().await else { return };
    commit(&*line.direct, Txn::new().put("compact/a", "1").put("compact/b", "1")).await;
    let mut watched = Watched::new(line.far.watch("compact/"));
    watched.until("the listing", |known| known.len() == 2).await;
    line.proxy.cut();
    for n in 0..50 {
        commit(&*line.direct, Txn::new().put(format!("compact/{n}"), "1").delete("compact/a")).await;
    }
    line.compact().await;
    line.proxy.mend();
    watched.until_equal("what happened in the break", &*line.direct, "compact/").await;
    assert_eq!(watched.inits, 2);
    commit(&*line.direct, Txn::new().put("compact/after", "1")).await;
    watched.until("a change afterwards", |known| known.contains_key("compact/after")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_too_long_for_one_answer_brings_a_listing() {
    let Some(line) = Line::new().await else { return };
    let mut watched = Watched::new(line.far.watch("long/"));
    watched.until("the listing", Map::is_empty).await;
    line.proxy.cut();
    // etcd tells a watcher that comes back all it missed in one answer, here of 10 MB.
    let value = "x".repeat(100_000);
    for n in 0..100 {
        commit(&*line.direct, Txn::new().put(format!("long/{n}"), &value)).await;
    }
    line.proxy.mend();
    watched.until_equal("what happened in the break", &*line.direct, "long/").await;
    commit(&*line.direct, Txn::new().put("long/after", "1")).await;
    watched.until("a change afterwards", |known| known.contains_key("long/after")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_under_a_slow_reader_ends_in_the_last_state() {
    let Some(line) = Line::new().await else { return };
    let mut watched = Watched::new(line.far.watch("slow/"));
    watched.until("the listing", Map::is_empty).await;
    // Nobody reads meanwhile. etcd keeps 1024 answers in memory for a watcher, and 50 MB are more than
    // all buffers on the way hold: what is left it has to look up in its history.
    let value = "x".repeat(20_000);
    for n in 0..130 {
        let puts = (0..20)
            .map(|key| commit(&*line.direct, Txn::new().put(format!("slow/{key}"), format!("{n}{value}"))));
        join_all(puts).await;
    }
    commit(&*line.direct, Txn::new().delete("slow/0").put("slow/last", "1")).await;
    line.compact().await;
    let wanted = line.direct.range("slow/").await.unwrap().len();
    watched.until("the last state", |known| known.len() == wanted && known.contains_key("slow/last")).await;
    watched.until_equal("the last values", &*line.direct, "slow/").await;
    assert!(watched.inits >= 2, "history was forgotten without effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_refuses_changes_and_still_answers() {
    let quota = |_: &std::path::Path| vec!["--quota-backend-bytes=2000000".to_owned()];
    let Some(server) = Etcd::with(quota, "http") else { return };
    let store = server.store().await;
    let value = "x".repeat(100_000);
    let (mut written, mut tries) = (0, 0);
    let error = loop {
        match store.txn(Txn::new().put(format!("full/{written}"), &value)).await {
            Ok(_) => written += 1,
            // A busy machine may keep it from answering in time.
            Err(StoreError::Unavailable { .. } | StoreError::Unknown { .. }) if tries < 20 => tries += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "it takes more than its quota");
    };
    assert!(matches!(&error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("space"), "{error}");
    assert_eq!(store.range("full/").await.unwrap().len(), written);
    let mut watched = Watched::new(store.watch("full/"));
    watched.until("the listing", |known| known.len() == written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_in_the_list_is_passed_over() {
    let Some(server) = Etcd::start().await else { return };
    server.store().await;
    let url = format!("etcd://127.0.0.1:{},127.0.0.1:{}", free_port(), server.port());
    let store = opened(&url, &[]).await;
    for n in 0..20 {
        match store.txn(Txn::new().put(format!("member/{n}"), "1")).await {
            Ok(_) => {}
            Err(error @ StoreError::Unavailable { .. }) => panic!("{n}: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
    let mut watched = Watched::new(store.watch("member/"));
    watched.until("the listing", |known| known.len() == 20).await;
}
