//! Keeps what the cluster should know of this host up to date.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::underlay::UnderlayFinder;
use crate::{
    dataplane::{
        DataplaneError,
        host::{Host, Notices},
    },
    member::Facts,
    model::{ForeignVxlan, Role, Snapshot, Underlay},
    reconcile::{Applied, propagate::EngineReport},
    watched::{Followed, Watched},
};

/// How often the host's routes are read. Two dumps of the kernel's tables cost less than a millisecond.
const PERIOD: Duration = Duration::from_secs(3);
/// How long notices of changes are gathered.
const SETTLE: Duration = Duration::from_millis(100);
/// Rest after a look, on a host that changes all the time.
const REST: Duration = Duration::from_millis(400);
/// How often other network namespaces are looked into.
const NAMESPACES: Duration = Duration::from_secs(10);
/// VXLAN devices that are told; whoever has more has them all on one port, which is told as well.
const VXLANS: usize = 512;

/// Finds facts.
pub(super) struct FactFinder {
    host: Host,
    underlay: UnderlayFinder,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    engine: watch::Receiver<EngineReport>,
    role: watch::Receiver<Role>,
    applied: watch::Receiver<Arc<Applied>>,
    /// The probe device was there at the last look.
    probe: bool,
    /// VXLAN devices in other namespaces, and when to look for them again.
    moved: Option<(Instant, Vec<ForeignVxlan>)>,
}

impl FactFinder {
    pub(super) fn new(
        host: Host,
        underlay: UnderlayFinder,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        engine: watch::Receiver<EngineReport>,
        role: watch::Receiver<Role>,
        applied: watch::Receiver<Arc<Applied>>,
    ) -> Self {
        Self { host, underlay, snapshot, engine, role, applied, probe: false, moved: None }
    }

    /// Looks once.
    pub(super) async fn find(&mut self) -> Result<(Facts, Underlay), DataplaneError> {
        let now = Instant::now();
        if self.moved.as_ref().is_none_or(|(until, _)| *until <= now) {
            self.moved = Some((now + NAMESPACES, Host::moved_vxlans().await));
        }
        let mut vxlans = self.host.foreign_vxlans().await?;
        vxlans.extend(self.moved.iter().flat_map(|(_, moved)| moved.iter().cloned()));
        vxlans.sort();
        vxlans.truncate(VXLANS);
        let routes = self.host.host_routes().await?;
        let snapshot = self.snapshot.now();
        let underlay = self.underlay.find(&self.host, &snapshot).await?;
        let engine_version = self.engine.see(|report| report.version.clone());
        let (scope, mode) = {
            let role = self.role.catch_up();
            (role.effective_scope().unwrap_or_default(), role.mode())
        };
        self.probe = self.applied.now().has_probe();
        // Whoever has lost its address reaches nobody and is reached by nobody, which says nothing of others.
        let probe = self.probe && underlay.present;
        Ok((Facts { routes, vxlans, engine_version, probe, scope, mode }, underlay))
    }

    /// Tells changes until `cancel`.
    pub(super) async fn run(
        mut self,
        facts: watch::Sender<Facts>,
        underlay: watch::Sender<Underlay>,
        cancel: CancellationToken,
    ) {
        let mut applied = self.applied.clone();
        let mut failed = false;
        let mut notices = self
            .host
            .notices()
            .map_err(|error| warn!(%error, "the host's addresses are looked at from time to time only"))
            .ok();
        let mut looked_at = Instant::now();
        loop {
            let probe = self.probe;
            let told = async {
                // Where facts cannot be found, and after the worker's end, it is the period that counts.
                if failed || applied.wait_for(|applied| applied.has_probe() != probe).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = self.engine.changed() => {}
                Ok(()) = self.role.changed() => {}
                _ = self.snapshot.changed() => {}
                () = told => {}
                () = noticed(&mut notices) => {
                    let rest = (looked_at + REST).saturating_duration_since(Instant::now());
                    tokio::time::sleep(rest.max(SETTLE)).await;
                }
                () = tokio::time::sleep(PERIOD) => {}
            }
            let found = self.find().await;
            looked_at = Instant::now();
            failed = found.is_err();
            match found {
                Ok((found, way)) => {
                    // Both at once, so that one write tells the cluster.
                    replace(&underlay, way);
                    replace(&facts, found);
                }
                Err(error) => warn!(%error, "cannot read the host's addresses and routes"),
            }
        }
    }
}

async fn noticed(notices: &mut Option<Notices>) {
    match notices {
        Some(notices) => notices.changed().await,
        None => std::future::pending().await,
    }
}

fn replace<T: PartialEq>(told: &watch::Sender<T>, found: T) {
    told.send_if_modified(|old| {
        let changed = *old != found;
        *old = found;
        changed
    });
}
