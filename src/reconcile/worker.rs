//! Makes the kernel equal to the plan. The only writer of kernel state.

mod announcing;
mod stepping;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Applied, loose::Loose};
use crate::{
    backoff::Backoff,
    clock,
    dataplane::{Changed, Dataplane, DataplaneError},
    local::Local,
    model::{Snapshot, Underlay},
    plan::{LocalPort, Overlay, Planner, Situation, inherit},
    watched::Watched,
};

/// The longest time between two full comparisons.
const RESYNC: Duration = Duration::from_secs(30);
/// How long kernel events are gathered before the kernel is read again.
const SETTLE: Duration = Duration::from_millis(100);
/// A large kernel is read less often: rests are so many times as long as the last look took, between two full
/// comparisons and after events. A hundred thousand entries take most of a second.
const RESYNC_SHARE: u32 = 100;
const SETTLE_SHARE: u32 = 10;
/// Rest before a link is looked for again that an engine is just moving into its container.
const MOVING: Duration = Duration::from_secs(1);

/// What the worker works with.
pub struct Worker<D> {
    /// The kernel.
    pub dataplane: Arc<D>,
    /// Endpoints of this host.
    pub local: Arc<Local>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What carries the tunnels of this host.
    pub underlay: watch::Receiver<Underlay>,
    /// Subnets to show to the engine as taken.
    pub refused: watch::Receiver<BTreeMap<Ipv4Net, Instant>>,
    /// UDP port.
    pub vxlan_port: u16,
    /// Where the result is told.
    pub applied: watch::Sender<Arc<Applied>>,
}

impl<D> Clone for Worker<D> {
    fn clone(&self) -> Self {
        Self {
            dataplane: self.dataplane.clone(),
            local: self.local.clone(),
            snapshot: self.snapshot.clone(),
            underlay: self.underlay.clone(),
            refused: self.refused.clone(),
            vxlan_port: self.vxlan_port,
            applied: self.applied.clone(),
        }
    }
}

impl<D: Dataplane> Worker<D> {
    /// The kernel as it is and as it should be, without a step from one to the other: what a copy of the
    /// worker is for that does not run.
    pub async fn compare(&self) -> Result<(Overlay, Overlay), DataplaneError> {
        let found = self.dataplane.observe().await?;
        let wanted = self.desired(&found, &mut Planner::default());
        Ok((found, wanted))
    }

    /// Runs until `cancel`, and leaves the kernel as it is then.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), DataplaneError> {
        // Subscribe before the first look, so that nothing falls between the two.
        let mut events = Some(self.dataplane.events()?);
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        let mut listen = retry.clone();
        let mut known: Option<Overlay> = None;
        let mut loose = Loose::default();
        let mut spoken = BTreeMap::new();
        let mut planner = Planner::default();
        let mut look_at = Instant::now();
        let mut took = Duration::ZERO;
        loop {
            // What was left at the last look, where this is another one.
            let mut left = None;
            let looks = known.is_none() || Instant::now() >= look_at;
            if looks {
                if events.is_none() {
                    events = self.subscribe();
                }
                left = known.take();
                let begun = Instant::now();
                known = self.observe().await;
                took = begun.elapsed();
                let wait = match (&known, &events) {
                    (None, _) => retry.pause(),
                    (_, None) => listen.pause(),
                    _ => RESYNC.max(took * RESYNC_SHARE),
                };
                look_at = Instant::now() + wait;
            }
            if let Some(overlay) = known.take() {
                let (overlay, complete, remade) =
                    self.make_equal(overlay, left, &mut spoken, &mut planner).await;
                let on_its_way = self.fit(&overlay, looks).await;
                known = Some(overlay);
                if looks {
                    self.keep().await;
                    self.attach_loose(&mut loose, &remade).await;
                }
                if on_its_way {
                    look_at = look_at.min(Instant::now() + MOVING);
                }
                if complete {
                    retry.reset();
                } else {
                    look_at = look_at.min(Instant::now() + retry.pause());
                }
            }
            let expiry = self.next_expiry();
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                () = sleep_until(expiry.unwrap_or(look_at)), if expiry.is_some() => {}
                _ = changes.changed() => {}
                Ok(()) = self.snapshot.changed() => {}
                Ok(()) = self.underlay.changed() => {}
                Ok(()) = self.refused.changed() => {}
                event = next(&mut events) => {
                    let wait = if event.is_some() {
                        listen.reset();
                        SETTLE.max(took * SETTLE_SHARE)
                    } else {
                        // Nothing tells what was missed: subscribe anew, and look after that.
                        events = None;
                        listen.pause()
                    };
                    look_at = look_at.min(Instant::now() + wait);
                }
                () = sleep_until(look_at) => {}
            }
        }
    }

    /// When the first of the refused subnets need no longer be shown.
    fn next_expiry(&self) -> Option<Instant> {
        let now = Instant::now();
        self.refused.see(|refused| refused.values().copied().filter(|until| *until > now).min())
    }

    fn subscribe(&self) -> Option<mpsc::Receiver<Changed>> {
        let events = self.dataplane.events();
        if let Err(error) = &events {
            warn!(%error, "kernel events are not told; the kernel is compared from time to time instead");
        }
        events.ok()
    }

    async fn observe(&self) -> Option<Overlay> {
        match self.dataplane.observe().await {
            Ok(overlay) => Some(overlay),
            Err(error) => {
                error!(%error, "cannot read the kernel's state");
                let trouble = Some(error.to_string());
                self.applied.send_modify(|applied| Arc::make_mut(applied).trouble = trouble);
                None
            }
        }
    }

    async fn keep(&self) {
        match self.dataplane.keep().await {
            Ok(false) => {}
            Ok(true) => {
                let step = "our network namespace was no longer pinned".to_owned();
                info!(%step, "repaired");
                self.applied.send_modify(|applied| {
                    Arc::make_mut(applied).count_repair("namespace's pin", step, clock::unix_seconds());
                });
            }
            Err(error) => warn!(%error, "the links of this host would not outlive this daemon"),
        }
    }

    /// What the kernel should be, where it is `found`.
    fn desired(&self, found: &Overlay, planner: &mut Planner) -> Overlay {
        let (ports, networks) = self.local.read(|data| {
            let ports: BTreeMap<_, _> = data
                .connected()
                .map(|e| {
                    (
                        e.id.clone(),
                        LocalPort { network: e.network.clone(), mac: e.mac, addresses: e.addresses.clone() },
                    )
                })
                .collect();
            let networks = data.bindings.values().map(|b| (b.network.id.clone(), b.network.clone()));
            (ports, networks.collect::<BTreeMap<_, _>>())
        });
        let now = Instant::now();
        let refused: BTreeSet<Ipv4Net> =
            self.refused.now().into_iter().filter(|(_, until)| *until > now).map(|(cidr, _)| cidr).collect();
        let underlay = self.underlay.now();
        let situation = Situation {
            node: self.local.node(),
            vtep: underlay.vtep,
            vxlan_port: self.vxlan_port,
            underlay_mtu: underlay.mtu,
            ports: &ports,
            networks: &networks,
            refused: &refused,
            fast_path: self.dataplane.has_fast_path(),
        };
        let snapshot = self.snapshot.now();
        let mut wanted = planner.desired(&snapshot, &situation);
        inherit(&snapshot, found, &mut wanted);
        wanted
    }
}

/// The next event; `None` once when no more will come, and never again after that.
async fn next(events: &mut Option<mpsc::Receiver<Changed>>) -> Option<Changed> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
