//! What this host must remember by itself: who it is, which networks its engine has, its endpoints, and
//! what it still has to give back. One small JSON file per object under the state directory.
//!
//! Handlers change this state and return; background tasks make the kernel and the store follow it. So
//! it is the queue of all work that may wait, and it survives a `kill -9` at any point: each file is
//! replaced by a rename.

mod files;
mod identity;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;
use tokio::sync::watch;

use crate::model::{EndpointId, NetworkId, NodeId};
pub use identity::boot_id;
pub use record::{Binding, Departure, LocalEndpoint, Release};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// An operation on a file failed.
    #[error("state directory: cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon runs on this directory.
    #[error(
        "another rs-overlay daemon is running with state directory {0}; stop it first, or give this one its own --state-dir and --socket"
    )]
    Busy(PathBuf),
}

/// All of the host's own state, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct LocalData {
    /// Networks of the engine, by Docker's id.
    pub bindings: BTreeMap<NetworkId, Binding>,
    /// Endpoints of the engine.
    pub endpoints: BTreeMap<EndpointId, LocalEndpoint>,
    /// Claims to give back.
    pub releases: BTreeMap<String, Release>,
    /// Networks that the engine has removed, whose removal is not settled in the store.
    pub departures: BTreeMap<NetworkId, Departure>,
    /// The cluster that all this belongs to.
    pub cluster: Option<String>,
}

/// The host's own state: in memory for readers, in files for the next start.
#[derive(Debug)]
pub struct Local {
    dir: PathBuf,
    node: NodeId,
    data: Mutex<LocalData>,
    version: watch::Sender<u64>,
    moment: AtomicU64,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

impl Local {
    /// Opens the state directory, making it where needed, and reads what the last run left.
    pub fn open(dir: &Path, random: u64) -> Result<Self, LocalError> {
        for part in ["endpoints", "networks", "releases", "departures"] {
            files::create_dir(&dir.join(part))?;
        }
        let lock = identity::lock(dir)?;
        let node = identity::node_id(dir, random)?;
        let mut data = LocalData {
            cluster: files::read(&dir.join("cluster.json"))?,
            departures: keyed(files::read_all(&dir.join("departures"))?, |d: &Departure| d.network.clone()),
            releases: keyed(files::read_all(&dir.join("releases"))?, Release::key),
            bindings: keyed(files::read_all(&dir.join("networks"))?, |b: &Binding| b.docker_id.clone()),
            endpoints: keyed(files::read_all(&dir.join("endpoints"))?, |e: &LocalEndpoint| e.id.clone()),
        };
        let boot = boot_id();
        // Containers do not survive a reboot, so neither do their endpoints; their engine will ask for
        // new ones. Addresses that its own IPAM chose have to be given back.
        let stale: Vec<_> = data.endpoints.values().filter(|e| e.boot_id != boot).cloned().collect();
        let local = Self {
            dir: dir.to_owned(),
            node,
            data: Mutex::default(),
            version: watch::Sender::new(0),
            moment: AtomicU64::new(data.releases.values().map(|r| r.until_ms).max().unwrap_or_default()),
            _lock: lock,
        };
        data.endpoints.retain(|_, e| e.boot_id == boot);
        *local.lock() = data;
        for endpoint in stale {
            let releases = local.forget_files(&endpoint)?;
            local.change(|data| data.releases.extend(releases));
        }
        Ok(local)
    }

