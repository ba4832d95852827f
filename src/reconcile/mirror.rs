//! Mirrors the store into a snapshot: hosts and networks always, endpoints only of networks in use here.

mod building;
mod following;
mod keeping;
mod members;
mod section;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{members::Members, section::Section};
use super::cluster;
use crate::{
    local::{self, Local},
    model::{Mark, NetworkId, NodeId, Shared, Snapshot},
    store::{Entry, Store, WatchEvent, keys},
    watched::Watched,
};

/// How long changes are gathered before the durable copy is written, and how much longer for each endpoint and host
/// in it: a copy of thousands takes a core some ten milliseconds. What a daemon that is killed has not saved yet, the
/// store tells its successor, and until then the kernel's entries stay.
const SAVE_AFTER: Duration = Duration::from_millis(500);
const SAVE_LATER: Duration = Duration::from_millis(10);
/// The longest such time.
const SAVE_AT_LAST: Duration = Duration::from_secs(30);

/// Rest between two snapshots, and how many times as long as the last one took to put together: the first change is told
/// at once, a stream of them in parts, which take a fifth of a core at most.
const GATHER: Duration = Duration::from_millis(5);
const GATHER_SHARE: u32 = 4;

/// When to look again at a store that is not the one that is known, and at records that have not come yet.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

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
    /// Those of the cluster's section, once it is listed.
    marks: Shared<BTreeMap<NodeId, Arc<Mark>>>,
    troubles: BTreeMap<Source, String>,
    /// Endpoints of the networks in use, and what ends the watch of each.
    members: BTreeMap<NetworkId, (Members, CancellationToken)>,
    /// What is not in the store was removed, and not lost with it.
    trusted: bool,
    /// Something has happened since that was found out.
    doubtful: bool,
}

