//! What the task of an embedded store is asked to do.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::store::{Entry, LeaseId, Outcome, StoreError, Txn, WatchEvent};

/// Where the answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One call of the store.
#[derive(Debug)]
pub(super) enum Command {
    Range { prefix: String, reply: Reply<Vec<Entry>> },
    Txn { txn: Txn, reply: Reply<Outcome> },
    Watch { prefix: String, reply: Reply<Listing> },
    Lease { ttl: Duration, reply: Reply<LeaseId> },
    KeepAlive { lease: LeaseId, reply: Reply<()> },
    Revoke { lease: LeaseId, reply: Reply<()> },
}

/// What is there, and what changes from then on. The queue ends when its reader is too slow.
pub(super) type Listing = (Vec<Entry>, mpsc::Receiver<WatchEvent>);

impl Command {
    /// Whether the caller has given up, so that the command need not be carried out any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Range { reply, .. } => reply.is_closed(),
            Self::Txn { reply, .. } => reply.is_closed(),
            Self::Watch { reply, .. } => reply.is_closed(),
            Self::Lease { reply, .. } => reply.is_closed(),
            Self::KeepAlive { reply, .. } | Self::Revoke { reply, .. } => reply.is_closed(),
        }
    }
}
