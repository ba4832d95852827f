//! What this host must remember by itself: who it is, which networks its engine has, its endpoints, and
//! what it still has to give back. One small JSON file per object under the state directory.
//!
//! Handlers change this state and return; background tasks make the kernel and the store follow it. So
//! it is the queue of all work that may wait, and it survives a `kill -9` at any point: each file is
//! replaced by a rename.

mod data;
mod fence;
mod files;
mod identity;
mod record;
pub mod witness;

use std::{
    collections::BTreeMap,
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

use crate::{
    lockfile::Lockfile,
    model::{EndpointId, Network, NetworkId, NodeId},
};
pub use data::LocalData;
pub use identity::boot_id;
pub use record::{Binding, CutOff, Departure, LocalEndpoint, Release, Takeover};

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
    lock: Lockfile,
}

impl Local {
    /// Opens the state directory, making it where needed, and reads what the last run left.
    pub fn open(dir: &Path, random: u64) -> Result<Self, LocalError> {
        Self::open_in(dir, random, boot_id())
    }

    /// The same, in the boot of that id.
    pub fn open_in(dir: &Path, random: u64, boot: String) -> Result<Self, LocalError> {
        for part in ["endpoints", "networks", "releases", "departures", "takeovers"] {
            files::create_dir(&dir.join(part))?;
        }
        let lock = identity::lock(dir)?;
        let node = identity::node_id(dir, random)?;
        let data = LocalData {
            cluster: files::read(&dir.join("cluster.json"))?,
            incarnation: files::read(&dir.join("incarnation.json"))?.unwrap_or_default(),
            takeovers: keyed(files::read_all(&dir.join("takeovers"))?, Takeover::key),
            departures: keyed(files::read_all(&dir.join("departures"))?, |d: &Departure| d.network.clone()),
            releases: keyed(files::read_all(&dir.join("releases"))?, Release::key),
            bindings: keyed(files::read_all(&dir.join("networks"))?, |b: &Binding| b.docker_id.clone()),
            endpoints: keyed(files::read_all(&dir.join("endpoints"))?, |e: &LocalEndpoint| e.id.clone()),
        };
        // Containers do not survive a reboot, so neither do their endpoints; their engine will ask for
        // new ones. Addresses that its own IPAM chose have to be given back.
        let stale: Vec<_> =
            data.endpoints.values().filter(|e| e.boot_id != boot).map(|e| e.id.clone()).collect();
        let (version, _) = watch::channel(0);
        let moment = AtomicU64::new(data.releases.values().map(|r| r.until_ms).max().unwrap_or_default());
        let local = Self { dir: dir.to_owned(), node, boot, data: Mutex::new(data), version, moment, lock };
        for endpoint in stale {
            local.remove_lost(&endpoint)?;
        }
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

    /// Remembers the cluster.
    pub fn set_cluster(&self, cluster: &str) -> Result<(), LocalError> {
        self.change(|data| {
            files::write(&self.dir.join("cluster.json"), &cluster, true)?;
            data.cluster = Some(cluster.to_owned());
            Ok(())
        })
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

    /// Forgets a network of the engine. What is left of its endpoints goes with it, and their addresses
    /// are queued to be given back; `departure` queues the question what becomes of the network.
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
            data.bindings.remove(docker_id);
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

    /// Adds or replaces an endpoint.
    pub fn put_endpoint(&self, endpoint: LocalEndpoint) -> Result<(), LocalError> {
        self.change(|data| self.store_endpoint(data, endpoint))
    }

    /// Changes an endpoint that is there; `false` if it is not, or if nothing changed.
    pub fn update_endpoint(
        &self,
        id: &EndpointId,
        change: impl FnOnce(&mut LocalEndpoint),
    ) -> Result<bool, LocalError> {
        let mut data = self.lock();
        let Some(old) = data.endpoints.get(id) else { return Ok(false) };
        let mut new = old.clone();
        change(&mut new);
        if new == *old {
            return Ok(false);
        }
        self.store_endpoint(&mut data, new)?;
        drop(data);
        self.tell();
        Ok(true)
    }

    /// Forgets an endpoint and queues the addresses that were claimed with it.
    pub fn remove_endpoint(&self, id: &EndpointId) -> Result<Option<LocalEndpoint>, LocalError> {
        self.change(|data| self.drop_endpoint(data, id))
    }

    /// Forgets all endpoints whose sandbox is gone, in a host that has lost its links: as after a power
    /// cut that no new boot id tells of. Answers how many.
    pub fn forget_lost(&self, alive: impl Fn(&str) -> bool) -> Result<usize, LocalError> {
        self.change(|data| {
            let lost = data.endpoints.values().filter(|e| !e.sandbox.as_deref().is_some_and(&alive));
            let lost: Vec<_> = lost.map(|endpoint| endpoint.id.clone()).collect();
            for endpoint in &lost {
                self.drop_lost(data, endpoint)?;
            }
            Ok(lost.len())
        })
    }

    /// Forgets an endpoint of which its engine will not speak again.
    pub fn remove_lost(&self, id: &EndpointId) -> Result<(), LocalError> {
        self.change(|data| self.drop_lost(data, id))
    }

    /// Queues a claim to be given back.
    pub fn put_release(&self, release: Release) -> Result<(), LocalError> {
        self.change(|data| self.queue_release(data, release))
    }

    /// Takes a release off the queue that has been carried out; a later one of the same address stays.
    pub fn settle_release(&self, release: &Release) -> Result<(), LocalError> {
        self.change(|data| {
            if data.releases.get(&release.key()) == Some(release) {
                files::remove(&self.file("releases", &release.file_name()))?;
                data.releases.remove(&release.key());
            }
            Ok(())
        })
    }

    /// Takes an address off the queue that is wanted again.
    pub fn cancel_release(&self, cidr: &IpNet, ip: IpAddr) -> Result<(), LocalError> {
        let queued = self.read(|data| data.releases.get(&Release::key_of(cidr, ip)).cloned());
        queued.map_or(Ok(()), |release| self.settle_release(&release))
    }

    /// The file of the last snapshot of the cluster.
    pub fn snapshot_file(&self) -> PathBuf {
        self.dir.join("snapshot.json")
    }

    fn store_binding(&self, data: &mut LocalData, binding: Binding) -> Result<(), LocalError> {
        files::write(&self.file("networks", binding.docker_id.as_str()), &binding, true)?;
        data.bindings.insert(binding.docker_id.clone(), binding);
        Ok(())
    }

    fn store_endpoint(&self, data: &mut LocalData, endpoint: LocalEndpoint) -> Result<(), LocalError> {
        files::write(&self.file("endpoints", endpoint.id.as_str()), &endpoint, false)?;
        data.endpoints.insert(endpoint.id.clone(), endpoint);
        Ok(())
    }

    fn drop_endpoint(
        &self,
        data: &mut LocalData,
        id: &EndpointId,
    ) -> Result<Option<LocalEndpoint>, LocalError> {
        let Some(endpoint) = data.endpoints.get(id).cloned() else { return Ok(None) };
        // The queue first: an address that is queued twice does no harm, one that is forgotten does.
        for (cidr, ip) in &endpoint.claimed {
            let until_ms = self.moment();
            self.queue_release(data, Release { cidr: *cidr, ip: *ip, until_ms })?;
        }
        files::remove(&self.file("endpoints", id.as_str()))?;
        data.endpoints.remove(id);
        Ok(Some(endpoint))
    }

    /// Nobody gives back what our own IPAM handed out for it either.
    fn drop_lost(&self, data: &mut LocalData, id: &EndpointId) -> Result<(), LocalError> {
        let Some(endpoint) = self.drop_endpoint(data, id)? else { return Ok(()) };
        let network = data.bindings.get(&endpoint.docker_network).map(|binding| binding.network.clone());
        for ip in endpoint.addresses {
            if let Some(subnet) = network.as_ref().and_then(|network| network.subnet_of(ip)) {
                let until_ms = self.moment();
                self.queue_release(data, Release { cidr: subnet.cidr, ip, until_ms })?;
            }
        }
        Ok(())
    }

    fn queue_release(&self, data: &mut LocalData, release: Release) -> Result<(), LocalError> {
        files::write(&self.file("releases", &release.file_name()), &release, false)?;
        data.releases.insert(release.key(), release);
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

    fn lock(&self) -> std::sync::MutexGuard<'_, LocalData> {
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
