//! Keeps one interceptor in every sandbox of this host, and the zone that they answer from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    interceptor::Interceptor,
    place::{Common, Place},
    sandboxes::wanted,
};
use crate::{
    dataplane::interception::{Interception, InterceptionError},
    local::Local,
    model::{Endpoint, NetworkId, Snapshot, Underlay},
    names::Zone,
    watched::{Followed, Watched},
};

/// What the manager works with.
pub struct Manager {
    /// Endpoints of this host, with their sandboxes.
    pub local: Arc<Local>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Where this host takes VXLAN packets.
    pub underlay: watch::Receiver<Underlay>,
    /// Where it is told how sandboxes are served.
    pub told: watch::Sender<Told>,
}

/// How the sandboxes of this host are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Those whose queries are answered.
    pub served: BTreeSet<PathBuf>,
    /// Why others are not.
    pub complaints: BTreeMap<PathBuf, String>,
    /// Why none is, where the kernel is not able to.
    pub unable: Option<String>,
    /// How often sockets that somebody else had closed were opened anew.
    pub reopened: u64,
}

impl Manager {
    /// Runs until `cancel`, and gives all queries back to Docker then.
    pub async fn run(self, cancel: CancellationToken) {
        let (zone, zone_now) = watch::channel(Arc::default());
        let common = Common { zone: zone_now, epoch: Instant::now(), open: Interceptor::open };
        tokio::join!(
            keep_zone(&self.local, self.snapshot.clone(), &self.underlay, &zone, common.epoch, &cancel),
            async {
                // So that people hear of it before the first container misses a name. Whatever else goes
                // wrong here is no reason not to try in earnest.
                match spawn_blocking(Interception::try_out).await {
                    Ok(Err(error @ InterceptionError::Unsupported(_))) => give_up(&self.told, &error),
                    _ => keep_sandboxes(&self.local, &common, &self.told, &cancel).await,
                }
            },
        );
    }
}

fn give_up(told: &watch::Sender<Told>, error: &InterceptionError) {
    warn!("{error}");
    told.send_modify(|told| {
        *told = Told { unable: Some(error.to_string()), reopened: told.reopened, ..Told::default() };
    });
}

/// Builds the zone anew after each change, on a thread of its own: a hundred thousand names take a moment.
async fn keep_zone(
    local: &Local,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    underlay: &watch::Receiver<Underlay>,
    zone: &watch::Sender<Arc<Zone>>,
    epoch: Instant,
    cancel: &CancellationToken,
) {
    let mut changes = local.changes();
    loop {
        let now = snapshot.catch_up();
        let vtep = underlay.see(|underlay| underlay.vtep);
        let own: Vec<Endpoint> =
            local.read(|data| data.connected().map(|e| e.publish(local.node(), vtep)).collect());
        let (node, before) = (local.node().clone(), zone.now());
        let began = Instant::now();
        let work = move || Zone::of(&now, &node, own).after(&before, began - epoch);
        match spawn_blocking(work).await {
            Ok(built) => drop(zone.send_replace(Arc::new(built))),
            Err(error) => warn!(%error, "the index of names is not built; the last one stays"),
        }
        let took = began.elapsed();
        // Both are cancel safe: a change stays visible.
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = snapshot.changed() => {}
            _ = changes.changed() => {}
        }
        // A stream of changes takes a quarter of one core at most.
        sleep(3 * took).await;
    }
}

async fn keep_sandboxes(
    local: &Local,
    common: &Common,
    told: &watch::Sender<Told>,
    cancel: &CancellationToken,
) {
    let mut changes = local.changes();
    let mut places: BTreeMap<PathBuf, Place> = BTreeMap::new();
    let unable = loop {
        if cancel.is_cancelled() {
            break None;
        }
        changes.mark_unchanged();
        follow(&mut places, local.read(wanted)).await;
        if let Err(error) = look(&mut places, common).await {
            break Some(error);
        }
        tell(&mut places, told);
        let soonest = places.values().map(Place::look_at).min();
        let look_at = soonest.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        // Every arm is cancel safe.
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = changes.changed() => {}
            () = sleep_until(look_at) => {}
        }
    };
    if let Some(error) = unable {
        give_up(told, &error);
    }
    follow(&mut places, BTreeMap::new()).await;
}

/// Looks at all places whose time has come.
async fn look(places: &mut BTreeMap<PathBuf, Place>, common: &Common) -> Result<(), InterceptionError> {
    for (path, place) in places {
        if place.look_at() <= Instant::now() {
            place.look(path, common).await?;
        }
    }
    Ok(())
}

fn tell(places: &mut BTreeMap<PathBuf, Place>, told: &watch::Sender<Told>) {
    let reopened: u64 = places.values_mut().map(Place::take_reopened).sum();
    let served = places.iter().filter(|(_, place)| place.is_served()).map(|(path, _)| path.clone()).collect();
    let complaint = |(path, place): (&PathBuf, &Place)| Some((path.clone(), place.complaint()?.to_owned()));
    let complaints = places.iter().filter_map(complaint).collect();
    told.send_if_modified(|before| {
        let reopened = before.reopened.saturating_add(reopened);
        let now = Told { served, complaints, unable: None, reopened };
        let changed = *before != now;
        *before = now;
        changed
    });
}

/// Makes the list of places what is wanted; those that are not are closed.
async fn follow(places: &mut BTreeMap<PathBuf, Place>, wanted: BTreeMap<PathBuf, Vec<NetworkId>>) {
    let gone: Vec<_> = places.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
    for path in gone {
        if let Some(place) = places.remove(&path)
            && place.close().await
        {
            debug!(sandbox = %path.display(), "the sandbox's queries are Docker's again");
        }
    }
    for (path, networks) in wanted {
        let networks: Arc<[NetworkId]> = networks.into();
        places.entry(path).or_insert_with(|| Place::new(networks.clone())).show(&networks);
    }
}

#[cfg(test)]
mod tests;
