//! Convergence at size: how long it takes until all hosts of a cluster have planned a change, and what they cost
//! their store. The hosts are the daemon's own tasks over a kernel in memory, the store is a real etcd; all of
//! them share this machine's cores.

pub(crate) mod etcd;
mod host;
pub(crate) mod layout;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_harness::interrupt;
use tokio::task::JoinSet;

use self::{
    etcd::{Counters, Etcd, apart, counters},
    host::{Host, Lookout},
    layout::{Layout, Place},
};
use crate::{
    Context,
    figure::{Better, Figure, OURS, Series},
    progress::Progress,
};

/// Sizes of clusters, and changes that are timed in each.
const SIZES: [(usize, usize); 3] = [(10, 15), (100, 15), (1000, 7)];
/// Hosts that start at once.
const AT_ONCE: usize = 8;
/// Longest wait for one change.
const PATIENCE: Duration = Duration::from_mins(2);
/// Rest between two changes, in which what follows from one comes to its end, and how much longer for each host.
const REST: Duration = Duration::from_millis(250);
const REST_OF_HOST: Duration = Duration::from_micros(500);
/// Share of a core below which a cluster counts as at rest, and for how long that is waited for after its start: hosts
/// write down what they have learnt some seconds later.
const QUIET: f64 = 0.15;
const CALM: Duration = Duration::from_secs(40);
/// For how long a cluster in which nothing happens is watched.
const IDLE: Duration = Duration::from_secs(3);
/// Samples of a curve.
const POINTS: usize = 500;

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    let sizes = SIZES.iter().take(context.rounds(SIZES.len(), 2)).map(|(hosts, changes)| {
        ensure!(!interrupt::interrupted(), "interrupted");
        apart(|| Measured::new(*hosts, *changes, &context.progress))
    });
    let sizes: Vec<_> = sizes.collect::<Result<_>>()?;
    let mut figures: Vec<_> = sizes.iter().flat_map(Measured::times).collect();
    figures.extend(loads(&sizes));
    Ok(figures)
}

/// What was seen of a cluster.
struct Measured {
    hosts: usize,
    /// Of each change, after how many milliseconds each host had planned it.
    delays: Vec<Vec<f64>>,
    /// Of each change, CPU milliseconds of all hosts, and of etcd.
    cpu: Vec<(f64, f64)>,
    before: Counters,
    started: Counters,
    idle: (Counters, Counters, f64),
    changed: (Counters, Counters),
}

impl Measured {
    fn new(hosts: usize, changes: usize, progress: &Progress) -> Result<Self> {
        let etcd = Etcd::start()?;
        let state = tempfile::tempdir()?;
        etcd::runtime()?.block_on(Self::of(&etcd, Layout { hosts }, changes, state.path(), progress))
    }

