//! Memory and CPU of the daemon as it is installed, beside a real engine and a real etcd. What other hosts would
//! write is put straight into etcd.

pub(crate) mod process;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_harness::{EngineVersion, Host, Lab, StoreKind};
use rs_overlay::{
    model::{Endpoint, Mark, Meta, Network, NetworkId},
    store::{TXN_LIMIT, Txn, keys, ledger::Ledger, record},
};
use tokio::task::JoinSet;

use self::process::{Process, neighbours, on_network};
use crate::{
    Context,
    convergence::{
        etcd,
        layout::{self, Place},
    },
    figure::{Better, Figure, OURS, Series},
};

/// Containers of other hosts, and hosts that they are on.
const REMOTE: usize = 100_000;
const REMOTE_QUICK: usize = 10_000;
const HOSTS: usize = 200;
/// The part of them that a smaller network has.
const FEW: usize = 1_000;
/// Networks that a host knows and has no container in.
const NETWORKS: u32 = 40;
/// So many times as many are a thousand.
const PER_THOUSAND: u32 = 25;
/// Changes in a second, and for how long.
const RATE: usize = 1_000;
const STORM: Duration = Duration::from_secs(4);
/// For how long a daemon that has nothing to do is watched.
const IDLE: Duration = Duration::from_secs(5);
/// After which time a daemon has read the kernel again.
const COMPARED: Duration = Duration::from_secs(12);
const MB: f64 = 1e6;

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    let lab = Lab::builder()
        .hosts(&[EngineVersion::V20_10_24])
        .store(StoreKind::Etcd)
        .daemon(&context.daemon)
        .build()?;
    let host = lab.host(1);
    let remote = context.rounds(REMOTE, REMOTE_QUICK);
    let daemon = Process::of(host)?;
    let url = lab.store_url();
    let mut figures = vec![];
    let mut tell = |key, title: &str, unit, value: f64, note: String| {
        figures.push(Figure {
            key,
            title: title.to_owned(),
            unit,
            better: Better::Lower,
            series: vec![Series::new(OURS, vec![value])],
            note: Some(note),
        });
    };

    daemon.settle()?;
    let idle = daemon.memory()?;
    tell(
        "memory-idle",
        "Resident memory, idle",
        "MB",
        idle / MB,
        "engine and store there, no network".into(),
    );
    let (share, ()) = daemon.share(|| {
        thread::sleep(IDLE);
        Ok(())
    })?;
    tell("cpu-idle", "CPU, idle", "% of a core", 100.0 * share, format!("over {} s", IDLE.as_secs()));

    let options = ["-d", "rs-overlay", "--ipam-driver", "rs-overlay", "--subnet", "10.16.0.0/12"];
    host.docker(&[&["network", "create"], &options[..], &["blue"]].concat())?;
    host.docker(&["run", "-d", "--name", "web", "--network", "blue", "busybox", "sleep", "3600"])?;
    let place = on_network(host, async || Blue::find(&url).await)?;
    let others = |range: std::ops::RangeInclusive<usize>| -> Result<Vec<Endpoint>> {
        range.map(|number| place.other(number)).collect()
    };

    load(host, &url, &others(1..=FEW)?)?;
    await_rows(host, FEW)?;
    daemon.settle()?;
    let (share, lag) = storm(host, &daemon, &url, &place, FEW)?;
    let note = format!(
        "{RATE} containers of other hosts come and go in a second, for {} s, in a network of {FEW}: a container and its \
         host's mark in each transaction",
        STORM.as_secs()
    );
    tell(
        "cpu-storm-1k",
        "CPU in a storm, 1,000 remote containers",
        "% of a core",
        100.0 * share,
        note.clone(),
    );
    tell("storm-lag-1k", "Until it has caught up after that", "s", lag, "it is idle again".into());

    daemon.settle()?;
    let few = daemon.memory()?;
    load(host, &url, &others(FEW + 1..=remote)?)?;
    await_rows(host, remote)?;
    // It compares a large kernel with its plan some seconds after the last change.
    thread::sleep(COMPARED);
    daemon.settle()?;
    let many = daemon.memory()?;
    tell(
        "memory-endpoint",
        "Resident memory of a remote container",
        "bytes",
        (many - few) / (remote - FEW) as f64,
        format!(
            "the difference between {remote} and {FEW} in one network, each with a name, an alias and a short id, after \
             all has been planned, indexed and saved; {:.0} MB in all",
            many / MB
        ),
    );
    let (share, ()) = daemon.share(|| {
        thread::sleep(2 * IDLE);
        Ok(())
    })?;
    tell(
        "cpu-idle-100k",
        "CPU, many remote containers, nothing happens",
        "% of a core",
        100.0 * share,
        format!("over {} s", 2 * IDLE.as_secs()),
    );
    let (share, lag) = storm(host, &daemon, &url, &place, remote)?;
    tell("cpu-storm-100k", "CPU in a storm, many remote containers", "% of a core", 100.0 * share, note);
    tell("storm-lag-100k", "Until it has caught up after that", "s", lag, "it is idle again".into());
    daemon.settle()?;
    let after = daemon.memory()?;
    tell(
        "memory-storm-100k",
        "Resident memory after that",
        "MB",
        after / MB,
        format!("{remote} remote containers"),
    );

    // A daemon of its own: what an earlier load has left in the allocator would hide it.
    host.docker(&["rm", "-f", "web"])?;
    host.daemon_restart(netns_harness::Signal::SIGTERM)?;
    let daemon = Process::of(host)?;
    daemon.settle()?;
    let before = daemon.memory()?;
    let create = "docker network create -d rs-overlay --ipam-driver rs-overlay";
    host.exec(&["sh", "-c", &format!("for n in $(seq {NETWORKS}); do {create} network-$n || exit 1; done")])?;
    daemon.settle()?;
    let networks = daemon.memory()? - before;
    let note = format!("of {NETWORKS} that were created here and have no container, times {PER_THOUSAND}");
    let thousand = networks * f64::from(PER_THOUSAND) / MB;
    tell("memory-networks", "Resident memory of 1,000 networks", "MB", thousand, note);
    lab.finish()?;
    Ok(figures)
}

