//! A host of the figures: the tasks that follow the cluster, over a kernel in memory.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use rs_overlay::{
    dataplane::{Changed, Dataplane, DataplaneError},
    local::{Local, LocalData, Trace},
    model::Underlay,
    plan::{Op, Overlay, apply},
    reconcile::{Applied, mirror::Mirror, publisher::Publisher, worker::Worker},
    store::{ledger::Ledger, timeouts::Timeouts},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    etcd,
    layout::{self, BOOT, Layout},
};

/// An address that is looked out for, and when each host has planned it.
#[derive(Debug, Default)]
pub(crate) struct Lookout(Mutex<(Option<IpAddr>, Vec<Instant>)>);

impl Lookout {
    /// From now on this address counts.
    pub(crate) fn look_for(&self, ip: IpAddr) {
        *self.lock() = (Some(ip), Vec::new());
    }

    /// When it was planned, once for each host that has done so.
    pub(crate) fn seen(&self) -> Vec<Instant> {
        self.lock().1.clone()
    }

    /// How many hosts have.
    pub(crate) fn count(&self) -> usize {
        self.lock().1.len()
    }

    fn note(&self, ops: &[Op]) {
        let mut lookout = self.lock();
        let (Some(wanted), seen) = &mut *lookout else { return };
        if ops.iter().any(|op| matches!(op, Op::SetNeighbour { ip, .. } if ip == wanted)) {
            seen.push(Instant::now());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<IpAddr>, Vec<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kernel that does at once what it is told.
struct Kernel {
    overlay: Mutex<Overlay>,
    lookout: Arc<Lookout>,
    listeners: Mutex<Vec<mpsc::Sender<Changed>>>,
}

impl Dataplane for Kernel {
    async fn observe(&self) -> Result<Overlay, DataplaneError> {
        Ok(self.overlay.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn apply(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        *overlay = apply(ops, std::mem::take(&mut *overlay));
        self.lookout.note(ops);
        ops.iter().map(|_| Ok(())).collect()
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        let (sender, receiver) = mpsc::channel(1);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(receiver)
    }
}

/// A host that runs.
pub(crate) struct Host {
    pub(crate) local: Arc<Local>,
    pub(crate) applied: watch::Receiver<Arc<Applied>>,
    _underlay: watch::Sender<Underlay>,
    tasks: JoinSet<()>,
}

impl Host {
    /// Starts host `number` with its state below `root`.
    pub(crate) async fn start(
        layout: Layout,
        number: usize,
        root: &Path,
        lookout: &Arc<Lookout>,
        timeouts: Timeouts,
    ) -> Result<Self> {
        let dir = root.join(number.to_string());
        write_state(&dir, layout, number).with_context(|| format!("state of host {number}"))?;
        let local = Arc::new(Local::open_in(&dir, layout::node_number(number), BOOT.to_owned())?);
        let networks = local.read(LocalData::networks_in_use);
        local.set_trace(Trace { incarnation: layout::INCARNATION.to_owned(), networks })?;
        let store = etcd::client(timeouts).await?;
        let mirror = Mirror::new(store.clone(), local.clone());
        let (snapshot, health) = (mirror.snapshot(), mirror.health());
        let (applying, applied) = watch::channel(Arc::new(Applied::default()));
        let (underlay_in, underlay) = watch::channel(Underlay::new(layout::vtep(number), 1500));
        let kernel =
            Kernel { overlay: Mutex::default(), lookout: lookout.clone(), listeners: Mutex::default() };
        let worker = Worker {
            dataplane: Arc::new(kernel),
            local: local.clone(),
            snapshot,
            underlay: underlay.clone(),
            refused: watch::channel(std::collections::BTreeMap::new()).1,
            vxlan_port: 4789,
            applied: applying,
        };
        let publisher = Publisher { ledger: Ledger::new(store), local: local.clone(), underlay, health };
        let mut tasks = JoinSet::new();
        tasks.spawn(mirror.run(CancellationToken::new()));
        tasks.spawn(async move { drop(worker.run(CancellationToken::new()).await) });
        tasks.spawn(publisher.run(CancellationToken::new()));
        Ok(Self { local, applied, _underlay: underlay_in, tasks })
    }

    /// Waits until it has planned all of its networks.
    pub(crate) async fn ready(&mut self, layout: Layout) -> Result<()> {
        let wanted = layout.remote_of();
        let known = |applied: &Arc<Applied>| -> usize {
            applied.overlay.networks().map(|(_, segment)| segment.neighbours.len()).sum()
        };
        self.applied.wait_for(|applied| known(applied) >= wanted).await?;
        Ok(())
    }

    /// Ends it wherever it is.
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What an earlier run would have left.
fn write_state(dir: &Path, layout: Layout, number: usize) -> Result<()> {
    for part in ["endpoints", "networks"] {
        fs::create_dir_all(dir.join(part))?;
    }
    fs::write(dir.join("node.json"), serde_json::to_vec(&layout::node_id(number)?)?)?;
    fs::write(dir.join("boot.json"), serde_json::to_vec(BOOT)?)?;
    fs::write(dir.join("cluster.json"), serde_json::to_vec(&layout::known_cluster())?)?;
    for network in layout.networks_of(number) {
        let binding = layout::binding(network)?;
        let file = dir.join("networks").join(format!("{}.json", binding.docker_id));
        fs::write(file, serde_json::to_vec(&binding)?)?;
    }
    for place in layout.places_of(number) {
        let endpoint = layout::local(place)?;
        let file = dir.join("endpoints").join(format!("{}.json", endpoint.id));
        fs::write(file, serde_json::to_vec(&endpoint)?)?;
    }
    Ok(())
}