/// What one watch is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Cluster,
    Nodes,
    Hosts,
    Dead,
    Networks,
    Wanted,
    Removed,
    Departed,
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
        let mut saved = saved.unwrap_or_default();
        members::make_frugal(&mut saved);
        let (snapshot, _) = watch::channel(Arc::new(saved));
        let (health, _) = watch::channel(Health { since: crate::clock::unix_seconds(), ..Health::default() });
        Self {
            store,
            local,
            file,
            snapshot,
            health,
            sections: BTreeMap::new(),
            marks: Shared::default(),
            troubles: BTreeMap::new(),
            members: BTreeMap::new(),
            trusted: false,
            doubtful: true,
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
            (Source::Cluster, keys::CLUSTER),
            (Source::Nodes, keys::NODES),
            (Source::Hosts, keys::HOSTS),
            (Source::Dead, keys::DEAD),
            (Source::Networks, keys::NETWORKS),
            (Source::Wanted, keys::WANTED),
            (Source::Removed, keys::REMOVED),
            (Source::Departed, keys::DEPARTED),
        ] {
            self.follow(&mut tasks, &sender, source, prefix, cancel.child_token());
        }
        let mut own_state = self.local.changes();
        let mut save_at: Option<Instant> = None;
        let mut look_at: Option<Instant> = None;
        let mut incarnation = self.incarnation();
        let mut changed = false;
        let mut rest_until = Instant::now();
        loop {
            changed |= self.follow_networks_in_use(&mut tasks, &sender, &cancel);
            let rest = (changed && Instant::now() < rest_until).then_some(rest_until);
            if changed && rest.is_none() {
                let begun = Instant::now();
                let (published, complete) = self.publish().await;
                if published {
                    let rest = rest_before_saving(&self.snapshot.now());
                    save_at.get_or_insert_with(|| Instant::now() + rest);
                }
                rest_until = Instant::now() + GATHER.max(begun.elapsed() * GATHER_SHARE);
                look_at = (!complete).then(|| Instant::now() + LOOK_AGAIN);
                changed = false;
            }
            // Every arm is cancel safe: receiving and waiting lose nothing when another arm wins.
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = own_state.changed() => {
                    let now = self.incarnation();
                    if now != incarnation {
                        incarnation = now;
                        self.doubtful = true;
                        changed = true;
                    }
                }
                Some(told) = events.recv() => {
                    changed |= self.take(told);
                    while let Ok(told) = events.try_recv() {
                        changed |= self.take(told);
                    }
                }
                () = sleep_until(look_at), if look_at.is_some() && !changed => changed = true,
                () = sleep_until(rest), if rest.is_some() => {}
                () = sleep_until(save_at), if save_at.is_some() => {
                    save_at = None;
                    self.save();
                }
                Some(_) = tasks.join_next() => {}
            }
        }
        tasks.shutdown().await;
        self.save();
    }

    fn incarnation(&self) -> Option<String> {
        self.local.read(|data| data.store_incarnation().map(str::to_owned))
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
        // Whatever was removed, and all that is listed anew, may come from a store that was lost.
        self.doubtful |= match &event {
            WatchEvent::Delete(_) | WatchEvent::InitDone => true,
            WatchEvent::Put(entry) => entry.key.starts_with(keys::META),
            _ => false,
        };
        let changed = match &source {
            Source::Endpoints(id) => self.members.get_mut(id).is_some_and(|(all, _)| all.take(event)),
            Source::Cluster => self.take_of_cluster(event),
            _ => self.sections.entry(source.clone()).or_default().take(event),
        };
        self.troubles.remove(&source);
        self.report();
        changed
    }

    /// Each change of a host raises its mark, and all hosts are told: that one alone is read then.
    fn take_of_cluster(&mut self, event: WatchEvent) -> bool {
        let key = match &event {
            WatchEvent::Put(Entry { key, .. }) | WatchEvent::Delete(key) => Some(key.clone()),
            _ => None,
        };
        let section = self.sections.entry(Source::Cluster).or_default();
        if !section.take(event) {
            return false;
        }
        match key.as_deref().map(|key| (key, keys::marked(key))) {
            None => self.marks = section.by_key(keys::marked).into(),
            Some((_, None)) => {}
            Some((key, Some(node))) => match section.record(key) {
                Some(mark) => drop(self.marks.insert(node, mark)),
                None => drop(self.marks.remove(&node)),
            },
        }
        true
    }

    /// One watch that is away is trouble enough, whatever the others say.
    fn report(&self) {
        let trouble = self.troubles.values().next().cloned();
        let listed = |source| self.sections.get(&source).is_some_and(|section| section.listed);
        let synced = listed(Source::Cluster) && listed(Source::Nodes) && listed(Source::Networks);
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

    /// Publishes the snapshot if it differs from the last one. Answers whether it did, and whether nothing
    /// is kept back for a better look.
    async fn publish(&mut self) -> (bool, bool) {
        let old = self.snapshot.now();
        if self.doubtful {
            // An error leaves the doubt.
            let known = cluster::is_known(&*self.store, &self.local, &old).await;
            self.trusted = matches!(known, Ok(true));
            self.doubtful = !self.trusted;
        }
        let told = self.build(&old);
        let (new, complete) = if self.trusted {
            self.keep_unconfirmed(&old, told).await
        } else {
            (keeping::frozen(&old, told), false)
        };
        let changed = *old != new;
        if changed {
            self.snapshot.send_replace(Arc::new(new));
        }
        (changed, complete)
    }

    fn save(&self) {
        if let Err(error) = local::write_snapshot(&self.file, &self.snapshot.now()) {
            warn!(%error, "cannot save the last known state");
        }
    }
}

fn rest_before_saving(snapshot: &Snapshot) -> Duration {
    let endpoints: usize = snapshot.endpoints.values().map(|endpoints| endpoints.len()).sum();
    let size = u32::try_from(endpoints + snapshot.hosts.len()).unwrap_or(u32::MAX);
    SAVE_LATER.saturating_mul(size).saturating_add(SAVE_AFTER).min(SAVE_AT_LAST)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
