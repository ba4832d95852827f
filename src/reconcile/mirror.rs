//! Mirrors the store into a snapshot: hosts and networks always, endpoints only of networks in use here.

mod section;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::section::Section;
use crate::{
    local::{self, Local},
    model::{Death, Endpoint, KnownHost, Meta, Network, NetworkId, Node, Snapshot},
    store::{Store, WatchEvent, keys},
};

/// How long changes are gathered before the durable copy is written.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How the mirror stands to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Cluster, hosts and networks have been read at least once since the start.
    pub synced: bool,
    /// What is wrong with the connection, if anything.
    pub trouble: Option<String>,
    /// Since when it is as it is, in seconds since 1970.
    pub since: u64,
}

/// The mirror task and what it publishes.
pub struct Mirror {
    store: Arc<dyn Store>,
    local: Arc<Local>,
    file: PathBuf,
    snapshot: watch::Sender<Arc<Snapshot>>,
    health: watch::Sender<Health>,
    sections: BTreeMap<Source, Section>,
    troubles: BTreeMap<Source, String>,
    watches: BTreeMap<NetworkId, CancellationToken>,
}

/// What one watch is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Meta,
    Nodes,
    Hosts,
    Dead,
    Networks,
    Endpoints(NetworkId),
}

/// An event, the watch it is from, and whether that one has been ended meanwhile.
type Told = (Source, CancellationToken, WatchEvent);

