//! Keeps one interceptor in every sandbox of this host, and the zone that they answer from.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    interceptor::{Interceptor, Names},
    sandboxes::wanted,
};
use crate::{
    backoff::Backoff,
    dataplane::interception::InterceptionError,
    local::Local,
    model::{Endpoint, NetworkId, Snapshot},
    names::Zone,
};

/// How often a sandbox that is about to appear is looked for. Engines up to 27 make its file after `Join`,
/// some 10 to 100 ms before the container's first process.
const SOON: Duration = Duration::from_millis(5);
/// For how long.
const FRESH: Duration = Duration::from_secs(5);
/// How often sandboxes are checked for being there still: an engine that crashed does not say `Leave`, and
/// our sockets would keep the namespace alive.
const CHECK: Duration = Duration::from_secs(1);

/// What the manager works with.
pub struct Manager {
    /// Endpoints of this host, with their sandboxes.
    pub local: Arc<Local>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// This host's underlay address.
    pub vtep: IpAddr,
}

/// A sandbox that is to be served.
struct Place {
    networks: watch::Sender<Arc<[NetworkId]>>,
    interceptor: Option<Interceptor>,
    since: Instant,
    retry: Backoff,
    /// When to look next.
    look_at: Instant,
    /// The last complaint, told once.
    complaint: Option<String>,
}

impl Manager {
    /// Runs until `cancel`, and gives all queries back to Docker then.
    pub async fn run(self, cancel: CancellationToken) {
        let (zone, zone_now) = watch::channel(Arc::default());
        tokio::join!(
            keep_zone(&self.local, self.snapshot.clone(), self.vtep, &zone, &cancel),
            keep_sandboxes(&self.local, &zone_now, &cancel),
        );
    }
}

/// Builds the zone anew after each change, on a thread of its own: a hundred thousand names take a moment.
async fn keep_zone(
    local: &Local,
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    vtep: IpAddr,
    zone: &watch::Sender<Arc<Zone>>,
    cancel: &CancellationToken,
) {
    let mut changes = local.changes();
    loop {
        let now = snapshot.borrow_and_update().clone();
        let own: Vec<Endpoint> =
            local.read(|data| data.connected().map(|e| e.publish(local.node(), vtep)).collect());
        let began = Instant::now();
        match spawn_blocking(move || Zone::of(&now, &own)).await {
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
        // A stream of changes takes half of one core at most.
        sleep(took).await;
    }
}

async fn keep_sandboxes(local: &Local, zone: &watch::Receiver<Arc<Zone>>, cancel: &CancellationToken) {
    let mut changes = local.changes();
    let mut places: BTreeMap<PathBuf, Place> = BTreeMap::new();
    let mut able = true;
    while able && !cancel.is_cancelled() {
        changes.mark_unchanged();
        follow(&mut places, local.read(wanted)).await;
        let mut look_at = Instant::now() + Duration::from_hours(1);
        for (path, place) in &mut places {
            if place.look_at <= Instant::now() {
                able &= place.look(path, zone).await;
            }
            look_at = look_at.min(place.look_at);
        }
        // Every arm is cancel safe.
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = changes.changed() => {}
            () = sleep_until(look_at) => {}
        }
    }
    follow(&mut places, BTreeMap::new()).await;
    cancel.cancelled().await;
}

/// Makes the list of places what is wanted; those that are not are closed.
async fn follow(places: &mut BTreeMap<PathBuf, Place>, wanted: BTreeMap<PathBuf, Vec<NetworkId>>) {
    let gone: Vec<_> = places.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
    for path in gone {
        if let Some(interceptor) = places.remove(&path).and_then(|place| place.interceptor) {
            interceptor.close().await;
            debug!(sandbox = %path.display(), "the sandbox's queries are Docker's again");
        }
    }
    for (path, networks) in wanted {
        let networks: Arc<[NetworkId]> = networks.into();
        let place = places.entry(path).or_insert_with(|| Place::new(networks.clone()));
        place.networks.send_if_modified(|current| {
            let changed = **current != *networks;
            *current = networks;
            changed
        });
    }
}

impl Place {
    fn new(networks: Arc<[NetworkId]>) -> Self {
        Self {
            networks: watch::channel(networks).0,
            interceptor: None,
            since: Instant::now(),
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            look_at: Instant::now(),
            complaint: None,
        }
    }

    /// Opens the interceptor if there is a sandbox without one, closes one whose sandbox is gone. Answers
    /// whether this kernel is able to.
    async fn look(&mut self, path: &Path, zone: &watch::Receiver<Arc<Zone>>) -> bool {
        if let Some(mut interceptor) = self.interceptor.take() {
            if interceptor.serves(path).unwrap_or(false) && !interceptor.has_ended() {
                self.interceptor = Some(interceptor);
                self.look_at = Instant::now() + CHECK;
                return true;
            }
            interceptor.close().await;
            info!(sandbox = %path.display(), "the sandbox is another one now, or its DNS has ended");
            self.since = Instant::now();
        }
        let names = Names { zone: zone.clone(), networks: self.networks.subscribe() };
        let opening = {
            let path = path.to_owned();
            spawn_blocking(move || Interceptor::open(&path, names)).await
        };
        let error = match opening {
            Ok(Ok(interceptor)) => {
                debug!(sandbox = %path.display(), after = ?self.since.elapsed(), "answers the sandbox's queries");
                self.interceptor = Some(interceptor);
                self.complaint = None;
                self.retry.reset();
                self.look_at = Instant::now() + CHECK;
                return true;
            }
            Ok(Err(InterceptionError::Failed { source, .. })) if is_not_there(&source) => {
                let fresh = self.since.elapsed() < FRESH;
                self.look_at = Instant::now() + if fresh { SOON } else { self.retry.pause() };
                return true;
            }
            Ok(Err(error @ InterceptionError::Unsupported(_))) => {
                warn!("{error}");
                return false;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.look_at = Instant::now() + self.retry.pause();
        if self.complaint.as_ref() != Some(&error) {
            warn!(sandbox = %path.display(), %error, "names of other hosts are not answered in a container, trying again");
            self.complaint = Some(error);
        }
        true
    }
}

/// No file yet, or one that nothing is mounted on yet, or a sandbox whose loopback is still down.
fn is_not_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::NetworkUnreachable
    )
}
