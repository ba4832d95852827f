//! The embedded store: one redb file, held by one daemon and shared with the others of its machine.
//!
//! One task owns the file, the leases and the list of watchers, so that commands take effect one after
//! another without a lock; the file itself is touched on the blocking pool only. [`serve`] offers the
//! same on a unix socket, and [`super::remote`] is its client.

mod actor;
mod command;
mod file;
mod lease;
pub mod serve;

use std::{path::Path, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use self::command::{Command, Reply};
use super::{
    Entry, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch, address::Address, feed::Feed,
    timeouts::Timeouts,
};
use crate::backoff::Backoff;

/// Commands that wait for the task; a caller past that waits, within its deadline, for a place.
const QUEUE: usize = 256;

/// Why the file of an embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process has it.
    #[error(
        "another daemon holds the embedded store {path}; to share its store on this machine, use \
         --cluster-store unix://{path}.sock"
    )]
    Held {
        /// The file.
        path: String,
    },
    /// It cannot be made, read or understood.
    #[error("cannot open the embedded store {path}: {detail}")]
    Open {
        /// The file.
        path: String,
        /// What the file system or redb said.
        detail: String,
    },
    /// The unix socket cannot be offered.
    #[error("cannot listen on {socket}, where the embedded store is shared: {detail}")]
    Listen {
        /// The socket.
        socket: String,
        /// What the system said.
        detail: String,
    },
}

/// A store in a file of this process. Clones are the same store; it closes when the last one goes.
#[derive(Debug, Clone)]
pub struct Embedded {
    commands: mpsc::Sender<Command>,
    address: Address,
    timeouts: Timeouts,
}

impl Embedded {
    /// Opens or makes the file at `path`, and the directories above it. While another process holds it,
    /// waits for up to one call's deadline, so that a daemon can take over from one that is just ending.
    /// Leases found in it get their whole time once more: their owners could not renew them meanwhile.
    pub async fn open(path: &Path, timeouts: Timeouts) -> Result<Self, EmbeddedError> {
        let file = file::File::open(path, timeouts.call).await?;
        let address = Address::new(format_args!("embedded://{}", path.display()));
        let place = address.clone();
        let loaded = tokio::task::spawn_blocking(move || actor::Actor::load(file, place)).await;
        let open_error = |detail: String| EmbeddedError::Open { path: path.display().to_string(), detail };
        let actor = loaded
            .map_err(|panic| open_error(panic.to_string()))?
            .map_err(|error| open_error(format!("{error:?}")))?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        // Ends by itself when the last sender goes, and must not end before it has answered the last.
        tokio::spawn(actor.run(receiver));
        Ok(Self { commands, address, timeouts })
    }

    /// Like [`Store::watch`], as the plain stream of events.
    fn subscribe(&self, prefix: &str) -> Watch {
        let (feed, events) = Feed::new();
        Watch::new(
            events,
            tokio::spawn(follow(self.commands.downgrade(), prefix.to_owned(), feed, self.timeouts.backoff())),
        )
    }

    /// Sends a command and waits for the answer. `late` makes the error of a call whose fate is unknown.
    async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
        late: impl Fn(&Address, &'static str) -> StoreError,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let deadline = tokio::time::Instant::now() + self.timeouts.call;
        match tokio::time::timeout_at(deadline, self.commands.reserve()).await {
            Ok(Ok(place)) => place.send(command(reply)),
            Ok(Err(_)) => return Err(self.address.unavailable("it is closed")),
            Err(_) => return Err(self.address.unavailable("its disk is too slow: too many calls wait")),
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(late(&self.address, "it was closed meanwhile")),
            Err(_) => Err(late(&self.address, "its disk did not answer in time")),
        }
    }
}

impl Store for Embedded {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        let prefix = prefix.to_owned();
        self.ask(|reply| Command::Range { prefix, reply }, Address::unavailable).boxed()
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        async move {
            self.address.check(&txn)?;
            self.ask(|reply| Command::Txn { txn, reply }, Address::unknown).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.subscribe(prefix)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        self.ask(move |reply| Command::Lease { ttl, reply }, Address::unavailable).boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        let lease = lease.clone();
        self.ask(|reply| Command::KeepAlive { lease, reply }, Address::unavailable).boxed()
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        let lease = lease.clone();
        self.ask(|reply| Command::Revoke { lease, reply }, Address::unknown).boxed()
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }
}

/// Feeds a watch. Holds no strong sender, so that a watch does not keep its store open. When it falls too
/// far behind, the store drops its queue; what is left of that is then followed by a new listing.
async fn follow(commands: mpsc::WeakSender<Command>, prefix: String, mut feed: Feed, mut backoff: Backoff) {
    loop {
        let (reply, answer) = oneshot::channel();
        let Some(sender) = commands.upgrade() else { return };
        if sender.send(Command::Watch { prefix: prefix.clone(), reply }).await.is_err() {
            return;
        }
        drop(sender);
        match answer.await {
            Ok(Ok((entries, mut changes))) => {
                backoff.reset();
                if feed.listing(entries).await.is_err() {
                    return;
                }
                while let Some(event) = changes.recv().await {
                    if feed.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) => {
                if feed.lost(error).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff.pause()).await;
            }
            Err(_) => return,
        }
    }
}
