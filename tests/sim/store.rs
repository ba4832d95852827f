//! The cluster's store: a linearisable map with revisions, leases and a log that watches read.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rs_overlay::store::{Change, Entry, Guard, Outcome, Revision, StoreError, TXN_LIMIT, Txn, WatchEvent};
use tokio::{sync::watch, time::Instant};

use super::{
    deck::{self, Owner},
    journal,
};

/// Changes that the log keeps; a watch that is further behind has to list anew.
const LOG: usize = 4096;

/// What the store does with changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What they say.
    Writable,
    /// It refuses all.
    ReadOnly,
    /// It refuses those that write; deleting makes room.
    Full,
}

struct Stored {
    value: String,
    revision: u64,
    lease: Option<u64>,
}

struct Lease {
    ttl: Duration,
    ends: Instant,
}

pub(crate) struct Cluster {
    entries: BTreeMap<String, Stored>,
    leases: BTreeMap<u64, Lease>,
    log: VecDeque<(u64, WatchEvent)>,
    /// Changes up to this one are no longer in the log.
    compacted: u64,
    revision: u64,
    last_lease: u64,
    pub(crate) mode: Mode,
    pub(crate) commits: u64,
    changed: watch::Sender<u64>,
}

thread_local! {
    static STORE: RefCell<Option<Cluster>> = const { RefCell::new(None) };
}

/// Looks at the store or changes it.
pub(crate) fn with<T>(look: impl FnOnce(&mut Cluster) -> T) -> T {
    STORE.with(|store| look(store.borrow_mut().as_mut().expect("there is a store")))
}

/// An empty store, and the task that ends its leases.
pub(crate) fn begin() {
    let cluster = Cluster {
        entries: BTreeMap::new(),
        leases: BTreeMap::new(),
        log: VecDeque::new(),
        compacted: 0,
        revision: 1,
        last_lease: 0,
        mode: Mode::Writable,
        commits: 0,
        changed: watch::channel(0).0,
    };
    STORE.with(|store| *store.borrow_mut() = Some(cluster));
    deck::spawn(Owner::World, async {
        loop {
            let next = with(|store| store.leases.values().map(|lease| lease.ends).min());
            let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            // A lease that begins meanwhile ends later than this look.
            tokio::time::sleep_until(next.min(Instant::now() + Duration::from_secs(1))).await;
            with(Cluster::end_leases);
        }
    });
}

