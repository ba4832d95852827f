//! The task that owns an embedded store: one command after another, ends of leases in between.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::spawn_blocking, time::sleep_until};

use super::{
    command::{Command, Listing},
    file::{self, Done, File, FileError},
    lease::{self, Leases},
};
use crate::store::{LeaseId, Outcome, StoreError, WatchEvent, address::Address};

/// Changes that wait for one watcher. When that is not enough it gets a new listing instead, which is
/// what a reader that far behind is better off with.
const WATCHER_QUEUE: usize = 256;

/// After a lease could not be ended for the disk's sake: when to try again.
const RETRY: Duration = Duration::from_secs(1);

/// The state of an open store. It moves to the blocking pool and back with each command.
pub(super) struct Actor {
    file: File,
    leases: Leases,
    watchers: Vec<Watcher>,
    address: Address,
}

struct Watcher {
    prefix: String,
    changes: mpsc::Sender<WatchEvent>,
}

impl Actor {
    /// Blocks: reads the leases. Each gets its whole time from now on.
    pub(super) fn load(mut file: File, address: Address) -> Result<Self, FileError> {
        let mut leases = Leases::default();
        let now = Instant::now();
        for (id, ttl) in file.with(file::leases)? {
            leases.start(id, ttl, now);
        }
        Ok(Self { file, leases, watchers: Vec::new(), address })
    }

    /// Works until the last handle of the store is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut not_before = Instant::now();
        loop {
            let end = self.leases.next_end().map(|end| end.max(not_before));
            let wake = async {
                match end {
                    Some(end) => sleep_until(end.into()).await,
                    None => pending().await,
                }
            };
            // `recv` is cancel safe, and a sleep that is cut short is made anew.
            let command = tokio::select! {
                command = commands.recv() => Some(command),
                () = wake => None,
            };
            let work = match command {
                Some(None) => return,
                Some(Some(command)) if command.is_abandoned() => continue,
                command => command.flatten(),
            };
            let done = spawn_blocking(move || {
                let ended = self.end_leases();
                if let Some(command) = work {
                    self.carry_out(command);
                }
                (self, ended)
            });
            match done.await {
                Ok((actor, ended)) => {
                    self = actor;
                    if let Err(error) = ended {
                        tracing::warn!(store = %self.address, ?error, "cannot end a lease yet");
                        not_before = Instant::now() + RETRY;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the embedded store ends");
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        // A caller that is gone meanwhile does not want the answer: nothing is lost with it.
        match command {
            Command::Range { prefix, reply } => {
                let entries = self.file.with(|file| file::range(file, &prefix));
                let _ = reply.send(entries.map_err(|error| self.failed(error)));
            }
            Command::Txn { txn, reply } => {
                let outcome = self.txn(&txn);
                let _ = reply.send(outcome.map_err(|error| self.failed(error)));
            }
            Command::Watch { prefix, reply } => {
                let listing = self.watch(prefix);
                let _ = reply.send(listing.map_err(|error| self.failed(error)));
            }
            Command::Lease { ttl, reply } => {
                let granted = self.grant(ttl);
                let _ = reply.send(granted.map_err(|error| self.failed(error)));
            }
            Command::KeepAlive { lease, reply } => {
                let alive = lease::number(&lease).is_some_and(|id| self.leases.renew(id, Instant::now()));
                let _ = reply.send(if alive { Ok(()) } else { Err(StoreError::LeaseEnded(lease)) });
            }
            Command::Revoke { lease, reply } => {
                let ended = self.end(&lease::number(&lease).into_iter().collect::<Vec<_>>());
                let _ = reply.send(ended.map_err(|error| self.failed(error)));
            }
        }
    }

    fn txn(&mut self, txn: &crate::store::Txn) -> Result<Outcome, FileError> {
        let done: Result<Done, _> = self.file.with(|file| file::txn(file, txn));
        self.forget_watchers_if_in_doubt(&done);
        let (outcome, events) = done?;
        self.tell(&events);
        Ok(outcome)
    }

    fn watch(&mut self, prefix: String) -> Result<Listing, FileError> {
        let entries = self.file.with(|file| file::range(file, &prefix))?;
        let (changes, receiver) = mpsc::channel(WATCHER_QUEUE);
        // Those that went while nothing changed are not noticed otherwise.
        self.watchers.retain(|watcher| !watcher.changes.is_closed());
        self.watchers.push(Watcher { prefix, changes });
        Ok((entries, receiver))
    }

    fn grant(&mut self, ttl: Duration) -> Result<LeaseId, FileError> {
        let id = rand::random();
        self.file.with(|file| file::grant(file, id, ttl))?;
        self.leases.start(id, ttl, Instant::now());
        Ok(lease::name(id))
    }

    fn end_leases(&mut self) -> Result<(), FileError> {
        let ended = self.leases.ended(Instant::now());
        if ended.is_empty() { Ok(()) } else { self.end(&ended) }
    }

    fn end(&mut self, ids: &[u64]) -> Result<(), FileError> {
        let done = self.file.with(|file| file::end(file, ids));
        self.forget_watchers_if_in_doubt(&done);
        let events = done?;
        for id in ids {
            self.leases.remove(*id);
        }
        self.tell(&events);
        Ok(())
    }

    /// Hands changes to those who watch them; who cannot keep up is dropped and comes back for a listing.
    fn tell(&mut self, events: &[WatchEvent]) {
        self.watchers.retain(|watcher| {
            let wanted = events.iter().filter(|event| match event {
                WatchEvent::Put(entry) => entry.key.starts_with(&watcher.prefix),
                WatchEvent::Delete(key) => key.starts_with(&watcher.prefix),
                _ => false,
            });
            wanted.cloned().all(|event| watcher.changes.try_send(event).is_ok())
                && !watcher.changes.is_closed()
        });
    }

    /// After a commit whose fate is unknown, watchers have to list what there is.
    fn forget_watchers_if_in_doubt<T>(&mut self, done: &Result<T, FileError>) {
        if matches!(done, Err(FileError::During(_))) {
            self.watchers.clear();
        }
    }

    fn failed(&self, error: FileError) -> StoreError {
        match error {
            FileError::Before(detail) => self.address.refused(detail),
            FileError::During(detail) => self.address.unknown(detail),
            FileError::LeaseEnded(lease) => StoreError::LeaseEnded(lease),
        }
    }
}
