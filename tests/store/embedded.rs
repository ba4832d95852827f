//! What only the embedded store does, and what only etcd's compaction does.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rs_overlay::store::{
    Store, StoreError, Txn,
    embedded::{Embedded, serve::Shared},
    remote::Remote,
};

use crate::{
    servers::{Holder, Server, opened, timeouts},
    suite::commit,
    watched::{Map, Watched, map},
};

#[tokio::test]
async fn a_reader_that_falls_behind_gets_a_listing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&directory.path().join("f"), timeouts()).await.unwrap();
    let mut watched = Watched::new(store.watch("slow/"));
    watched.until("the listing", Map::is_empty).await;
    for n in 0..40 {
        let puts = (0..40).fold(Txn::new(), |txn, key| txn.put(format!("slow/{key}"), n.to_string()));
        commit(&store, puts).await;
    }
    commit(&store, Txn::new().delete("slow/0").put("slow/last", "1")).await;
    watched.until_equal("the last state", &store, "slow/").await;
    assert!(watched.inits >= 2, "1600 changes cannot all have waited");
    commit(&store, Txn::new().put("slow/more", "1")).await;
    watched.until("the watch goes on", |known| known.contains_key("slow/more")).await;
}

#[tokio::test]
async fn watches_end_with_the_store_and_the_file_can_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    let lease = {
        let store = Embedded::open(&file, timeouts()).await.unwrap();
        let mut watch = store.watch("");
        let lease = store.lease(Duration::from_secs(3)).await.unwrap();
        commit(&store, Txn::new().put("again/a", "1").put_leased("again/b", "1", &lease)).await;
        drop(store);
        let ended = async { while watch.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_mins(1), ended).await.expect("the watch does not end");
        lease
    };
    let store = Embedded::open(&file, timeouts()).await.unwrap();
    assert_eq!(map(&store, "again/").await.len(), 2);
    store.keep_alive(&lease).await.unwrap();
    let mut watched = Watched::new(store.watch("again/"));
    watched.until("both keys", |known| known.len() == 2).await;
    watched.until("the end of the lease", |known| known.keys().eq(["again/a"])).await;
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_replaces_what_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (directory.path().join("f"), directory.path().join("f.sock"));
    std::fs::write(&socket, "left by an earlier daemon").unwrap();
    let remote = Remote::new(&socket, timeouts()).unwrap();
    let error = remote.range("").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let shared = Shared::start(Embedded::open(&file, timeouts()).await.unwrap(), &socket).unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    commit(&remote, Txn::new().put("a", "1")).await;
    assert_eq!(map(&shared, "").await, map(&remote, "").await);
    let mut watched = Watched::new(remote.watch(""));
    watched.until("the listing", |known| known.len() == 1).await;
    // Neither the open watch nor idle connections keep the file.
    drop(shared);
    watched.until_state("the end", |watched| watched.losts == 1).await;
    let again = Embedded::open(&file, timeouts()).await.unwrap();
    assert_eq!(map(&again, "").await.len(), 1);
    let _shared = Shared::start(again, &socket).unwrap();
    watched.until_state("the return", |watched| watched.inits == 2).await;
}

#[tokio::test]
async fn a_socket_that_cannot_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x".repeat(120));
    let store = Embedded::open(&file, timeouts()).await.unwrap();
    let socket = rs_overlay::store::embedded::serve::socket_of(&file);
    let error = Shared::start(store, &socket).err().unwrap().to_string();
    assert!(error.contains(&socket.display().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_survived() {
    // The holder may write files of up to 4 MiB, as if the disk ended there.
    let mut holder = Holder::limited(4 << 20);
    let store = holder.store().await;
    let value = "x".repeat(100_000);
    let mut watched = Watched::new(store.watch("disk/"));
    watched.until("the listing", Map::is_empty).await;
    let mut written = 0;
    let error = loop {
        match store.txn(Txn::new().put(format!("disk/{written:03}"), &value)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the limit has no effect");
    };
    assert!(matches!(&error, StoreError::Refused { .. } | StoreError::Unknown { .. }), "{error}");
    eprintln!("after {written}: {error}");
    let mut found = map(&*store, "disk/").await.len();
    assert!(found == written || found == written + 1, "{found} of {written}");
    holder.process().unlimit();
    commit(&*store, Txn::new().put("disk/after", "1")).await;
    found = map(&*store, "disk/").await.len();
    watched
        .until("all that is there", |known| known.len() == found && known.contains_key("disk/after"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_told_how_to_share() {
    let Some(holder) = Holder::start().await else { return };
    let shared = holder.store().await;
    commit(&*shared, Txn::new().put("a", "1")).await;
    let error = Embedded::open(Path::new(&holder.data()), timeouts()).await.err().unwrap().to_string();
    assert!(error.contains("another daemon holds") && error.contains(&holder.url()), "{error}");
    assert_eq!(map(&*opened(&holder.url(), &[]).await, "").await.len(), 1);
}