    async fn of(
        etcd: &Etcd,
        layout: Layout,
        changes: usize,
        state: &std::path::Path,
        progress: &Progress,
    ) -> Result<Self> {
        let step = |what: &str| progress.step(&format!("{} hosts: {what}", layout.hosts));
        step("filling etcd");
        let filler = etcd::client(etcd::patient()).await?;
        etcd::fill(&filler, layout.records(|_| true)?).await?;
        let before = counters()?;
        let lookout = Arc::new(Lookout::default());
        step("starting");
        let mut hosts = start_all(layout, state, &lookout).await?;
        let started = counters()?;
        step("coming to rest");
        settle(etcd).await?;
        let (began, resting) = (Instant::now(), counters()?);
        tokio::time::sleep(IDLE).await;
        let idle = (resting, counters()?, began.elapsed().as_secs_f64());
        let own = std::process::id();
        step("changes");
        let (mut delays, mut cpu) = (Vec::new(), Vec::new());
        let changes_from = counters()?;
        let rest = REST + REST_OF_HOST * u32::try_from(layout.hosts)?;
        for change in 0..changes {
            tokio::time::sleep(rest).await;
            let speaker = change * layout.hosts / changes;
            let place = Place { host: speaker, network: 0, number: layout.hosts + change };
            lookout.look_for(layout::address(place));
            let busy = (etcd::cpu_of(own)?, etcd.cpu()?);
            let began = Instant::now();
            hosts[speaker].local.put_endpoint(layout::local(place)?)?;
            while lookout.count() < layout.hosts - 1 {
                ensure!(began.elapsed() < PATIENCE, "only {} hosts have planned a change", lookout.count());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let cost = |before: Duration, now: Duration| 1e3 * now.saturating_sub(before).as_secs_f64();
            cpu.push((cost(busy.0, etcd::cpu_of(own)?), cost(busy.1, etcd.cpu()?)));
            delays.push(lookout.seen().iter().map(|at| 1e3 * (*at - began).as_secs_f64()).collect());
        }
        tokio::time::sleep(rest).await;
        let after = (changes_from, counters()?);
        for host in hosts.drain(..) {
            host.end().await;
        }
        Ok(Self { hosts: layout.hosts, delays, cpu, before, started, idle, changed: after })
    }

    /// A curve, the end of each change, and what it cost.
    fn times(&self) -> Vec<Figure> {
        let (curve, last, cost) = keys(self.hosts);
        let mut all: Vec<f64> = self.delays.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        let step = all.len().div_ceil(POINTS).max(1);
        let points = all.iter().rev().step_by(step).rev().copied().collect();
        let ends = self.delays.iter().map(|delays| delays.iter().copied().fold(0.0, f64::max)).collect();
        let hosts = self.hosts;
        let per_host = |cpu: f64| cpu / hosts as f64;
        vec![
            Figure {
                key: curve,
                title: format!("Share of {hosts} hosts that have planned a change"),
                unit: "ms",
                better: Better::Lower,
                series: vec![Series::new(OURS, points)],
                note: Some(format!(
                    "one sample per host and change, in order: the share of samples below a time is the share of \
                     hosts that are done by then; an endpoint is added on one host of a network that all {hosts} \
                     are in, and the clock starts when its host writes it down. Each host has 100 containers: one \
                     in that network, 11 in each of nine networks of ten hosts. All hosts and etcd share this \
                     machine's cores"
                )),
            },
            Figure {
                key: last,
                title: format!("Until the last of {hosts} hosts has planned a change"),
                unit: "ms",
                better: Better::Lower,
                series: vec![Series::new(OURS, ends)],
                note: Some("one sample per change".into()),
            },
            Figure {
                key: cost,
                title: format!("CPU per host and change, of {hosts} hosts"),
                unit: "ms",
                better: Better::Lower,
                series: vec![
                    Series::new(OURS, self.cpu.iter().map(|(own, _)| per_host(*own)).collect()),
                    Series::new("etcd", self.cpu.iter().map(|(_, etcd)| per_host(*etcd)).collect()),
                ],
                note: Some(
                    "CPU time of the process that holds all hosts, and of etcd, divided by the hosts".into(),
                ),
            },
        ]
    }
}

fn keys(hosts: usize) -> (&'static str, &'static str, &'static str) {
    match hosts {
        10 => ("convergence-10", "convergence-last-10", "convergence-cpu-10"),
        100 => ("convergence-100", "convergence-last-100", "convergence-cpu-100"),
        _ => ("convergence-1000", "convergence-last-1000", "convergence-cpu-1000"),
    }
}

async fn start_all(layout: Layout, state: &std::path::Path, lookout: &Arc<Lookout>) -> Result<Vec<Host>> {
    let mut tasks: JoinSet<Result<(usize, Host)>> = JoinSet::new();
    let mut hosts = Vec::new();
    for number in 0..layout.hosts {
        if tasks.len() >= AT_ONCE
            && let Some(started) = tasks.join_next().await
        {
            hosts.push(started??);
        }
        let (state, lookout) = (state.to_owned(), lookout.clone());
        tasks.spawn(async move {
            let mut host = Host::start(layout, number, &state, &lookout, etcd::patient()).await?;
            host.ready(layout).await?;
            Ok((number, host))
        });
    }
    while let Some(started) = tasks.join_next().await {
        hosts.push(started??);
    }
    hosts.sort_by_key(|(number, _)| *number);
    Ok(hosts.into_iter().map(|(_, host)| host).collect())
}

/// Waits until neither the hosts nor etcd have much to do any more, for as long as can be afforded.
async fn settle(etcd: &Etcd) -> Result<()> {
    let own = std::process::id();
    let end = Instant::now() + CALM;
    let mut quiet = 0;
    while quiet < 3 && Instant::now() < end {
        let (began, busy) = (Instant::now(), etcd::cpu_of(own)? + etcd.cpu()?);
        tokio::time::sleep(REST).await;
        let spent = (etcd::cpu_of(own)? + etcd.cpu()?).saturating_sub(busy);
        quiet = if spent.as_secs_f64() < QUIET * began.elapsed().as_secs_f64() { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// What hosts cost their store, one series for each size of the cluster.
fn loads(sizes: &[Measured]) -> Vec<Figure> {
    let figure = |key, title: &str, unit, note: &str, value: &dyn Fn(&Measured) -> f64| Figure {
        key,
        title: title.to_owned(),
        unit,
        better: Better::Lower,
        series: sizes
            .iter()
            .map(|size| Series::new(format!("{} hosts", size.hosts), vec![value(size)]))
            .collect(),
        note: Some(note.to_owned()),
    };
    let each = |size: &Measured, sum: f64| sum / size.hosts as f64;
    let changes = |size: &Measured| size.delays.len() as f64;
    vec![
        figure("store-watches", "Watches of a host", "", "open in etcd, per host", &|size| {
            each(size, size.started.watches - size.before.watches)
        }),
        figure("store-start-calls", "Calls of a host's start", "", "answered by etcd, per host", &|size| {
            each(size, size.started.calls - size.before.calls)
        }),
        figure("store-start-bytes", "Bytes of a host's start", "kB", "sent by etcd, per host", &|size| {
            each(size, size.started.sent - size.before.sent) / 1e3
        }),
        figure(
            "store-idle-calls",
            "Calls of a host while nothing happens",
            "1/s",
            "answered by etcd",
            &|size| each(size, size.idle.1.calls - size.idle.0.calls) / size.idle.2,
        ),
        figure("store-change-bytes", "Bytes of a change, per host", "kB", "sent by etcd", &|size| {
            each(size, size.changed.1.sent - size.changed.0.sent) / changes(size) / 1e3
        }),
        figure("store-change-calls", "Calls of a change, all hosts", "", "answered by etcd", &|size| {
            (size.changed.1.calls - size.changed.0.calls) / changes(size)
        }),
    ]
}
