//! Makes the kernel equal to the plan. The only writer of kernel state.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Applied, loose::Loose};
use crate::{
    backoff::Backoff,
    clock,
    dataplane::{Changed, Dataplane, DataplaneError},
    local::Local,
    model::{EndpointId, NetworkId, Snapshot, Underlay, Vni},
    plan::{LocalPort, Op, Overlay, Planner, Situation, Spoken, diff, inherit, repaired_thing, repairs},
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
/// Repairs of one round that are logged one by one; more are only counted.
const TOLD: usize = 10;

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

    /// Takes the steps that are missing; answers the state as far as it is known, whether it is the desired
    /// one, and the ports that had to be made again. `left` is the state in which the kernel was left.
    async fn make_equal(
        &self,
        from: Overlay,
        left: Option<Overlay>,
        spoken: &mut BTreeMap<Vni, Spoken>,
        planner: &mut Planner,
    ) -> (Overlay, bool, BTreeSet<EndpointId>) {
        let begun = Instant::now();
        let to = self.desired(&from, planner);
        let mut ops = diff(&from, &to);
        ops.sort_by_key(Op::can_wait);
        let spent = begun.elapsed();
        let told = self.applied.now();
        let mut complaints: BTreeMap<NetworkId, String> = BTreeMap::new();
        let mut trouble = None;
        let mut done = Vec::with_capacity(ops.len());
        let urgent = ops.iter().position(Op::can_wait).unwrap_or(ops.len());
        let (first, rest) = ops.split_at(urgent);
        let mut results = if first.is_empty() { Vec::new() } else { self.dataplane.apply(first).await };
        if !rest.is_empty() {
            // Whoever waits for a link need not wait for what makes it faster.
            let so_far = first.iter().zip(&results).filter(|(_, result)| result.is_ok());
            let so_far: Vec<_> = so_far.map(|(op, _)| op.clone()).collect();
            let reached = crate::plan::apply(&so_far, from.clone());
            self.applied.send_modify(|applied| Arc::make_mut(applied).overlay = reached.into());
            results.extend(self.dataplane.apply(rest).await);
        }
        let (plan_us, kernel_us) =
            (clock::micros(spent), clock::micros(begun.elapsed().saturating_sub(spent)));
        debug!(steps = ops.len(), plan_us, kernel_us, "planned and applied");
        for (op, result) in ops.iter().zip(results) {
            match result {
                Ok(()) => {
                    debug!(step = %op, "done");
                    done.push(op.clone());
                }
                Err(error) => {
                    let (network, text) = (network_of(op, &from, &to), error.to_string());
                    let before = match &network {
                        Some(network) => told.complaints.get(network),
                        None => told.trouble.as_ref(),
                    };
                    // What lasts is told once.
                    if before == Some(&text) {
                        debug!(step = %op, %error, "a step has failed again");
                    } else {
                        warn!(step = %op, %error, "a step failed, trying again soon");
                    }
                    match network {
                        // The first one: what fails after it may only stand on what is missing then.
                        Some(network) => {
                            complaints.entry(network).or_insert(text);
                        }
                        None => trouble = Some(text),
                    }
                }
            }
        }
        let mut touched: BTreeSet<_> = ops.iter().filter_map(Op::vni).collect();
        if spoken.is_empty() {
            // The first round: what is there already has been heard of, by whomever.
            touched.extend(to.segments.keys());
        }
        if !touched.is_empty() {
            self.announce(&touched, &from, &to, spoken).await;
        }
        let complete = done.len() == ops.len();
        let mut repaired = left.map(|left| repairs(&left, &from, &done)).unwrap_or_default();
        // A port that went with its sandbox is the container's end, and nobody's doing.
        repaired
            .retain(|step| remade_port(step, &from).is_none_or(|endpoint| !self.has_lost_sandbox(&endpoint)));
        for step in repaired.iter().take(TOLD) {
            info!(%step, "somebody else has changed the kernel's state; repaired");
        }
        let remade: BTreeSet<_> = repaired.iter().filter_map(|step| remade_port(step, &from)).collect();
        // The law of `diff`: all of its steps lead to `to`, of which there need be no second copy then.
        let reached = if complete { to } else { crate::plan::apply(&done, from) };
        if !done.is_empty() {
            info!(steps = done.len(), failed = ops.len() - done.len(), "kernel brought up to date");
        }
        let steps = self.applied.now().steps + u64::try_from(done.len()).unwrap_or(u64::MAX);
        let compared_at = clock::unix_seconds();
        self.applied.send_modify(|applied| {
            let applied = Arc::make_mut(applied);
            for step in repaired {
                applied.count_repair(repaired_thing(step), step.to_string(), compared_at);
            }
            applied.overlay = reached.clone().into();
            applied.complaints = complaints;
            applied.trouble = trouble;
            applied.compared_at = compared_at;
            applied.steps = steps;
        });
        (reached, complete, remade)
    }

    fn has_lost_sandbox(&self, endpoint: &EndpointId) -> bool {
        let sandbox = self.local.read(|data| data.endpoints.get(endpoint).and_then(|e| e.sandbox.clone()));
        sandbox.is_some_and(|path| !path.is_empty() && !Path::new(&path).exists())
    }

    /// Tells containers which addresses have moved. One that is not told asks again after some time, so a
    /// failure is not worth another try.
    async fn announce(
        &self,
        touched: &BTreeSet<Vni>,
        from: &Overlay,
        to: &Overlay,
        spoken: &mut BTreeMap<Vni, Spoken>,
    ) {
        spoken.retain(|vni, _| to.segments.contains_key(vni));
        let mut announcements = Vec::new();
        for (vni, segment) in touched.iter().filter_map(|vni| Some((*vni, to.segments.get(vni)?))) {
            let spoken = spoken.entry(vni).or_default();
            // What an earlier daemon made, or somebody changed, containers may have heard as well.
            if let Some(found) = from.segments.get(&vni) {
                spoken.hear(&found.neighbours, BTreeMap::new());
            }
            let here = self.local.read(|data| {
                let here = segment.ports.keys().filter_map(|id| data.endpoints.get(id));
                here.flat_map(|e| e.addresses.iter().map(|ip| (*ip, e.mac))).collect()
            });
            let moved = spoken.hear(&segment.neighbours, here);
            announcements.extend(moved.into_iter().map(|(ip, mac)| Op::Announce { vni, ip, mac }));
        }
        if announcements.is_empty() {
            return;
        }
        for (op, result) in announcements.iter().zip(self.dataplane.apply(&announcements).await) {
            if let Err(error) = result {
                warn!(step = %op, %error, "containers are not told");
            }
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

/// The endpoint of a port that was not there at all.
fn remade_port(step: &Op, from: &Overlay) -> Option<EndpointId> {
    let Op::AddPort { vni, endpoint, .. } = step else { return None };
    let there = from.segments.get(vni).is_some_and(|segment| segment.ports.contains_key(endpoint));
    (!there).then(|| endpoint.clone())
}

/// The next event; `None` once when no more will come, and never again after that.
async fn next(events: &mut Option<mpsc::Receiver<Changed>>) -> Option<Changed> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

fn network_of(op: &Op, from: &Overlay, to: &Overlay) -> Option<NetworkId> {
    if let Op::AddSegment { network, .. } = op {
        return Some(network.clone());
    }
    let vni = &op.vni()?;
    to.segments.get(vni).or_else(|| from.segments.get(vni)).map(|segment| segment.network.clone())
}