impl Mirror {
    /// Begins with the copy of the last run, so that names and forwarding entries are there at once and
    /// stay if the store does not answer.
    pub fn new(store: Arc<dyn Store>, local: Arc<Local>) -> Self {
        let file = local.snapshot_file();
        let saved = local::read_snapshot(&file).unwrap_or_else(|error| {
            warn!(%error, "beginning without the last known state");
            None
        });
        let (snapshot, _) = watch::channel(Arc::new(saved.unwrap_or_default()));
        let (health, _) = watch::channel(Health { since: crate::clock::unix_seconds(), ..Health::default() });
        Self {
            store,
            local,
            file,
            snapshot,
            health,
            sections: BTreeMap::new(),
            troubles: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// The snapshot, now and whenever it changes.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// The connection, now and whenever it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (sender, mut events) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        for (source, prefix) in [
            (Source::Meta, keys::META),
            (Source::Nodes, keys::NODES),
            (Source::Hosts, keys::HOSTS),
            (Source::Dead, keys::DEAD),
            (Source::Networks, keys::NETWORKS),
        ] {
            self.follow(&mut tasks, &sender, source, prefix, cancel.child_token());
        }
        let mut own_state = self.local.changes();
        let mut save_at: Option<Instant> = None;
        loop {
            self.follow_networks_in_use(&mut tasks, &sender, &cancel);
            // Every arm is cancel safe: receiving and waiting lose nothing when another arm wins.
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = own_state.changed() => {}
                () = sleep_until(save_at), if save_at.is_some() => {
                    save_at = None;
                    self.save();
                }
                Some(_) = tasks.join_next() => {}
                Some(told) = events.recv() => {
                    let mut changed = self.take(told);
                    while let Ok(told) = events.try_recv() {
                        changed |= self.take(told);
                    }
                    if changed && self.publish() {
                        save_at.get_or_insert_with(|| Instant::now() + SAVE_AFTER);
                    }
                }
            }
        }
        tasks.shutdown().await;
        self.save();
    }

    fn follow(
        &self,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<Told>,
        source: Source,
        prefix: &str,
        cancel: CancellationToken,
    ) {
        let mut watch = self.store.watch(prefix);
        let sender = sender.clone();
        tasks.spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    event = watch.next() => event,
                };
                let Some(event) = event else { return };
                if sender.send((source.clone(), cancel.clone(), event)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn follow_networks_in_use(
        &mut self,
        tasks: &mut JoinSet<()>,
        sender: &mpsc::Sender<Told>,
        cancel: &CancellationToken,
    ) {
        let wanted = self.local.read(local::LocalData::networks_in_use);
        let unwanted: BTreeSet<_> = self.watches.keys().filter(|id| !wanted.contains(id)).cloned().collect();
        for id in &unwanted {
            if let Some(stop) = self.watches.remove(id) {
                stop.cancel();
            }
            self.sections.remove(&Source::Endpoints(id.clone()));
            self.troubles.remove(&Source::Endpoints(id.clone()));
        }
        for id in wanted {
            if !self.watches.contains_key(&id) {
                let stop = cancel.child_token();
                self.follow(
                    tasks,
                    sender,
                    Source::Endpoints(id.clone()),
                    &keys::endpoints(&id),
                    stop.clone(),
                );
                self.watches.insert(id, stop);
            }
        }
        if !unwanted.is_empty() {
            self.publish();
        }
    }

    /// Takes one event in; `true` if the snapshot may have changed.
    fn take(&mut self, (source, ended, event): Told) -> bool {
        // What a watch told before it was ended must not mix with what its successor tells.
        if ended.is_cancelled() {
            return false;
        }
        if let WatchEvent::Lost(trouble) = event {
            self.troubles.insert(source, trouble);
            self.report();
            return false;
        }
        let changed = self.sections.entry(source.clone()).or_default().take(event);
        self.troubles.remove(&source);
        self.report();
        changed
    }

    /// One watch that is away is trouble enough, whatever the others say.
    fn report(&self) {
        let trouble = self.troubles.values().next().cloned();
        let listed = |source| self.sections.get(&source).is_some_and(|section| section.listed);
        let synced = listed(Source::Meta) && listed(Source::Nodes) && listed(Source::Networks);
        self.health.send_if_modified(|health| {
            if health.synced == synced && health.trouble == trouble {
                return false;
            }
            match (&health.trouble, &trouble) {
                (None, Some(trouble)) => {
                    warn!(%trouble, "the cluster store is away; everything stays as it is");
                }
                (Some(_), None) => info!("the cluster store is back"),
                _ => {}
            }
            *health = Health { synced, trouble, since: crate::clock::unix_seconds() };
            true
        });
    }

    /// Publishes the snapshot if it differs from the last one.
    fn publish(&self) -> bool {
        let old = self.snapshot.borrow().clone();
        let new = self.build(&old);
        if *old == new {
            return false;
        }
        self.snapshot.send_replace(Arc::new(new));
        true
    }

    /// What has been listed replaces what was known; what has not been listed yet stays.
    fn build(&self, old: &Snapshot) -> Snapshot {
        let listed = |source: &Source| self.sections.get(source).filter(|section| section.listed);
        let meta = match listed(&Source::Meta) {
            Some(section) => section.get::<Meta>(keys::META),
            None => old.meta.clone(),
        };
        let nodes = match listed(&Source::Nodes) {
            Some(section) => section.by_id(|node: &Node| node.id.clone()),
            None => old.nodes.clone(),
        };
        let hosts = match listed(&Source::Hosts) {
            Some(section) => section.by_id(|host: &KnownHost| host.id.clone()),
            None => old.hosts.clone(),
        };
        let dead = match listed(&Source::Dead) {
            Some(section) => section.by_id(|death: &Death| death.id.clone()),
            None => old.dead.clone(),
        };
        let networks = match listed(&Source::Networks) {
            Some(section) => section.by_id(|network: &Network| network.id.clone()),
            None => old.networks.clone(),
        };
        let endpoints = self.watches.keys().map(|id| {
            let endpoints = match listed(&Source::Endpoints(id.clone())) {
                Some(section) => section.by_id(|endpoint: &Endpoint| endpoint.id.clone()),
                None => old.endpoints.get(id).cloned().unwrap_or_default(),
            };
            (id.clone(), endpoints)
        });
        let endpoints = endpoints.collect();
        // Who is dead decides about endpoints as much as their own records do.
        let deaths_told = listed(&Source::Nodes).is_some() && listed(&Source::Dead).is_some();
        let told = self.watches.keys().filter(|id| listed(&Source::Endpoints((*id).clone())).is_some());
        let listed = told.filter(|_| deaths_told).cloned().collect();
        Snapshot { meta, nodes, hosts, dead, networks, endpoints, listed }
    }

    fn save(&self) {
        if let Err(error) = local::write_snapshot(&self.file, &self.snapshot.borrow()) {
            warn!(%error, "cannot save the last known state");
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
