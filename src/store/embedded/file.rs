//! The redb file: what is written where, and how a transaction gets into it. Everything here blocks.
//!
//! ```text
//! entries   key -> (revision, value)      revision of the transaction that wrote it
//! leased    key -> lease                  which lease a key hangs on
//! leases    lease -> milliseconds         how long a lease lasts without renewal
//! counters  "revision" -> the last one    counts transactions that changed something
//! ```

use std::{
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable, TableDefinition, WriteTransaction,
};

use super::{EmbeddedError, lease};
use crate::store::{Change, Entry, Guard, LeaseId, Outcome, Revision, Txn, WatchEvent};

const ENTRIES: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("entries");
const LEASED: TableDefinition<'_, &str, u64> = TableDefinition::new("leased");
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// redb would take up to 1 GiB; the records of a cluster of hundreds of hosts are a few MiB.
const CACHE: usize = 32 << 20;

/// Why nothing, or nothing known, happened.
#[derive(Debug)]
pub(super) enum FileError {
    /// Failed before the commit: the file is as it was.
    Before(String),
    /// Failed in the commit.
    During(String),
    /// A change wants a lease that is over.
    LeaseEnded(LeaseId),
}

impl<E: Into<redb::Error>> From<E> for FileError {
    fn from(error: E) -> Self {
        Self::Before(error.into().to_string())
    }
}

/// What a transaction did: how it ended and what watchers are to hear.
pub(super) type Done = (Outcome, Vec<WatchEvent>);

/// An open file. After a disk error redb refuses everything until it is opened anew, which the next call
/// does.
pub(super) struct File {
    path: PathBuf,
    database: Option<Database>,
}

impl File {
    /// Opens or makes it; waits for up to `patience` while another process holds it.
    pub(super) async fn open(path: &Path, patience: Duration) -> Result<Self, EmbeddedError> {
        let shown = path.display().to_string();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let owned = path.to_owned();
            let opened = tokio::task::spawn_blocking(move || {
                if let Some(parent) = owned.parent() {
                    std::fs::create_dir_all(parent).map_err(DatabaseError::from)?;
                }
                open(&owned)
            })
            .await;
            let detail = match opened {
                Ok(Ok(database)) => return Ok(Self { path: path.to_owned(), database: Some(database) }),
                Ok(Err(DatabaseError::DatabaseAlreadyOpen)) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                    return Err(EmbeddedError::Held { path: shown });
                }
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            return Err(EmbeddedError::Open { path: shown, detail });
        }
    }

    /// Runs `work` on the file. A failed file is closed, so that the next call opens it anew.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let result = work(&database);
        if !matches!(result, Err(FileError::Before(_) | FileError::During(_))) {
            self.database = Some(database);
        }
        result
    }
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    drop(file.map_err(DatabaseError::from)?);
    let database = Database::builder().set_cache_size(CACHE).create(path)?;
    // A reader cannot open a table that nobody has written yet.
    let make = || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        write.open_table(ENTRIES)?;
        write.open_table(LEASED)?;
        write.open_table(LEASES)?;
        write.open_table(COUNTERS)?;
        write.commit()?;
        Ok(())
    };
    make().map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(database)
}

/// All entries that begin with `prefix`, sorted.
pub(super) fn range(database: &Database, prefix: &str) -> Result<Vec<Entry>, FileError> {
    let read = database.begin_read()?;
    let table = read.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    for row in table.range(prefix..)? {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        let (revision, text) = value.value();
        entries.push(Entry {
            key: key.value().to_owned(),
            value: text.to_owned(),
            revision: Revision(revision),
        });
    }
    Ok(entries)
}

/// Carries out a transaction; it is on the disk when this returns.
pub(super) fn txn(database: &Database, txn: &Txn) -> Result<Done, FileError> {
    let write = database.begin_write()?;
    if !guards_hold(&write, &txn.guards)? {
        write.abort()?;
        return Ok((Outcome::Conflict, Vec::new()));
    }
    let events = apply(&write, &txn.changes)?;
    commit(write)?;
    Ok((Outcome::Committed, events))
}

/// All leases with their duration.
pub(super) fn leases(database: &Database) -> Result<Vec<(u64, Duration)>, FileError> {
    let read = database.begin_read()?;
    let table = read.open_table(LEASES)?;
    let mut leases = Vec::new();
    for row in table.iter()? {
        let (id, ttl) = row?;
        leases.push((id.value(), Duration::from_millis(ttl.value())));
    }
    Ok(leases)
}

