//! Lets nothing be written into a store that is not known to be the one that was known before.
//!
//! A store that was emptied, set back to an earlier time, or exchanged for another looks like one from
//! which much was removed, and what is written there by somebody who has not noticed may collide with what
//! lives. So each transaction gets one more guard: a key that is there only as long as the store is as it
//! was. Whoever finds out how the store is tells this gate its [`Footing`].

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{Entry, Guard, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch};
use crate::watched::{Followed, Watched};

/// How long a change waits until it is known how the store is.
const PATIENCE: Duration = Duration::from_secs(2);
/// How old the news of a store that is away may be before another look is asked for.
const STALE: Duration = Duration::from_millis(300);

/// How the store is, as far as anybody knows.
#[derive(Debug, Clone, Default)]
pub enum Footing {
    /// Nobody has looked yet, or something has happened since.
    #[default]
    Unsure,
    /// The last look at it failed.
    Away {
        /// How.
        error: StoreError,
        /// When.
        at: Instant,
    },
    /// It was emptied or set back, and this host fills it again.
    Refilling,
    /// It is left alone, for the reason given as the end of a sentence that begins with the store.
    Foreign(String),
    /// It is the one that is known.
    Sure {
        /// What holds as long as that is so.
        guard: Guard,
        /// Until when other hosts may still be filling it; absent: they are done.
        settles: Option<Instant>,
    },
}

impl Footing {
    /// Whether other hosts may still be filling the store: what is not there may be in use.
    pub fn is_settling(&self) -> bool {
        match self {
            Self::Refilling => true,
            Self::Sure { settles, .. } => settles.is_some_and(|until| Instant::now() < until),
            Self::Unsure | Self::Away { .. } | Self::Foreign(_) => false,
        }
    }
}

/// A store behind a gate.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<dyn Store>,
    footing: Arc<watch::Sender<Footing>>,
    wanted: Arc<Notify>,
}

