//! The cluster store: a small ordered map that all hosts share.
//!
//! # Contract
//! - Keys are non-empty ASCII without control characters and never begin or end with `/`. A back end
//!   puts the user's prefix in front of them and takes it off again: nobody above sees it.
//! - `range` reads what is committed when it is called or later, never older (linearisable).
//! - `txn` commits all operations or none, and only if every guard holds at that moment.
//! - A watch never skips the last state of a key: it may leave out what lay in between, and may repeat.
//! - Every call ends within its deadline; nothing waits for ever on a store that is away.

mod address;
pub mod consul;
pub mod embedded;
pub mod etcd;
mod feed;
pub mod gate;
pub mod keys;
pub mod ledger;
pub mod open;
pub mod options;
mod prefix;
mod protocol;
pub mod record;
pub mod remote;
pub mod timeouts;
pub mod url;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Longest list of guards and operations that a transaction may hold: Consul before 1.14 takes 64.
pub const TXN_LIMIT: usize = 64;

/// The same for everybody but the back ends: a [`gate`] adds a guard of its own.
pub const TXN_ROOM: usize = TXN_LIMIT - 1;

/// A state of a key. Two are equal or not; their order means nothing (Consul's may go backwards).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A key, its value and the state it is in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Key, without the user's prefix.
    pub key: String,
    /// Value; always JSON text here.
    pub value: String,
    /// State of the key.
    pub revision: Revision,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists in just this state.
    Unchanged(String, Revision),
}

/// An operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Change {
    /// Writes a value; with a lease the key vanishes when the lease ends.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: String,
        /// Lease that the key hangs on.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; one that is not there is no error.
    Delete {
        /// Key.
        key: String,
    },
}

/// Conditions and what to do when all of them hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Carried out together.
    pub changes: Vec<Change>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// All changes are in the store.
    Committed,
    /// A guard did not hold; nothing was changed.
    Conflict,
}

/// Something that keeps keys alive: an etcd lease, a Consul session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub String);

/// What a watch tells. After `Init` come all present entries as `Put`, then `InitDone`, then changes as
/// they happen. Anything that could have lost a change (a reconnect, a compaction, an index that went
/// backwards) is told as a new `Init`: what is not repeated before `InitDone` is gone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WatchEvent {
    /// A full listing begins.
    Init,
    /// The full listing is complete.
    InitDone,
    /// A key has this value.
    Put(Entry),
    /// A key is gone.
    Delete(String),
    /// The store cannot be reached; the watch goes on trying. Everything known stays as it is. Told once
    /// per outage, which ends with a new `Init` ... `InitDone`.
    Lost(String),
}

/// A stream of watch events; dropping it ends the watch.
pub struct Watch {
    events: mpsc::Receiver<WatchEvent>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Runs `task`, which fills the channel behind `events`, for as long as the watch lives.
    pub fn new(events: mpsc::Receiver<WatchEvent>, task: tokio::task::JoinHandle<()>) -> Self {
        Self { events, _task: AbortOnDropHandle::new(task) }
    }

    /// The next event; `None` only when the store object itself is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }
}

/// Why a call on the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed: the store could not be reached, or did not answer a read in time.
    #[error("cluster store {store} does not answer: {detail}")]
    Unavailable {
        /// Its address as the user gave it, without credentials.
        store: String,
        /// What the transport said.
        detail: String,
    },
    /// A transaction was sent and its answer was lost: it may have happened or not.
    #[error("cluster store {store} went away in the middle of a change: {detail}")]
    Unknown {
        /// Its address as the user gave it, without credentials.
        store: String,
        /// What the transport said.
        detail: String,
    },
    /// The store refused us: credentials, permissions, quota, a read-only disk.
    #[error("cluster store {store} refused the request: {detail}")]
    Refused {
        /// Its address as the user gave it, without credentials.
        store: String,
        /// What the store said.
        detail: String,
    },
    /// Nothing was changed: the store answers, but it is not, or not yet, the one that this host knows.
    #[error("cluster store {store} {detail}")]
    Unsettled {
        /// Its kind.
        store: String,
        /// What is the matter with it.
        detail: String,
    },
    /// The lease has ended.
    #[error("lease {0:?} has ended")]
    LeaseEnded(LeaseId),
}

/// The result of a call on the store, boxed so that the back end can be chosen at run time.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A cluster store. See the module for the contract.
pub trait Store: Send + Sync + 'static {
    /// All entries whose key begins with `prefix` (plain text, not a path), sorted by key.
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>>;

    /// Commits `txn` if all its guards hold. It has at most [`TXN_LIMIT`] guards and changes together and
    /// changes no key twice, else it is `Refused`; `LeaseEnded` if a change names a lease that is over.
    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome>;

    /// Watches all keys that begin with `prefix`.
    fn watch(&self, prefix: &str) -> Watch;

    /// Opens a lease that ends `ttl` after the last `keep_alive`. A back end may lengthen `ttl` to what
    /// it can do (Consul: 10 s at least, and it ends a lease up to twice the time late).
    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId>;

    /// Renews a lease; `LeaseEnded` if there is nothing left to renew.
    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()>;

    /// Ends a lease and deletes its keys.
    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()>;

    /// One word for people: `etcd`, `consul`, `embedded`.
    fn kind(&self) -> &'static str;
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` does not exist.
    #[must_use]
    pub fn absent(mut self, key: impl Into<String>) -> Self {
        self.guards.push(Guard::Absent(key.into()));
        self
    }

    /// Only if `entry` is still in the state in which it was read.
    #[must_use]
    pub fn unchanged(mut self, entry: &Entry) -> Self {
        self.guards.push(Guard::Unchanged(entry.key.clone(), entry.revision));
        self
    }

    /// Write a value.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.changes.push(Change::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Write a value that goes with `lease`.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<String>, lease: &LeaseId) -> Self {
        self.changes.push(Change::Put { key: key.into(), value: value.into(), lease: Some(lease.clone()) });
        self
    }

    /// Delete a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.changes.push(Change::Delete { key: key.into() });
        self
    }

    /// The leases that its changes hang keys on.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &LeaseId> {
        self.changes.iter().filter_map(|change| match change {
            Change::Put { lease, .. } => lease.as_ref(),
            Change::Delete { .. } => None,
        })
    }

    /// Guards and changes together.
    pub fn len(&self) -> usize {
        self.guards.len() + self.changes.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty() && self.changes.is_empty()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
