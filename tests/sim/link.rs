//! A host's way to the store, with all that can be wrong with it.

use std::time::Duration;

use futures_util::FutureExt as _;
use rs_overlay::{
    store::{LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch, WatchEvent, timeouts::Timeouts},
    watched::{Followed, Watched},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    deck::{self, Owner},
    effects, host, luck, store,
};

/// How a host reaches the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Link {
    /// Nothing comes through.
    pub(crate) down: bool,
    /// While it is down a connection is refused at once, instead of hanging.
    pub(crate) refuses: bool,
    /// How much longer than usual a request takes.
    pub(crate) slow: Duration,
    /// Requests in a hundred that fail on their way there.
    pub(crate) errors: u32,
    /// Changes in a hundred whose answer is lost on its way back.
    pub(crate) loses: u32,
}

/// The store, as one host reaches it.
pub(crate) struct SimStore(pub(crate) usize);

fn link(host: usize) -> Link {
    host::with(host, |host| host.link.now())
}

fn away(detail: &str) -> StoreError {
    StoreError::Unavailable { store: "sim".into(), detail: detail.into() }
}

fn lost(detail: &str) -> StoreError {
    StoreError::Unknown { store: "sim".into(), detail: detail.into() }
}

fn trip() -> Duration {
    if luck::percent(3) { luck::millis(5..60) } else { luck::millis(0..3) }
}

/// The way there. A request that meets a link that is down may still come through once that is up again.
async fn there(host: usize) {
    let mut links = host::with(host, |host| host.link.subscribe());
    sleep(trip() + link(host).slow).await;
    if link(host).down {
        let delayed = luck::percent(30);
        if !delayed || links.wait_for(|link| !link.down).await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(trip()).await;
    }
}

/// The way back, for whoever still waits.
async fn back(host: usize) {
    sleep(trip()).await;
    if link(host).down {
        std::future::pending::<()>().await;
    }
}

/// Asks the store. What has been sent arrives also if the asker is no more.
async fn ask<T: Send + 'static>(
    host: usize,
    changes: bool,
    act: impl FnOnce(&mut store::Cluster) -> T + Send + 'static,
) -> Result<T, StoreError> {
    let now = link(host);
    let deadline = Instant::now() + Timeouts::default().call;
    if now.down && now.refuses || luck::percent(now.errors) {
        sleep(trip()).await;
        return Err(away("connection refused"));
    }
    let (answer, answered) = oneshot::channel();
    deck::spawn(Owner::World, async move {
        there(host).await;
        // Nobody may wait any more.
        let _ = answer.send(store::with(act));
    });
    let late = || if changes { lost("no answer in time") } else { away("no answer in time") };
    match timeout_at(deadline, answered).await {
        Ok(Ok(done)) => Ok(done),
        _ => Err(late()),
    }
}

async fn answer(host: usize, deadline: Instant, changes: bool) -> Result<(), StoreError> {
    let gone = changes && luck::percent(link(host).loses);
    let late = || if changes { lost("the answer is lost") } else { away("no answer in time") };
    if gone {
        sleep(trip()).await;
        return Err(late());
    }
    timeout_at(deadline, back(host)).await.map_err(|_| late())
}

fn deadline() -> Instant {
    Instant::now() + Timeouts::default().call
}

