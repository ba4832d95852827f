//! Makes the engine's networks equal to the cluster's: what was created on one host is created here,
//! under the same name and with the same settings; what was removed everywhere is removed here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::mirror::Health;
use crate::{
    backoff::Backoff,
    clock,
    engine::{EngineApi, EngineError, EngineNetwork, IpamConfig, NetworkSpec},
    local::{Binding, Departure, Local, LocalError},
    model::{IpamMode, JOIN_OPTION, Meta, Network, NetworkClaim, NetworkId, Snapshot},
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger, record},
};

/// The longest time between two looks at the engine.
const RESYNC: Duration = Duration::from_secs(15);
/// The shortest one, so that a burst of changes costs one look and not one each.
const SETTLE: Duration = Duration::from_millis(30);
/// How long a network that the driver knows may be missing in the engine's list. While the engine creates
/// it, it is.
const MISSING: Duration = Duration::from_secs(20);

/// How this host stands to its engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineReport {
    /// Whether its API answers.
    pub reachable: bool,
    /// Its release, once it has answered.
    pub version: Option<String>,
    /// What needs a person's attention.
    pub problems: Vec<String>,
}

/// The propagation task.
pub struct Propagator {
    /// The engine.
    pub engine: Arc<dyn EngineApi>,
    /// The store.
    pub ledger: Ledger,
    /// This host's state.
    pub local: Arc<Local>,
    /// Name by which the engine knows our driver.
    pub driver: String,
    /// Engines share networks by themselves (`--scope global`): then there is nothing to create here.
    pub shared_by_engine: bool,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The store's health.
    pub health: watch::Receiver<Health>,
    /// Where the engine's state is told.
    pub report: watch::Sender<EngineReport>,
}