impl Gate {
    /// Puts a gate in front of `inner`; it is closed until its footing is told.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, footing: Arc::new(watch::Sender::new(Footing::Unsure)), wanted: Arc::default() }
    }

    /// The store behind it.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// The footing, now and whenever it changes.
    pub fn footing(&self) -> watch::Receiver<Footing> {
        self.footing.subscribe()
    }

    /// Tells the footing.
    pub fn set(&self, footing: Footing) {
        self.footing.send_replace(footing);
    }

    /// Something has happened that makes the store doubtful, if it was certain.
    pub fn doubt(&self) {
        self.footing.send_if_modified(|footing| {
            let sure = matches!(footing, Footing::Sure { .. });
            if sure {
                *footing = Footing::Unsure;
            }
            sure
        });
        self.wanted.notify_one();
    }

    /// Waits until somebody wants to know how the store is. Cancel safe.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The same store for whoever fills it: past the footing, but guarded.
    pub fn under(&self, guard: Guard) -> Arc<dyn Store> {
        Arc::new(Guarded { inner: self.inner.clone(), guard })
    }

    /// Waits until it is known how the store is, and answers what has to hold for a change.
    async fn guard(&self) -> Result<Guard, StoreError> {
        let mut footing = self.footing.subscribe();
        let end = Instant::now() + PATIENCE;
        loop {
            let now = footing.catch_up();
            match now {
                Footing::Sure { guard, .. } => return Ok(guard),
                Footing::Foreign(detail) => return Err(self.unsettled(detail)),
                Footing::Away { error, at } if at.elapsed() < STALE => return Err(error),
                Footing::Away { .. } => self.wanted.notify_one(),
                Footing::Unsure | Footing::Refilling => {}
            }
            if !matches!(tokio::time::timeout_at(end, footing.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        let now = footing.now();
        match now {
            Footing::Sure { guard, .. } => Ok(guard),
            Footing::Foreign(detail) => Err(self.unsettled(detail)),
            Footing::Away { error, .. } => Err(error),
            Footing::Refilling => Err(self.unsettled(REFILLING)),
            Footing::Unsure => Err(self.unsettled("has not been looked at yet")),
        }
    }

    fn unsettled(&self, detail: impl Into<String>) -> StoreError {
        unsettled(&*self.inner, detail)
    }
}

/// What is said of a store that was emptied or set back.
const REFILLING: &str = "was emptied or set back, and is being filled again by the hosts";

fn unsettled(store: &dyn Store, detail: impl Into<String>) -> StoreError {
    StoreError::Unsettled { store: store.kind().to_owned(), detail: detail.into() }
}

/// Adds `guard` to a transaction, and tells a conflict with it from any other.
async fn guarded(inner: &dyn Store, guard: Guard, mut txn: Txn) -> Result<Outcome, StoreError> {
    txn.guards.push(guard.clone());
    if inner.txn(txn).await? == Outcome::Committed {
        return Ok(Outcome::Committed);
    }
    let key = match &guard {
        Guard::Absent(key) | Guard::Unchanged(key, _) => key,
    };
    let there = inner.range(key).await?.into_iter().find(|entry| entry.key == *key);
    let holds = match &guard {
        Guard::Absent(_) => there.is_none(),
        Guard::Unchanged(_, revision) => there.is_some_and(|entry| entry.revision == *revision),
    };
    if holds { Ok(Outcome::Conflict) } else { Err(unsettled(inner, REFILLING)) }
}

impl Store for Gate {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.range(prefix)
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        async move {
            let guard = self.guard().await?;
            let outcome = guarded(&*self.inner, guard, txn).await;
            if matches!(outcome, Err(StoreError::Unsettled { .. })) {
                self.doubt();
            }
            outcome
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        async move {
            self.guard().await?;
            self.inner.lease(ttl).await
        }
        .boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.keep_alive(lease)
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.revoke(lease)
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

/// A store each of whose transactions has one more guard.
struct Guarded {
    inner: Arc<dyn Store>,
    guard: Guard,
}

impl Store for Guarded {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.inner.range(prefix)
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        guarded(&*self.inner, self.guard.clone(), txn).boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.watch(prefix)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        self.inner.lease(ttl)
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.keep_alive(lease)
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.inner.revoke(lease)
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{embedded::Embedded, timeouts::Timeouts};

    async fn gate(dir: &std::path::Path) -> Gate {
        Gate::new(Arc::new(Embedded::open(&dir.join("store.redb"), Timeouts::default()).await.unwrap()))
    }

    fn sure(guard: Guard) -> Footing {
        Footing::Sure { guard, settles: None }
    }

    #[tokio::test]
    async fn nothing_is_written_into_a_store_that_is_not_the_one_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path()).await;
        gate.inner().txn(Txn::new().put("key", "1")).await.unwrap();
        let key = gate.range("key").await.unwrap().remove(0);
        gate.set(sure(Guard::Unchanged(key.key.clone(), key.revision)));
        assert_eq!(gate.txn(Txn::new().put("a", "1")).await.unwrap(), Outcome::Committed);
        // A conflict of the caller's own is told as such.
        assert_eq!(gate.txn(Txn::new().absent("a").put("a", "2")).await.unwrap(), Outcome::Conflict);
        gate.inner().txn(Txn::new().put("key", "1")).await.unwrap();
        let error = gate.txn(Txn::new().put("a", "3")).await.unwrap_err();
        assert!(error.to_string().contains("filled again"), "{error}");
        assert!(matches!(gate.footing().now(), Footing::Unsure));
        assert_eq!(gate.range("a").await.unwrap()[0].value, "1");
        // Whoever waits goes on once somebody has looked.
        let (told, ()) = tokio::join!(gate.txn(Txn::new().put("a", "4")), async {
            gate.wanted().await;
            gate.set(sure(Guard::Absent("none".into())));
        });
        assert_eq!(told.unwrap(), Outcome::Committed);
    }

    #[tokio::test]
    async fn a_store_that_is_left_alone_or_away_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path()).await;
        gate.set(Footing::Foreign("holds cluster x".into()));
        let error = gate.txn(Txn::new().put("a", "1")).await.unwrap_err();
        assert_eq!(error.to_string(), "cluster store embedded holds cluster x");
        assert!(gate.lease(Duration::from_secs(1)).await.is_err());
        let error = StoreError::Unavailable { store: "s".into(), detail: "d".into() };
        gate.set(Footing::Away { error, at: Instant::now() });
        let error = gate.txn(Txn::new().put("a", "1")).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(gate.range("").await.unwrap().is_empty());
    }
}
