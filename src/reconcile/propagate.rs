//! Makes the engine's networks equal to the cluster's: what was created on one host is created here,
//! under the same name and with the same settings; what was removed everywhere is removed here.

mod arriving;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{cluster, mirror::Health};
use crate::{
    backoff::Backoff,
    clock,
    engine::{DriverName, EngineApi, EngineError, EngineEvent, EngineNetwork, NetworkAction},
    local::{Binding, Departure, Local, LocalError},
    model::{Mode, Network, NetworkId, Role, Shared, Snapshot},
    store::{StoreError, ledger::Ledger},
    watched::Watched,
};
pub use arriving::spec_of;

/// The longest time between two looks at the engine.
const RESYNC: Duration = Duration::from_secs(15);
/// The shortest one, so that a burst of changes costs one look and not one each.
const SETTLE: Duration = Duration::from_millis(30);
/// The same while a new network's name is to be told, for which containers may be waiting.
const HURRY: Duration = Duration::from_millis(3);
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
    /// Networks that were removed here and live on other hosts, a sentence each.
    pub elsewhere: Vec<String>,
    /// Networks of the engine that give way to one of the cluster, by Docker's id, each with its name.
    pub yielding: BTreeMap<NetworkId, String>,
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
    pub driver: Arc<DriverName>,
    /// How the engine runs, and whether networks of the cluster are to be created here.
    pub roles: watch::Receiver<Role>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// The store's health.
    pub health: watch::Receiver<Health>,
    /// Where the engine's state is told.
    pub report: watch::Sender<EngineReport>,
}

/// What a look depends on, beside the engine.
#[derive(Debug, PartialEq)]
struct Ground {
    networks: Shared<BTreeMap<NetworkId, Network>>,
    departed: BTreeSet<NetworkId>,
    bindings: BTreeMap<NetworkId, Binding>,
    departures: BTreeSet<NetworkId>,
    in_use: BTreeSet<NetworkId>,
}

/// Whether networks may have come or gone, and not only containers on them.
fn is_about_networks(event: &EngineEvent) -> bool {
    match event {
        EngineEvent::Connected | EngineEvent::Lost(_) => true,
        EngineEvent::Network { action, .. } => {
            !matches!(action, NetworkAction::Connect | NetworkAction::Disconnect)
        }
        EngineEvent::Container { .. } => false,
    }
}