/// The one network that there is.
pub(crate) struct Blue {
    pub(crate) network: NetworkId,
    incarnation: String,
}

impl Blue {
    pub(crate) async fn find(url: &str) -> Result<Self> {
        let ledger = Ledger::new(etcd::client_of(url, etcd::patient()).await?);
        let networks = ledger.list::<Network>(keys::NETWORKS).await?;
        ensure!(networks.len() == 1, "{} networks are there", networks.len());
        let meta = ledger.get::<Meta>(keys::META).await?.context("there is no cluster")?;
        Ok(Self { network: networks[0].record.id.clone(), incarnation: meta.record.incarnation })
    }

    /// Another host's container in it.
    pub(crate) fn other(&self, number: usize) -> Result<Endpoint> {
        let host = 1 + number % HOSTS;
        let mut endpoint = layout::published(Place { host, network: 0, number: 1000 + number })?;
        endpoint.network = self.network.clone();
        endpoint.vtep = [192, 0, 2, u8::try_from(2 + number % HOSTS)?].into();
        Ok(endpoint)
    }

    /// That host's word that it has told another change.
    fn mark(&self, tide: usize) -> Mark {
        Mark { incarnation: self.incarnation.clone(), tide: tide as u64, at: 1, extra: BTreeMap::new() }
    }
}

fn load(host: &Host, url: &str, endpoints: &[Endpoint]) -> Result<()> {
    let records = endpoints.iter().map(layout::endpoint_record).collect();
    on_network(host, async || etcd::fill(&etcd::client_of(url, etcd::patient()).await?, records).await)
}

fn await_rows(host: &Host, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(4);
    while neighbours(host)? < count {
        ensure!(Instant::now() < deadline, "the kernel does not get all of {count} containers");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Containers beyond `there` come and go; answers the daemon's share of a core, and after how many seconds it has
/// come to rest.
fn storm(host: &Host, daemon: &Process, url: &str, place: &Blue, there: usize) -> Result<(f64, f64)> {
    let (share, ()) = daemon.share(|| on_network(host, async || blow(url, place, there).await))?;
    let began = Instant::now();
    daemon.settle()?;
    // Less the quiet seconds that show that it is at rest.
    let lag = (began.elapsed().as_secs_f64() - 2.0).max(0.0);
    ensure!(neighbours(host)? >= there, "the storm has taken containers along");
    Ok((share, lag))
}

async fn blow(url: &str, place: &Blue, there: usize) -> Result<()> {
    let store = etcd::client_of(url, etcd::patient()).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let mut sent = 0;
    let guests = 500;
    while began.elapsed() < STORM {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as usize;
        while sent < due {
            let endpoint = place.other(there + 1 + sent % guests)?;
            let comes = sent / guests % 2 == 0;
            let (key, text) = layout::endpoint_record(&endpoint);
            let txn = if comes { Txn::new().put(key, text) } else { Txn::new().delete(key) };
            let txn = txn.put(keys::mark(&endpoint.node), record::encode(&place.mark(sent + 1)));
            if tasks.len() >= TXN_LIMIT
                && let Some(done) = tasks.join_next().await
            {
                check(done?)?;
            }
            let store = store.clone();
            tasks.spawn(async move { store.txn(txn).await });
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(done) = tasks.join_next().await {
        check(done?)?;
    }
    let all: Vec<_> = (1..=guests).map(|n| place.other(there + n)).collect::<Result<_>>()?;
    for part in all.chunks(TXN_LIMIT) {
        let delete = |txn: Txn, e: &Endpoint| txn.delete(keys::endpoint(&e.network, &e.id));
        store.txn(part.iter().fold(Txn::new(), delete)).await?;
    }
    Ok(())
}

fn check(outcome: Result<rs_overlay::store::Outcome, rs_overlay::store::StoreError>) -> Result<()> {
    outcome.map(drop).map_err(Into::into)
}
