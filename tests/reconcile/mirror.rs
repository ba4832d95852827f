//! The mirror, fed by a script in place of a store: what it shows in between, and when it lets go.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use rs_overlay::{
    dataplane::fake::FakeKernel,
    store::{
        Entry, LeaseId, Outcome, Revision, Store, StoreError, StoreFuture, Txn, Watch, WatchEvent, keys,
        record,
    },
    watched::Watched,
};
use tokio::sync::mpsc;

use super::host::{Host, check, network, remote, until};

/// A store that answers no call and tells just what it is told to tell.
#[derive(Default)]
struct Script {
    watches: Mutex<BTreeMap<String, mpsc::Sender<WatchEvent>>>,
}

impl Script {
    fn put(key: String, value: String) -> WatchEvent {
        WatchEvent::Put(Entry { key, value, revision: Revision(1) })
    }

    fn sender(&self, prefix: &str) -> Option<mpsc::Sender<WatchEvent>> {
        self.watches.lock().unwrap().get(prefix).cloned()
    }

    async fn tell(&self, prefix: &str, events: impl IntoIterator<Item = WatchEvent>) {
        until("the watch to begin", async || check(self.sender(prefix).is_some(), prefix.to_owned())).await;
        let sender = self.sender(prefix).unwrap();
        for event in events {
            sender.send(event).await.unwrap();
        }
    }
}

fn away<'a, T: Send + 'a>() -> StoreFuture<'a, T> {
    async { Err(StoreError::Unavailable { store: "script".into(), detail: "plays dead".into() }) }.boxed()
}

impl Store for Script {
    fn range<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        away()
    }

    fn txn(&self, _: Txn) -> StoreFuture<'_, Outcome> {
        away()
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (sender, receiver) = mpsc::channel(16);
        self.watches.lock().unwrap().insert(prefix.to_owned(), sender);
        Watch::new(receiver, tokio::spawn(std::future::pending()))
    }

    fn lease(&self, _: Duration) -> StoreFuture<'_, LeaseId> {
        away()
    }

    fn keep_alive<'a>(&'a self, _: &'a LeaseId) -> StoreFuture<'a, ()> {
        away()
    }

    fn revoke<'a>(&'a self, _: &'a LeaseId) -> StoreFuture<'a, ()> {
        away()
    }

    fn kind(&self) -> &'static str {
        "script"
    }
}

fn put(id: &str, last: u8) -> WatchEvent {
    Script::put(
        keys::endpoint(&network().id, &super::host::endpoint_id(id)),
        record::encode(&remote(id, last)),
    )
}

#[tokio::test]
async fn a_listing_replaces_its_section_whole_and_a_network_out_of_use_is_dropped() {
    let script = Arc::new(Script::default());
    let host = Host::start(Arc::clone(&script) as Arc<dyn Store>, Arc::new(FakeKernel::default()));
    let count = |n: usize| {
        move |s: &rs_overlay::model::Snapshot| {
            s.endpoints.get(&network().id).map(|endpoints| endpoints.len()) == Some(n)
        }
    };
    host.attach("e1", 2);
    let prefix = keys::endpoints(&network().id);
    script.tell(&prefix, [WatchEvent::Init, put("r1", 3), put("r2", 4), WatchEvent::InitDone]).await;
    host.snapshot_is("two endpoints", count(2)).await;

    // A new listing that breaks off, and one that is whole; another section is complete meanwhile.
    let before = host.snapshot.now().endpoints.clone();
    script.tell(&prefix, [WatchEvent::Init, put("r3", 5)]).await;
    let net = Script::put(keys::network(&network().id), record::encode(&network()));
    script.tell(keys::NETWORKS, [WatchEvent::Init, net, WatchEvent::InitDone]).await;
    host.snapshot_is("the network", |snapshot| snapshot.networks.len() == 1).await;
    script.tell(&prefix, [WatchEvent::Lost("gone".into())]).await;
    until("the outage to be told", async || {
        let health = host.health.now();
        check(health.trouble.as_deref() == Some("gone"), health)
    })
    .await;
    assert_eq!(host.snapshot.now().endpoints, before);
    script.tell(&prefix, [WatchEvent::Init, put("r4", 6), WatchEvent::InitDone]).await;
    host.snapshot_is("one endpoint", count(1)).await;
    script.tell(&prefix, [put("r5", 7), put("r6", 8)]).await;
    host.snapshot_is("three endpoints", count(3)).await;
    let bad = Script::put(keys::endpoint(&network().id, &super::host::endpoint_id("r5")), "{".into());
    script.tell(&prefix, [bad]).await;
    host.snapshot_is("no more than an unreadable record lost", count(2)).await;

    host.local.remove_endpoint(&super::host::endpoint_id("e1")).unwrap();
    host.snapshot_is("the network's endpoints to be dropped", |snapshot| snapshot.endpoints.is_empty()).await;
    let sender = script.sender(&prefix).unwrap();
    tokio::time::timeout(Duration::from_secs(90), sender.closed()).await.unwrap();
    assert_eq!(host.snapshot.now().networks.len(), 1);
    // The last state is there again at the next start, before any store has answered.
    let snapshot = host.snapshot.now();
    let dir = host.stop().await;
    let host = Host::start_in(dir, Arc::new(Script::default()), Arc::new(FakeKernel::default()));
    assert_eq!(*host.snapshot.now(), *snapshot);
    host.stop().await;
}