impl Store for SimStore {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<rs_overlay::store::Entry>> {
        let (host, prefix, until) = (self.0, prefix.to_owned(), deadline());
        async move {
            let found = ask(host, false, move |store| store.range(&prefix)).await?;
            answer(host, until, false).await?;
            Ok(found)
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        let (host, until) = (self.0, deadline());
        async move {
            let what = || format!("txn {}", text_of(&txn));
            let number = effects::before(host, what);
            let sent = txn.clone();
            let outcome = ask(host, true, move |store| store.commit(&sent)).await?;
            effects::after(host, number, || format!("{outcome:?} {}", what()));
            answer(host, until, true).await?;
            outcome
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (events, receiver) = mpsc::channel(256);
        deck::spawn(Owner::World, feed(self.0, prefix.to_owned(), events));
        // The feed ends when nobody listens; there is no task of tokio's to end.
        Watch::new(receiver, tokio::spawn(async {}))
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        let (host, until) = (self.0, deadline());
        async move {
            let number = effects::before(host, || "lease".into());
            let id = ask(host, false, move |store| store.lease(ttl)).await?;
            effects::after(host, number, || "lease".into());
            answer(host, until, false).await?;
            Ok(LeaseId(id.to_string()))
        }
        .boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        let (host, until) = (self.0, deadline());
        async move {
            let id = lease.0.parse().unwrap();
            let alive = ask(host, false, move |store| store.renew(id)).await?;
            answer(host, until, false).await?;
            if alive { Ok(()) } else { Err(StoreError::LeaseEnded(lease.clone())) }
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        let (host, until) = (self.0, deadline());
        async move {
            let id = lease.0.parse().unwrap();
            ask(host, false, move |store| store.end_lease(id)).await?;
            answer(host, until, false).await
        }
        .boxed()
    }

    fn kind(&self) -> &'static str {
        "sim"
    }
}

fn text_of(txn: &Txn) -> String {
    let changes: Vec<_> = txn
        .changes
        .iter()
        .map(|change| match change {
            rs_overlay::store::Change::Put { key, .. } => format!("put {key}"),
            rs_overlay::store::Change::Delete { key } => format!("delete {key}"),
        })
        .collect();
    changes.join(", ")
}

/// Fills one watch: late, now and then twice, and with a new listing after an outage or a compaction.
async fn feed(host: usize, prefix: String, events: mpsc::Sender<WatchEvent>) {
    let mut links = host::with(host, |host| host.link.subscribe());
    let mut changes = store::with(|store| store.changes());
    let mut position = None;
    loop {
        if links.catch_up().down {
            let patience = luck::millis(50..5000);
            let up = tokio::time::timeout(patience, links.wait_for(|link| !link.down)).await.is_ok();
            // A connection may outlive a short cut.
            if !up || luck::percent(50) {
                position = None;
            }
            if !up {
                if events.send(WatchEvent::Lost("no answer".into())).await.is_err() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = events.closed() => return,
                    up = links.wait_for(|link| !link.down) => if up.is_err() { return },
                }
                sleep(luck::millis(0..400)).await;
                if links.now().down {
                    continue;
                }
            }
        }
        let told = match position {
            None => list(host, &prefix, &events, &mut position).await,
            Some(at) => follow(at, &prefix, &events, &mut position, &mut changes, &mut links).await,
        };
        if told.is_err() {
            return;
        }
    }
}

async fn list(
    host: usize,
    prefix: &str,
    events: &mpsc::Sender<WatchEvent>,
    position: &mut Option<u64>,
) -> Result<(), mpsc::error::SendError<WatchEvent>> {
    sleep(trip() + link(host).slow).await;
    let (entries, revision) = store::with(|store| (store.range(prefix), store.revision()));
    sleep(trip()).await;
    if link(host).down {
        return Ok(());
    }
    events.send(WatchEvent::Init).await?;
    for entry in entries {
        events.send(WatchEvent::Put(entry)).await?;
    }
    events.send(WatchEvent::InitDone).await?;
    *position = Some(revision);
    Ok(())
}

async fn follow(
    at: u64,
    prefix: &str,
    events: &mpsc::Sender<WatchEvent>,
    position: &mut Option<u64>,
    changes: &mut watch::Receiver<u64>,
    links: &mut watch::Receiver<Link>,
) -> Result<(), mpsc::error::SendError<WatchEvent>> {
    changes.mark_unchanged();
    match store::with(|store| store.after(at, prefix)) {
        Err(()) => *position = None,
        Ok(Some((next, event))) => {
            sleep(trip()).await;
            if links.now().down {
                return Ok(());
            }
            if luck::percent(5) {
                events.send(event.clone()).await?;
            }
            events.send(event).await?;
            *position = Some(next);
        }
        Ok(None) => {
            *position = Some(at.max(store::with(|store| store.revision())));
            tokio::select! {
                biased;
                () = events.closed() => return Err(mpsc::error::SendError(WatchEvent::Init)),
                _ = links.changed() => {}
                _ = changes.changed() => {}
            }
        }
    }
    Ok(())
}