impl Cluster {
    /// What is there, in the order of keys.
    pub(crate) fn range(&self, prefix: &str) -> Vec<Entry> {
        let from = self.entries.range(prefix.to_owned()..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, stored)| entry(key, stored)).collect()
    }

    /// Where a watch that begins now begins.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The first change behind `position` below `prefix`, with its number; `Err` if it may be one of those
    /// that are forgotten.
    pub(crate) fn after(&self, position: u64, prefix: &str) -> Result<Option<(u64, WatchEvent)>, ()> {
        if position < self.compacted {
            return Err(());
        }
        let skip = usize::try_from(position - self.compacted).unwrap_or(usize::MAX);
        let below = |event: &WatchEvent| match event {
            WatchEvent::Put(entry) => entry.key.starts_with(prefix),
            WatchEvent::Delete(key) => key.starts_with(prefix),
            WatchEvent::Init | WatchEvent::InitDone | WatchEvent::Lost(_) => false,
        };
        Ok(self.log.iter().skip(skip).find(|(_, event)| below(event)).cloned())
    }

    /// Carries out `txn`, or refuses it.
    pub(crate) fn commit(&mut self, txn: &Txn) -> Result<Outcome, StoreError> {
        let refused = |detail: &str| StoreError::Refused { store: "sim".into(), detail: detail.into() };
        let writes = txn.changes.iter().any(|change| matches!(change, Change::Put { .. }));
        match self.mode {
            Mode::ReadOnly => return Err(refused("read-only")),
            Mode::Full if writes => return Err(refused("no space")),
            Mode::Writable | Mode::Full => {}
        }
        if txn.len() > TXN_LIMIT {
            return Err(refused("too many operations"));
        }
        let mut keys: Vec<_> = txn.changes.iter().map(key_of).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refused("duplicate key"));
        }
        for change in &txn.changes {
            if let Change::Put { lease: Some(lease), .. } = change
                && !lease.0.parse().is_ok_and(|id: u64| self.leases.contains_key(&id))
            {
                return Err(StoreError::LeaseEnded(lease.clone()));
            }
        }
        let holds = |guard: &Guard| match guard {
            Guard::Absent(key) => !self.entries.contains_key(key),
            Guard::Unchanged(key, revision) => {
                self.entries.get(key).is_some_and(|stored| stored.revision == revision.0)
            }
        };
        if !txn.guards.iter().all(holds) {
            return Ok(Outcome::Conflict);
        }
        self.commits += 1;
        for change in &txn.changes {
            match change {
                Change::Put { key, value, lease } => {
                    self.put(key, value, lease.as_ref().and_then(|lease| lease.0.parse().ok()));
                }
                Change::Delete { key } => self.delete(key),
            }
        }
        Ok(Outcome::Committed)
    }

    fn put(&mut self, key: &str, value: &str, lease: Option<u64>) {
        self.revision += 1;
        let stored = Stored { value: value.to_owned(), revision: self.revision, lease };
        let event = WatchEvent::Put(entry(key, &stored));
        self.entries.insert(key.to_owned(), stored);
        self.tell(event);
    }

    fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.revision += 1;
            self.tell(WatchEvent::Delete(key.to_owned()));
        }
    }

    fn tell(&mut self, event: WatchEvent) {
        journal::note(|| match &event {
            WatchEvent::Put(entry) => format!("store: {} = {}", entry.key, entry.value),
            other => format!("store: {other:?}"),
        });
        self.log.push_back((self.revision, event));
        // Each change has a number of its own, so that places in the log follow from numbers.
        while self.log.len() > LOG {
            self.log.pop_front();
        }
        self.compacted = self.log.front().map_or(self.revision, |(first, _)| first - 1);
        self.changed.send_replace(self.revision);
    }

    /// Forgets the log: every watch that is not up to date has to list anew.
    pub(crate) fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.revision;
        self.changed.send_replace(self.revision);
    }

    /// Everything is gone, leases as well, and every watch has to list anew.
    pub(crate) fn wipe(&mut self) {
        self.entries.clear();
        self.leases.clear();
        self.revision += 1;
        self.compact();
    }

    /// Opens a lease.
    pub(crate) fn lease(&mut self, ttl: Duration) -> u64 {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, Lease { ttl, ends: Instant::now() + ttl });
        self.last_lease
    }

    /// Renews a lease; `false` if there is none.
    pub(crate) fn renew(&mut self, id: u64) -> bool {
        let lease = self.leases.get_mut(&id);
        lease.map(|lease| lease.ends = Instant::now() + lease.ttl).is_some()
    }

    /// Ends a lease.
    pub(crate) fn end_lease(&mut self, id: u64) {
        self.leases.remove(&id);
        let keys: Vec<_> =
            self.entries.iter().filter(|(_, s)| s.lease == Some(id)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.delete(&key);
        }
    }

    fn end_leases(&mut self) {
        let now = Instant::now();
        let ended: Vec<_> = self.leases.iter().filter(|(_, l)| l.ends <= now).map(|(id, _)| *id).collect();
        for id in ended {
            self.end_lease(id);
        }
    }

    /// The store forgets all leases, as one does that was restored or has lost its leader for long.
    pub(crate) fn lose_leases(&mut self) {
        for id in self.leases.keys().copied().collect::<Vec<_>>() {
            self.end_lease(id);
        }
    }
}

fn entry(key: &str, stored: &Stored) -> Entry {
    Entry { key: key.to_owned(), value: stored.value.clone(), revision: Revision(stored.revision) }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
    }
}