/// Writes down a new lease.
pub(super) fn grant(database: &Database, id: u64, ttl: Duration) -> Result<(), FileError> {
    let write = database.begin_write()?;
    write.open_table(LEASES)?.insert(id, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
    commit(write)
}

/// Deletes leases with all keys that hang on them.
pub(super) fn end(database: &Database, ids: &[u64]) -> Result<Vec<WatchEvent>, FileError> {
    let write = database.begin_write()?;
    let mut keys = Vec::new();
    {
        let mut leases = write.open_table(LEASES)?;
        for id in ids {
            leases.remove(id)?;
        }
        for row in write.open_table(LEASED)?.iter()? {
            let (key, id) = row?;
            if ids.contains(&id.value()) {
                keys.push(Change::Delete { key: key.value().to_owned() });
            }
        }
    }
    let events = apply(&write, &keys)?;
    commit(write)?;
    Ok(events)
}

fn guards_hold(write: &WriteTransaction, guards: &[Guard]) -> Result<bool, FileError> {
    let table = write.open_table(ENTRIES)?;
    for guard in guards {
        let holds = match guard {
            Guard::Absent(key) => table.get(key.as_str())?.is_none(),
            Guard::Unchanged(key, revision) => {
                table.get(key.as_str())?.is_some_and(|entry| entry.value().0 == revision.0)
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(write: &WriteTransaction, changes: &[Change]) -> Result<Vec<WatchEvent>, FileError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut counters = write.open_table(COUNTERS)?;
    let last = counters.get("revision")?.map_or(0, |revision| revision.value());
    let revision = last + 1;
    counters.insert("revision", revision)?;
    let mut entries = write.open_table(ENTRIES)?;
    let mut on_lease = write.open_table(LEASED)?;
    let leases = write.open_table(LEASES)?;
    let mut events = Vec::new();
    for change in changes {
        match change {
            Change::Put { key, value, lease } => {
                if let Some(lease) = lease {
                    let ended = || FileError::LeaseEnded(lease.clone());
                    let id = lease::number(lease).ok_or_else(ended)?;
                    leases.get(id)?.ok_or_else(ended)?;
                    on_lease.insert(key.as_str(), id)?;
                } else {
                    on_lease.remove(key.as_str())?;
                }
                entries.insert(key.as_str(), (revision, value.as_str()))?;
                events.push(WatchEvent::Put(Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: Revision(revision),
                }));
            }
            Change::Delete { key } => {
                on_lease.remove(key.as_str())?;
                if entries.remove(key.as_str())?.is_some() {
                    events.push(WatchEvent::Delete(key.clone()));
                }
            }
        }
    }
    Ok(events)
}

fn commit(write: WriteTransaction) -> Result<(), FileError> {
    write.commit().map_err(|error| FileError::During(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_file_is_an_error_and_no_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        std::fs::write(&path, b"this is no redb file at all, but long enough to hold a header".repeat(200))
            .unwrap();
        let error = File::open(&path, Duration::ZERO).await.err().unwrap();
        assert!(error.to_string().contains("cannot open the embedded store"), "{error}");
    }

    #[tokio::test]
    async fn a_second_holder_is_told_how_to_share() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/it/store.redb");
        let _first = File::open(&path, Duration::ZERO).await.unwrap();
        let error = File::open(&path, Duration::ZERO).await.err().unwrap().to_string();
        assert!(error.contains("another daemon holds") && error.contains("store.redb.sock"), "{error}");
    }

    #[tokio::test]
    async fn an_unleased_write_takes_a_key_off_its_lease() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::open(&directory.path().join("f"), Duration::ZERO).await.unwrap();
        let lease = lease::name(7);
        file.with(|file| grant(file, 7, Duration::from_secs(1))).unwrap();
        file.with(|file| txn(file, &Txn::new().put_leased("a", "1", &lease).put_leased("b", "1", &lease)))
            .unwrap();
        file.with(|file| txn(file, &Txn::new().put("a", "2"))).unwrap();
        let events = file.with(|file| end(file, &[7])).unwrap();
        assert_eq!(events, [WatchEvent::Delete("b".into())]);
        let error = file.with(|file| txn(file, &Txn::new().put_leased("c", "1", &lease))).unwrap_err();
        assert!(matches!(error, FileError::LeaseEnded(_)), "{error:?}");
        assert_eq!(file.with(|file| range(file, "")).unwrap().len(), 1);
    }
}
