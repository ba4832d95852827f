//! What this host must remember by itself: who it is, which networks its engine has, its endpoints, the
//! addresses it holds, and what it still has to give back. One small JSON file per object under the state directory.
//!
//! Handlers change this state and return; background tasks make the kernel and the store follow it. So
//! it is the queue of all work that may wait, and it survives a `kill -9` at any point: each file is
//! replaced by a rename.

mod allocating;
mod claims;
mod cluster;
mod data;
mod endpoints;
mod fence;
mod files;
mod identity;
mod mode;
mod record;
mod releases;
pub mod witness;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    lockfile::Lockfile,
    model::{Network, NetworkId, NodeId},
};
pub use allocating::{Allocating, Filling, InFlight};
pub use claims::{OwnClaim, Taken};
pub use cluster::{KnownCluster, Told, Trace, known_cluster};
pub use data::LocalData;
pub use identity::boot_id;
pub use mode::KnownMode;
pub use record::{Binding, CutOff, Departure, LocalEndpoint, Release};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// An operation on a file failed.
    #[error("state directory: cannot {what} {path}: {cause}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another daemon runs on this directory.
    #[error(
        "another rs-overlay daemon{holder} is running with state directory {}; stop it first: a host has one",
        .dir.display()
    )]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// What that daemon says of itself, in brackets.
        holder: String,
    },
}

/// The host's own state: in memory for readers, in files for the next start.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    node: NodeId,
    boot: String,
    data: Mutex<LocalData>,
    version: watch::Sender<u64>,
    moment: AtomicU64,
    opened_ms: u64,
    allocating: Mutex<Allocating>,
    lock: Lockfile,
}

impl Local {
    /// Opens the state directory, making it where needed, and reads what the last run left.
    pub fn open(dir: &Path, random: u64) -> Result<Self, LocalError> {
        Self::open_in(dir, random, boot_id())
    }

    /// The same, in the boot of that id.
    pub fn open_in(dir: &Path, random: u64, boot: String) -> Result<Self, LocalError> {
        for part in ["endpoints", "networks", "claims", "releases", "departures"] {
            files::create_dir(&dir.join(part))?;
        }
        let lock = identity::lock(dir)?;
        let node = identity::node_id(dir, random)?;
        let data = LocalData {
            cluster: cluster::read_cluster(dir)?,
            told: cluster::read_told(dir)?,
            trace: cluster::read_trace(dir)?,
            incarnation: files::read(&dir.join("incarnation.json"))?.unwrap_or_default(),
            departures: keyed(files::read_all(&dir.join("departures"))?, |d: &Departure| d.network.clone()),
            releases: keyed(files::read_all(&dir.join("releases"))?, Release::key),
            bindings: keyed(files::read_all(&dir.join("networks"))?, |b: &Binding| b.docker_id.clone()),
            endpoints: keyed(files::read_all(&dir.join("endpoints"))?, |e: &LocalEndpoint| e.id.clone()),
            claims: keyed(files::read_all(&dir.join("claims"))?, OwnClaim::key),
        };
        // Containers do not survive a reboot, so neither do their endpoints; their engine will ask for
        // new ones, which get the same addresses.
        let stale: Vec<_> =
            data.endpoints.values().filter(|e| e.boot_id != boot).map(|e| e.id.clone()).collect();
        let (version, _) = watch::channel(0);
        let moments = data.releases.values().map(|release| release.until_ms);
        let last = moments.chain(data.claims.values().map(|claim| claim.since_ms)).max();
        let opened_ms = crate::clock::unix_millis().max(last.unwrap_or_default());
        let local = Self {
            dir: dir.to_owned(),
            node,
            boot,
            data: Mutex::new(data),
            version,
            moment: AtomicU64::new(opened_ms),
            opened_ms,
            allocating: Mutex::default(),
            lock,
        };
        local.begin_boot(&local.boot)?;
        for endpoint in stale {
            local.remove_lost(&endpoint)?;
        }
        local.release_homeless_claims()?;
        Ok(local)
    }

    /// Leaves `about` for a second daemon that is refused the directory.
    pub fn sign(&self, about: &str) {
        self.lock.sign(about);
    }