#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl Propagator {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut events = self.engine.events();
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut missing = BTreeMap::new();
        loop {
            let pause = match self.round(&mut missing).await {
                Ok(()) => {
                    retry.reset();
                    RESYNC
                }
                Err(error) => {
                    if let Unfinished::Engine(EngineError::Unreachable { .. }) = &error {
                        self.unreachable();
                    } else {
                        warn!(%error, "the engine's networks are not as they should be yet");
                    }
                    retry.pause()
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible, and what an
            // event of the engine says is looked up anew.
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = events.next() => {}
                _ = self.snapshot.changed() => {}
                _ = self.health.changed() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(SETTLE).await;
            changes.mark_unchanged();
        }
    }

    fn unreachable(&self) {
        self.report.send_if_modified(|report| std::mem::replace(&mut report.reachable, false));
    }

    async fn round(&self, missing: &mut BTreeMap<NetworkId, Instant>) -> Result<(), Unfinished> {
        let networks = self.engine.networks(&self.driver).await?;
        let last = self.report.borrow().clone();
        let version = match last.version.filter(|_| last.reachable) {
            Some(version) => version,
            None => self.engine.version().await?.version,
        };
        let mut problems = Vec::new();
        if !self.shared_by_engine {
            self.notice_missing(&networks, missing)?;
        }
        for network in &networks {
            self.tell_details(network, &mut problems).await?;
        }
        self.remove_gone(&mut problems).await?;
        if !self.shared_by_engine {
            self.create_new(&mut problems).await?;
        }
        let report = EngineReport { reachable: true, version: Some(version), problems };
        self.report.send_if_modified(|old| {
            let changed = *old != report;
            *old = report;
            changed
        });
        Ok(())
    }

    /// A network that the engine no longer has although nobody told us: it was removed while this daemon
    /// was away.
    fn notice_missing(
        &self,
        networks: &[EngineNetwork],
        missing: &mut BTreeMap<NetworkId, Instant>,
    ) -> Result<(), LocalError> {
        let bindings = self.local.read(|data| data.bindings.clone());
        missing.retain(|id, _| bindings.contains_key(id) && !networks.iter().any(|n| n.id == id.as_str()));
        for (id, binding) in bindings {
            if networks.iter().any(|network| network.id == id.as_str()) {
                continue;
            }
            let since = *missing.entry(id.clone()).or_insert_with(Instant::now);
            if since.elapsed() > MISSING {
                info!(
                    network = binding.network.title(),
                    "the engine has removed a network while nobody was there to hear it"
                );
                let title = binding.network.title().to_owned();
                let departure =
                    Departure { network: binding.network.id.clone(), title, since: clock::unix_seconds() };
                self.local.remove_binding(&id, Some(departure))?;
                missing.remove(&id);
            }
        }
        Ok(())
    }

    /// Completes the record of a network that was created here with what no driver call tells: its name,
    /// its labels and flags. The name is claimed with it.
    async fn tell_details(
        &self,
        docker: &EngineNetwork,
        problems: &mut Vec<String>,
    ) -> Result<(), Unfinished> {
        let Ok(docker_id) = NetworkId::new(docker.id.as_str()) else { return Ok(()) };
        let Some(binding) = self.local.read(|data| data.bindings.get(&docker_id).cloned()) else {
            return Ok(self.adopt(docker, &docker_id)?);
        };
        if binding.network.name.is_some() || binding.network.created_by != *self.local.node() {
            return self.refresh(&binding);
        }
        let key = keys::network(&binding.network.id);
        let Some(held) = self.ledger.get::<Network>(&key).await? else { return Ok(()) };
        if held.record.name.is_some() {
            return Ok(self.local.refresh_binding(&docker_id, &held.record)?);
        }
        let told = with_details(&held.record, docker);
        let name = keys::name(&docker.name);
        let txn = Txn::new().unchanged(&held.entry).put(key, record::encode(&told));
        let txn = match self.ledger.get::<NetworkClaim>(&name).await? {
            None => txn.absent(name.as_str()),
            Some(claim) if claim.record.network != told.id && self.exists(&claim.record.network).await? => {
                return self.yield_name(docker, &claim.record.network, problems).await;
            }
            // Left behind by a network that is gone.
            Some(claim) => txn.unchanged(&claim.entry),
        };
        let claim = record::encode(&NetworkClaim { network: told.id.clone() });
        // After a lost race the next look, which the change itself brings about, finds the winner.
        if self.ledger.commit(txn.put(name, claim)).await? == Outcome::Committed {
            info!(network = %docker.name, "network told to the cluster");
            self.local.refresh_binding(&docker_id, &told)?;
        }
        Ok(())
    }

    async fn exists(&self, network: &NetworkId) -> Result<bool, StoreError> {
        Ok(self.ledger.get::<Network>(&keys::network(network)).await?.is_some())
    }

    /// Keeps the copy that a start without the store would go by.
    fn refresh(&self, binding: &Binding) -> Result<(), Unfinished> {
        let snapshot = self.snapshot.borrow().clone();
        if let Some(newest) = snapshot.networks.get(&binding.network.id) {
            self.local.refresh_binding(&binding.docker_id, newest)?;
        }
        Ok(())
    }

    /// The engine has a network of ours that this host's state does not know, as after the loss of the
    /// state directory: its IPAM option, or its own id, says which network of the cluster it is.
    fn adopt(&self, docker: &EngineNetwork, docker_id: &NetworkId) -> Result<(), LocalError> {
        let snapshot = self.snapshot.borrow().clone();
        let named = docker.ipam_options.get(JOIN_OPTION).and_then(|id| NetworkId::new(id.as_str()).ok());
        let id = named.unwrap_or_else(|| docker_id.clone());
        let Some(network) = snapshot.networks.get(&id) else { return Ok(()) };
        if self.local.read(|data| data.binding_of(&id).is_some() || data.departures.contains_key(&id)) {
            return Ok(());
        }
        info!(network = network.title(), "taking over a network that the engine has already");
        let ipam = if docker.ipam_driver == self.driver { IpamMode::Ours } else { IpamMode::Engine };
        let (docker_id, network) = (docker_id.clone(), network.clone());
        self.local.put_binding(Binding { docker_id, network, ipam, created_at: clock::unix_seconds() })
    }

    /// Two hosts have created a network of one name at the same time, and the other was first.
    async fn yield_name(
        &self,
        docker: &EngineNetwork,
        winner: &NetworkId,
        problems: &mut Vec<String>,
    ) -> Result<(), Unfinished> {
        if docker.endpoints.is_empty() {
            warn!(network = %docker.name, "the cluster has a network of this name already; taking that one");
            // Whoever creates it here wants it here, even if it was removed here before.
            let back = keys::departed(winner, self.local.node());
            self.ledger.commit(Txn::new().delete(back)).await?;
            return Ok(self.engine.remove_network(&docker.id).await?);
        }
        problems.push(format!(
            "network {} was created on another host first, and here it has containers already: stop them and run 'docker network rm {}', then it appears again as the other one",
            docker.name, docker.id.get(..12).unwrap_or(&docker.id)
        ));
        Ok(())
    }

    async fn remove_gone(&self, problems: &mut Vec<String>) -> Result<(), Unfinished> {
        let health = self.health.borrow().clone();
        if !health.synced || health.trouble.is_some() {
            return Ok(());
        }
        let snapshot = self.snapshot.borrow().clone();
        let bindings = self.local.read(|data| data.bindings.clone());
        for binding in bindings.into_values().filter(|b| !snapshot.networks.contains_key(&b.network.id)) {
            if !self.surely_gone(&binding).await? {
                continue;
            }
            if self.shared_by_engine {
                if !self.local.read(|data| data.networks_in_use().contains(&binding.network.id)) {
                    self.local.remove_binding(&binding.docker_id, None)?;
                }
                continue;
            }
            info!(network = binding.network.title(), "removing a network that is gone from the cluster");
            match self.engine.remove_network(binding.docker_id.as_str()).await {
                Ok(()) => self.local.remove_binding(&binding.docker_id, None)?,
                Err(EngineError::InUse { .. }) => problems.push(format!(
                    "network {} is gone from the cluster, but containers here still use it: stop them",
                    binding.network.title()
                )),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Not in the store, and the store is the one that we know: only then is it an explicit removal, and
    /// not a wiped disk.
    async fn surely_gone(&self, binding: &Binding) -> Result<bool, StoreError> {
        let meta = self.ledger.get::<Meta>(keys::META).await?;
        let ours = self.local.read(|data| data.cluster.clone());
        if meta.is_none() || meta.map(|held| held.record.cluster) != ours {
            return Ok(false);
        }
        Ok(!self.exists(&binding.network.id).await?)
    }

    async fn create_new(&self, problems: &mut Vec<String>) -> Result<(), Unfinished> {
        let snapshot = self.snapshot.borrow().clone();
        for network in snapshot.networks.values().filter(|network| !network.allocated) {
            let Some(name) = &network.name else { continue };
            let here = self.local.read(|data| {
                data.binding_of(&network.id).is_some() || data.departures.contains_key(&network.id)
            });
            if here || self.has_departed(network).await? {
                continue;
            }
            if let Some(other) = self.engine.network(name).await? {
                problems.push(format!(
                    "network {name} of the cluster cannot be created here: the engine has another one of that name (driver {}); remove or rename that one",
                    other.driver
                ));
                continue;
            }
            match self.engine.create_network(&self.spec(name, network)).await {
                Ok(_) => info!(network = %name, "network of the cluster created here"),
                Err(error @ (EngineError::Unreachable { .. } | EngineError::Timeout { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    problems.push(format!("network {name} of the cluster cannot be created here: {error}"));
                }
            }
        }
        Ok(())
    }

    async fn has_departed(&self, network: &Network) -> Result<bool, StoreError> {
        let mark = keys::departed(&network.id, self.local.node());
        Ok(self.ledger.store().range(&mark).await?.iter().any(|entry| entry.key == mark))
    }

    fn spec(&self, name: &str, network: &Network) -> NetworkSpec {
        let mut ipam_options = network.ipam_options.clone();
        // Not among the driver's options: compose 1.29 compares those, and would refuse the network.
        ipam_options.insert(JOIN_OPTION.to_owned(), network.id.to_string());
        let ipam = network.subnets.iter().map(|subnet| IpamConfig {
            subnet: Some(subnet.cidr),
            gateway: subnet.gateway.filter(|_| !subnet.gateway_unlisted),
            ip_range: subnet.ip_range,
            aux: subnet.aux.clone(),
        });
        NetworkSpec {
            name: name.to_owned(),
            driver: self.driver.clone(),
            internal: network.internal,
            attachable: network.attachable,
            ipv6: network.ipv6,
            options: network.options.clone(),
            labels: network.labels.clone(),
            ipam_driver: self.driver.clone(),
            ipam_options,
            ipam: ipam.collect(),
        }
    }
}

fn with_details(network: &Network, docker: &EngineNetwork) -> Network {
    let mut told = network.clone();
    told.name = Some(docker.name.clone());
    told.labels = docker.labels.clone();
    told.attachable = docker.attachable;
    told.internal = docker.internal;
    told.ipv6 = docker.ipv6;
    for subnet in &mut told.subnets {
        // The engine's own IPAM keeps a range to itself; the other hosts must not leave it either.
        if let Some(config) = docker.ipam.iter().find(|config| config.subnet == Some(subnet.cidr)) {
            subnet.ip_range = subnet.ip_range.or(config.ip_range);
            subnet.gateway_unlisted = config.gateway.is_none();
        }
    }
    told
}
