//! Resync: how long a host takes to make a real kernel equal to a plan with many remote containers, from nothing
//! and where one entry of a hundred is wrong. Beside it the floor: the same entries in netlink messages that were
//! prepared before the clock starts, from a program that reads nothing and decides nothing.

mod prepared;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use netns_harness::interrupt;
use rs_overlay::{
    dataplane::{
        Dataplane,
        namespace::Namespace,
        netlink::{Kernel, KernelConfig},
    },
    model::{FastPathMode, Snapshot, Vni},
    plan::{LocalPort, Op, Overlay, Planner, Situation, diff},
};

use self::prepared::Prepared;
use crate::{
    Context,
    convergence::{
        etcd::{apart, runtime},
        layout::{self, Place},
    },
    figure::{Better, Figure, OURS, Series},
};

/// Remote containers, and rounds with so many.
const SIZES: [(usize, usize); 3] = [(1_000, 9), (10_000, 5), (100_000, 3)];
/// Hosts that they are on.
const HOSTS: usize = 200;
/// One of so many is wrong.
const WRONG: usize = 100;
const FLOOR: &str = "prepared netlink messages";

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (count, rounds) in SIZES.into_iter().take(context.rounds(SIZES.len(), 2)) {
        ensure!(!interrupt::interrupted(), "interrupted");
        context.progress.step(&format!("{count} remote containers"));
        figures.extend(apart(|| {
            let directory = tempfile::tempdir()?;
            let pin = directory.path().join("overlay");
            let measured = runtime()?.block_on(measure(&pin, count, rounds))?;
            Namespace::unpin(&pin).context("cannot unpin a namespace")?;
            Ok(measured)
        })?);
    }
    Ok(figures)
}

async fn measure(pin: &Path, count: usize, rounds: usize) -> Result<Vec<Figure>> {
    let address = Command::new("ip").args(["addr", "add", "192.0.2.1/24", "dev", "lo"]).status()?;
    ensure!(address.success(), "cannot give a loopback an address");
    let kernel = Kernel::open(KernelConfig { namespace: pin.to_owned(), host_namespace: None }).await?;
    kernel.choose_path(FastPathMode::Auto).await?;
    let host = Scene::new(count, kernel.has_fast_path())?;
    let (mut nothing, mut wrong) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        // As the daemon's does, it remembers what it has planned.
        let mut planner = Planner::default();
        nothing[0].push(host.round(&kernel, &mut planner, 2 * count).await?);
        meddle(&kernel, &host.wanted()).await?;
        wrong[0].push(host.round(&kernel, &mut planner, count / WRONG).await?);
        clear(&kernel).await?;

        // The links alone; the probe segment goes with the rest.
        // The messages know nothing of the fast path's map.
        let wanted = Scene::new(count, false)?.wanted();
        let mut bare = wanted.clone();
        for segment in bare.segments.values_mut() {
            segment.fdb.clear();
            segment.neighbours.clear();
        }
        make(&kernel, &bare).await?;
        let prepared = Prepared::new(pin, host.vni, &wanted)?;
        let began = Instant::now();
        prepared.fill()?;
        nothing[1].push(began.elapsed().as_secs_f64());
        ensure!(kernel.observe().await? == wanted, "the prepared messages are not what is wanted");
        meddle(&kernel, &wanted).await?;
        let began = Instant::now();
        prepared.read()?;
        prepared.repair(WRONG)?;
        wrong[1].push(began.elapsed().as_secs_f64());
        ensure!(kernel.observe().await? == wanted, "the prepared messages do not repair");
        clear(&kernel).await?;
    }
    let (of_nothing, of_wrong) = keys(count);
    let figure = |key, what: &str, [ours, floor]: [Vec<f64>; 2], note: &str| Figure {
        key,
        title: format!("{count} remote containers, {what}"),
        unit: "s",
        better: Better::Lower,
        series: vec![Series::new(OURS, ours), Series::new(FLOOR, floor)],
        note: Some(note.to_owned()),
    };
    Ok(vec![
        figure(
            of_nothing,
            "into an empty kernel",
            nothing,
            "ours: read the kernel, plan, compare, make bridge, tunnel, port and three rows for each container \
             (two forwarding entries, one neighbour), and where there is a fast path one in its map; the other writes \
             the same rows, and no map",
        ),
        figure(
            of_wrong,
            "one of a hundred wrong",
            wrong,
            "ours: read the kernel, plan (nothing has changed since the last plan), compare, repair; the other reads \
             the same tables without a look at them and writes the rows that it was told beforehand",
        ),
    ])
}