    /// This host.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The boot that this host is in.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The time in milliseconds since 1970, but never the same one twice: what orders this host's claims
    /// and releases of one address, also within a millisecond and when the clock is set back. A release
    /// that is still queued must not take a newer claim along.
    pub fn moment(&self) -> u64 {
        let now = crate::clock::unix_millis();
        let later = |last: u64| Some(now.max(last.saturating_add(1)));
        match self.moment.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later) {
            Ok(last) | Err(last) => now.max(last.saturating_add(1)),
        }
    }

    /// A copy of everything.
    pub fn data(&self) -> LocalData {
        self.lock().clone()
    }

    /// Looks at the state without copying it.
    pub fn read<T>(&self, look: impl FnOnce(&LocalData) -> T) -> T {
        look(&self.lock())
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Adds or replaces a network of the engine.
    pub fn put_binding(&self, binding: Binding) -> Result<(), LocalError> {
        self.change(|data| self.store_binding(data, binding))
    }

    /// Replaces the copy of a network's record, if the engine still has the network.
    pub fn refresh_binding(&self, docker_id: &NetworkId, network: &Network) -> Result<(), LocalError> {
        if self.read(|data| data.bindings.get(docker_id).is_none_or(|binding| binding.network == *network)) {
            return Ok(());
        }
        self.change(|data| match data.bindings.get(docker_id).cloned() {
            Some(binding) => self.store_binding(data, Binding { network: network.clone(), ..binding }),
            None => Ok(()),
        })
    }

    /// Forgets a network of the engine. What is left of its endpoints goes with it, and all addresses that
    /// this host holds in it are queued to be given back; `departure` queues the question what becomes of the network.
    pub fn remove_binding(
        &self,
        docker_id: &NetworkId,
        departure: Option<Departure>,
    ) -> Result<(), LocalError> {
        self.change(|data| {
            if let Some(departure) = departure {
                files::write(&self.file("departures", departure.network.as_str()), &departure, true)?;
                data.departures.insert(departure.network.clone(), departure);
            }
            let of_network = |e: &&LocalEndpoint| e.docker_network == *docker_id;
            let orphans: Vec<_> = data.endpoints.values().filter(of_network).map(|e| e.id.clone()).collect();
            for endpoint in orphans {
                self.drop_endpoint(data, &endpoint)?;
            }
            files::remove(&self.file("networks", docker_id.as_str()))?;
            if let Some(binding) = data.bindings.remove(docker_id) {
                self.release_claims_of(data, &binding.network.id)?;
            }
            Ok(())
        })
    }

    /// Forgets a settled departure.
    pub fn remove_departure(&self, network: &NetworkId) -> Result<(), LocalError> {
        self.change(|data| {
            files::remove(&self.file("departures", network.as_str()))?;
            data.departures.remove(network);
            Ok(())
        })
    }

    /// The file of the last snapshot of the cluster.
    pub fn snapshot_file(&self) -> PathBuf {
        self.dir.join("snapshot.json")
    }

    /// After a reboot no container has an address any more; also none whose endpoint a power cut has
    /// taken from the disk.
    fn begin_boot(&self, boot: &str) -> Result<(), LocalError> {
        let file = self.dir.join("boot.json");
        if files::read::<String>(&file)?.as_deref() == Some(boot) {
            return Ok(());
        }
        self.change(|data| self.rest_all(data))?;
        files::write(&file, &boot, true)
    }

    fn store_binding(&self, data: &mut LocalData, binding: Binding) -> Result<(), LocalError> {
        files::write(&self.file("networks", binding.docker_id.as_str()), &binding, true)?;
        data.bindings.insert(binding.docker_id.clone(), binding);
        Ok(())
    }

    fn file(&self, part: &str, name: &str) -> PathBuf {
        self.dir.join(part).join(format!("{name}.json"))
    }

    /// Changes files and memory together, so that no reader meets one without the other and no two
    /// changes of one object cross.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut LocalData) -> Result<T, LocalError>,
    ) -> Result<T, LocalError> {
        let result = change(&mut self.lock());
        self.tell();
        result
    }

    /// Wakes whoever follows this state, as after a change.
    pub fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, LocalData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keyed<K: Ord, V>(values: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    values.into_iter().map(|value| (key(&value), value)).collect()
}

/// Writes the snapshot's durable copy.
pub fn write_snapshot(file: &Path, snapshot: &crate::model::Snapshot) -> Result<(), LocalError> {
    files::write(file, snapshot, false)
}

/// Reads the snapshot's durable copy.
pub fn read_snapshot(file: &Path) -> Result<Option<crate::model::Snapshot>, LocalError> {
    files::read(file)
}

#[cfg(test)]
mod tests;