/// What one look at the engine has found.
#[derive(Debug, Default)]
struct Findings {
    problems: Vec<String>,
    elsewhere: Vec<String>,
    yielding: BTreeMap<NetworkId, String>,
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
        let mut told: Option<String> = None;
        loop {
            let pause = match self.round(&mut missing).await {
                Ok(()) => {
                    told = None;
                    retry.reset();
                    RESYNC
                }
                Err(error) => {
                    if let Unfinished::Engine(EngineError::Unreachable { .. }) = &error {
                        self.unreachable();
                    }
                    // Once for each trouble, not at each try.
                    let trouble = error.to_string();
                    if told.as_ref() != Some(&trouble) {
                        warn!(%error, "the engine's networks are not as they should be yet");
                        told = Some(trouble);
                    }
                    retry.pause()
                }
            };
            let (until, ground) = (Instant::now() + pause, self.ground());
            loop {
                // Every arm is cancel safe: each only waits for a change that stays visible, and what an
                // event of the engine says is looked up anew.
                let matters = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    event = events.next() => event.is_none_or(|event| is_about_networks(&event)),
                    Ok(()) = self.roles.changed() => true,
                    Ok(()) = self.health.changed() => true,
                    Ok(()) = self.snapshot.changed() => self.ground() != ground,
                    Ok(()) = changes.changed() => self.ground() != ground,
                    () = tokio::time::sleep_until(until) => true,
                };
                // A container that starts or ends asks the engine nothing, unless something waits for it.
                if matters || self.is_waiting() {
                    break;
                }
            }
            tokio::time::sleep(if self.owes_a_name() { HURRY } else { SETTLE }).await;
            changes.mark_unchanged();
        }
    }

    fn ground(&self) -> Ground {
        let snapshot = self.snapshot.now();
        self.local.read(|data| Ground {
            networks: snapshot.networks.clone(),
            departed: snapshot.departed.clone(),
            bindings: data.bindings.clone(),
            departures: data.departures.keys().cloned().collect(),
            in_use: data.networks_in_use(),
        })
    }

    /// Whether the last look has left something to do, or a person to be told of it.
    fn is_waiting(&self) -> bool {
        let report = self.report.now();
        let settled = report.problems.is_empty() && report.yielding.is_empty() && report.elsewhere.is_empty();
        !settled || !report.reachable || self.owes_a_name()
    }

    fn owes_a_name(&self) -> bool {
        let own = self.local.node();
        self.local.read(|data| {
            let networks = data.bindings.values().map(|binding| &binding.network);
            networks.filter(|network| network.created_by == *own).any(|network| network.name.is_none())
        })
    }

    fn unreachable(&self) {
        self.report.send_if_modified(|report| std::mem::replace(&mut report.reachable, false));
    }

    async fn round(&self, missing: &mut BTreeMap<NetworkId, Instant>) -> Result<(), Unfinished> {
        let networks = self.engine.networks(self.driver.ask(&*self.engine).await?).await?;
        let last = self.report.now();
        let version = match last.version.filter(|_| last.reachable) {
            Some(version) => version,
            None => self.engine.version().await?.version,
        };
        let mut found = Findings::default();
        self.notice_missing(&networks, missing)?;
        for network in &networks {
            self.tell_details(network, &mut found).await?;
        }
        self.remove_gone(&mut found).await?;
        // Under the global scope an engine would make something else of a plain network.
        if self.roles.see(Role::takes_plain_networks) {
            self.create_new(&mut found).await?;
        }
        let report = EngineReport {
            reachable: true,
            version: Some(version),
            elsewhere: found.elsewhere,
            yielding: found.yielding,
            problems: found.problems,
        };
        self.report.send_if_modified(|old| {
            let changed = *old != report;
            *old = report;
            changed
        });
        Ok(())
    }

    /// A network that the engine no longer has although nobody told us: it was removed while this daemon
    /// was away. Of one that engines share, that is no sign: they do not list it either while their own
    /// store is away, and a swarm's comes and goes with its tasks.
    fn notice_missing(
        &self,
        networks: &[EngineNetwork],
        missing: &mut BTreeMap<NetworkId, Instant>,
    ) -> Result<(), LocalError> {
        let mut bindings = self.local.read(|data| data.bindings.clone());
        bindings.retain(|_, binding| binding.network.mode() == Mode::Plain);
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

    async fn remove_gone(&self, found: &mut Findings) -> Result<(), Unfinished> {
        let health = self.health.now();
        if !health.synced || health.trouble.is_some() {
            return Ok(());
        }
        let snapshot = self.snapshot.now();
        let bindings = self.local.read(|data| data.bindings.clone());
        for binding in bindings.into_values().filter(|b| !snapshot.networks.contains_key(&b.network.id)) {
            if !self.surely_gone(&binding).await? {
                continue;
            }
            if binding.network.mode() != Mode::Plain {
                if !self.local.read(|data| data.networks_in_use().contains(&binding.network.id)) {
                    self.local.remove_binding(&binding.docker_id, None)?;
                }
                continue;
            }
            info!(
                network = binding.network.title(),
                "removing a network that is gone from the cluster{}",
                snapshot.gave_way_because(&binding.network.id)
            );
            match self.engine.remove_network(binding.docker_id.as_str()).await {
                Ok(()) => self.local.remove_binding(&binding.docker_id, None)?,
                Err(EngineError::InUse { .. }) => found.problems.push(format!(
                    "network {} is gone from the cluster{}, but containers here still use it: stop them",
                    binding.network.title(),
                    snapshot.gave_way_because(&binding.network.id)
                )),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Not in the store, and the store is the one that this host knows: only then is it an explicit removal,
    /// and not a lost disk. In this order, since a store that is lost in between is noticed only afterwards.
    async fn surely_gone(&self, binding: &Binding) -> Result<bool, StoreError> {
        if self.exists(&binding.network.id).await? {
            return Ok(false);
        }
        let snapshot = self.snapshot.now();
        cluster::is_known(&**self.ledger.store(), &self.local, &snapshot).await
    }
}