fn keys(count: usize) -> (&'static str, &'static str) {
    match count {
        1_000 => ("resync-empty-1k", "resync-wrong-1k"),
        10_000 => ("resync-empty-10k", "resync-wrong-10k"),
        _ => ("resync-empty-100k", "resync-wrong-100k"),
    }
}

/// What a host knows: one container of its own, many of others.
struct Scene {
    snapshot: Snapshot,
    ports: BTreeMap<rs_overlay::model::EndpointId, LocalPort>,
    node: rs_overlay::model::NodeId,
    vni: Vni,
    fast_path: bool,
}

impl Scene {
    fn new(count: usize, fast_path: bool) -> Result<Self> {
        let network = layout::network(0)?;
        let own = layout::local(Place { host: 0, network: 0, number: 0 })?;
        let port = LocalPort { network: own.network, mac: own.mac, addresses: own.addresses };
        let vni = network.vni;
        let mut snapshot = Snapshot::default();
        let members = snapshot.endpoints.entry(network.id.clone()).or_default();
        for number in 1..=count {
            let mut endpoint = layout::published(Place { host: 1 + number % HOSTS, network: 0, number })?;
            endpoint.vtep = [192, 0, 2, u8::try_from(2 + number % HOSTS)?].into();
            members.insert(endpoint.id.clone(), endpoint.into());
        }
        snapshot.networks.insert(network.id.clone(), network);
        Ok(Self {
            snapshot,
            ports: BTreeMap::from([(own.id, port)]),
            node: layout::node_id(0)?,
            vni,
            fast_path,
        })
    }

    fn wanted(&self) -> Overlay {
        self.plan(&mut Planner::default())
    }

    fn plan(&self, planner: &mut Planner) -> Overlay {
        let situation = Situation {
            node: &self.node,
            vtep: [192, 0, 2, 1].into(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            ports: &self.ports,
            networks: &BTreeMap::new(),
            refused: &BTreeSet::new(),
            fast_path: self.fast_path,
        };
        planner.desired(&self.snapshot, &situation)
    }

    /// One round of the reconciler, and the seconds that it took. It has to take some steps at least.
    async fn round(&self, kernel: &Kernel, planner: &mut Planner, least: usize) -> Result<f64> {
        let began = Instant::now();
        let found = kernel.observe().await?;
        let wanted = self.plan(planner);
        let steps = diff(&found, &wanted);
        for result in kernel.apply(&steps).await {
            result?;
        }
        let took = began.elapsed().as_secs_f64();
        ensure!(steps.len() >= least, "only {} steps were needed", steps.len());
        ensure!(kernel.observe().await? == wanted, "the kernel is not as wanted");
        Ok(took)
    }
}

async fn make(kernel: &Kernel, wanted: &Overlay) -> Result<()> {
    let steps = diff(&kernel.observe().await?, wanted);
    for result in kernel.apply(&steps).await {
        result?;
    }
    Ok(())
}

async fn clear(kernel: &Kernel) -> Result<()> {
    make(kernel, &Overlay::default()).await
}

/// Of every two hundred containers one loses its rows, and one is sent to a host where it is not.
async fn meddle(kernel: &Kernel, wanted: &Overlay) -> Result<()> {
    let mut steps = Vec::new();
    for (&vni, segment) in wanted.segments.iter().filter(|(vni, _)| **vni != Vni::PROBE) {
        for (place, (&mac, _)) in segment.fdb.iter().enumerate().step_by(WRONG) {
            if (place / WRONG).is_multiple_of(2) {
                steps.push(Op::DeleteFdb { vni, mac });
            } else {
                steps.push(Op::SetFdb { vni, mac, vtep: IpAddr::from([192, 0, 2, 250]) });
            }
        }
        for (&ip, _) in segment.neighbours.iter().step_by(WRONG) {
            steps.push(Op::DeleteNeighbour { vni, ip });
        }
    }
    for result in kernel.apply(&steps).await {
        result?;
    }
    Ok(())
}