    /// This host.
    pub fn node(&self) -> &NodeId {
        &self.node
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

    /// Remembers the cluster.
    pub fn set_cluster(&self, cluster: &str) -> Result<(), LocalError> {
        files::write(&self.dir.join("cluster.json"), &cluster, true)?;
        self.change(|data| data.cluster = Some(cluster.to_owned()));
        Ok(())
    }

    /// Adds or replaces a network of the engine.
    pub fn put_binding(&self, binding: Binding) -> Result<(), LocalError> {
        files::write(&self.file("networks", binding.docker_id.as_str()), &binding, true)?;
        self.change(|data| data.bindings.insert(binding.docker_id.clone(), binding));
        Ok(())
    }

    /// Forgets a network of the engine. What is left of its endpoints goes with it, and their addresses
    /// are queued to be given back; `departure` queues the question what becomes of the network.
    pub fn remove_binding(
        &self,
        docker_id: &NetworkId,
        departure: Option<Departure>,
    ) -> Result<(), LocalError> {
        if let Some(departure) = &departure {
            files::write(&self.file("departures", departure.network.as_str()), departure, true)?;
        }
        let orphans: Vec<_> = self.read(|data| {
            data.endpoints.values().filter(|e| e.docker_network == *docker_id).cloned().collect()
        });
        let mut releases = Vec::new();
        for endpoint in &orphans {
            releases.extend(self.forget_files(endpoint)?);
        }
        files::remove(&self.file("networks", docker_id.as_str()))?;
        self.change(|data| {
            data.releases.extend(releases);
            for endpoint in &orphans {
                data.endpoints.remove(&endpoint.id);
            }
            data.departures.extend(departure.map(|departure| (departure.network.clone(), departure)));
            data.bindings.remove(docker_id);
        });
        Ok(())
    }

    /// Forgets a settled departure.
    pub fn remove_departure(&self, network: &NetworkId) -> Result<(), LocalError> {
        files::remove(&self.file("departures", network.as_str()))?;
        self.change(|data| data.departures.remove(network));
        Ok(())
    }

    /// Adds or replaces an endpoint.
    pub fn put_endpoint(&self, endpoint: LocalEndpoint) -> Result<(), LocalError> {
        files::write(&self.file("endpoints", endpoint.id.as_str()), &endpoint, false)?;
        self.change(|data| data.endpoints.insert(endpoint.id.clone(), endpoint));
        Ok(())
    }

    /// Changes an endpoint that is there; `false` if it is not, or if nothing changed.
    pub fn update_endpoint(
        &self,
        id: &EndpointId,
        change: impl FnOnce(&mut LocalEndpoint),
    ) -> Result<bool, LocalError> {
        let Some(old) = self.read(|data| data.endpoints.get(id).cloned()) else { return Ok(false) };
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return Ok(false);
        }
        self.put_endpoint(new)?;
        Ok(true)
    }

    /// Forgets an endpoint and queues the addresses that were claimed with it.
    pub fn remove_endpoint(&self, id: &EndpointId) -> Result<Option<LocalEndpoint>, LocalError> {
        let Some(endpoint) = self.read(|data| data.endpoints.get(id).cloned()) else { return Ok(None) };
        let releases = self.forget_files(&endpoint)?;
        // At once: whoever met the one without the other would take the address for one in use.
        self.change(|data| {
            data.releases.extend(releases);
            data.endpoints.remove(id);
        });
        Ok(Some(endpoint))
    }

    /// Queues a claim to be given back.
    pub fn put_release(&self, release: Release) -> Result<(), LocalError> {
        files::write(&self.file("releases", &release.file_name()), &release, false)?;
        self.change(|data| data.releases.insert(release.key(), release));
        Ok(())
    }

    /// Takes a claim off the queue: given back, or wanted again.
    pub fn remove_release(&self, release: &Release) -> Result<(), LocalError> {
        files::remove(&self.file("releases", &release.file_name()))?;
        self.change(|data| data.releases.remove(&release.key()));
        Ok(())
    }

    /// The file of the last snapshot of the cluster.
    pub fn snapshot_file(&self) -> PathBuf {
        self.dir.join("snapshot.json")
    }

    /// Takes an endpoint's file away and answers the claims to give back, which are on file by then.
    fn forget_files(&self, endpoint: &LocalEndpoint) -> Result<Vec<(String, Release)>, LocalError> {
        let mut releases = Vec::new();
        for (cidr, ip) in &endpoint.claimed {
            let release = Release { cidr: *cidr, ip: *ip, until_ms: self.moment() };
            files::write(&self.file("releases", &release.file_name()), &release, false)?;
            releases.push((release.key(), release));
        }
        files::remove(&self.file("endpoints", endpoint.id.as_str()))?;
        Ok(releases)
    }

    fn file(&self, part: &str, name: &str) -> PathBuf {
        self.dir.join(part).join(format!("{name}.json"))
    }

    fn change<T>(&self, change: impl FnOnce(&mut LocalData) -> T) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LocalData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalData {
    /// The binding of a network of the cluster.
    pub fn binding_of(&self, network: &NetworkId) -> Option<&Binding> {
        self.bindings.values().find(|binding| binding.network.id == *network)
    }

    /// Networks that have an endpoint here.
    pub fn networks_in_use(&self) -> BTreeSet<NetworkId> {
        self.endpoints.values().map(|endpoint| endpoint.network.clone()).collect()
    }

    /// The endpoint that uses an address of a network.
    pub fn user_of(&self, cidr: &IpNet, ip: IpAddr) -> Option<&LocalEndpoint> {
        self.endpoints.values().find(|e| e.addresses.contains(&ip) && cidr.contains(&ip))
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
