//! One run: hosts come up, people and faults do their worst, then all is well again and has to become what
//! it should be, and at last everything is removed and nothing may be left.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rs_overlay::{chance, clock, model::NetworkId, watched::Watched};
use tokio::time::{Instant, sleep};

use super::{
    checks, deck, effects, engine_calls, engine_networks, faults, host, journal, luck,
    operations::{self, Command},
    reach::Reach,
    store,
};

/// How long everything may take to become what it should be: the longest of the daemon's own periods is the
/// age from which an address without a container was left behind, with the sweep that looks for it.
const SETTLED: Duration = Duration::from_secs(400);
/// The wall clock at the start, since 1970.
const EPOCH: Duration = Duration::from_hours(500_000);
/// How often that is looked at, at first.
const LOOK: Duration = Duration::from_millis(500);
/// And later on.
const SELDOM: Duration = Duration::from_secs(5);

/// The state directories of a run, on a file system in memory.
pub(crate) struct Root(pub(crate) PathBuf);

impl Root {
    /// A directory that nobody else has.
    pub(crate) fn new(name: &str) -> Self {
        let shm = PathBuf::from("/dev/shm");
        let base = if shm.is_dir() { shm } else { std::env::temp_dir() };
        let path = base.join(format!("rs-overlay-sim-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// What was wrong, if anything.
    pub(crate) wrong: Option<String>,
    /// What people did and what befell them.
    pub(crate) script: Vec<String>,
    /// Everything that happened, if it was recorded.
    pub(crate) lines: Vec<String>,
    /// Changes in the store.
    pub(crate) commits: u64,
    /// Virtual time.
    pub(crate) time: Duration,
    /// Polls of tasks.
    pub(crate) polls: u64,
}

/// Runs `main` in a world of `hosts` hosts that follows from `seed`.
pub(crate) fn run<F>(seed: u64, hosts: usize, record: bool, main: impl FnOnce() -> F + 'static) -> Run
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let root = Root::new(&format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let place = root.0.clone();
    let work = std::panic::AssertUnwindSafe(|| {
        runtime.block_on(tokio::task::unconstrained(async move {
            journal::begin(record);
            chance::seed(Some(seed));
            luck::begin(seed ^ 0x5eed);
            clock::follow_tokio(Some(EPOCH));
            effects::begin(&place);
            let start = Instant::now();
            let (ended, polls) = deck::run(seed ^ 0xdec4, async move {
                store::begin();
                host::begin(hosts, &place);
                main().await
            })
            .await;
            (ended, start.elapsed(), polls)
        }))
    });
    let ended = std::panic::catch_unwind(work);
    deck::close();
    effects::end();
    host::end();
    chance::seed(None);
    clock::follow_tokio(None);
    let commits = store::with(|store| store.commits);
    let (wrong, time, polls) = match ended {
        Ok((ended, time, polls)) => (ended.err(), time, polls),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (Some(format!("a panic: {}", text.unwrap_or_default())), Duration::ZERO, 0)
        }
    };
    Run { wrong, script: journal::script(), lines: journal::lines(), commits, time, polls }
}

/// How many hosts the world of a seed has. Small worlds show most, and large ones cost most.
pub(crate) fn hosts_of(seed: u64) -> usize {
    match seed % 16 {
        0..6 => 2,
        6..10 => 3,
        10..13 => 4,
        13 => 6,
        14 => 8,
        _ => 10 + usize::try_from(seed / 16 % 11).unwrap(),
    }
}

/// The run that a seed stands for.
pub(crate) fn of_seed(seed: u64, record: bool) -> Run {
    run(seed, hosts_of(seed), record, random)
}

/// What the checks know of what was.
#[derive(Default)]
pub(crate) struct World {
    /// The network of the cluster behind each of Docker's ids.
    known: BTreeMap<String, NetworkId>,
    reach: Reach,
}

async fn random() -> Result<(), String> {
    let mut world = World::default();
    start().await;
    let steps = luck::number(10..40);
    let wickedness = u32::try_from(luck::number(5..45)).unwrap();
    for _ in 0..steps {
        let pause = if luck::percent(40) { luck::millis(0..60) } else { luck::millis(0..4000) };
        let end = Instant::now() + pause;
        while Instant::now() < end {
            sleep(LOOK.min(end - Instant::now())).await;
            world.watch()?;
        }
        if luck::percent(wickedness) {
            faults::befall(faults::any());
        } else {
            operations::type_in(operations::any());
        }
        world.watch()?;
    }
    faults::end_all();
    world.settle().await?;
    world.tear_down().await
}

/// All engines and daemons come up, and networks to play with.
pub(crate) async fn start() {
    for host in 0..host::count() {
        host::start_daemon(host);
    }
    if luck::percent(80) {
        sleep(Duration::from_millis(500)).await;
    }
    for name in ["red", "blue"] {
        let host = luck::number(0..host::count());
        operations::type_in(operations::create_network(host, name.to_owned()));
        sleep(luck::millis(0..1500)).await;
    }
}

impl World {
    /// What must be true at any moment.
    pub(crate) fn watch(&mut self) -> Result<(), String> {
        let live = checks::live(&mut self.known);
        checks::unjust_death()?;
        checks::twice(&live).map_or(Ok(()), Err)?;
        self.reach.look(&live)
    }

    /// Waits until everything is as it should be.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        let end = Instant::now() + SETTLED;
        let mut look = LOOK;
        let mut wrong = checks::unsettled(&mut self.known);
        let mut asked = Instant::now() + Duration::from_mins(1);
        while !wrong.is_empty() {
            self.watch()?;
            if Instant::now() > end {
                return Err(format!("does not settle:\n  {}", wrong.join("\n  ")));
            }
            if Instant::now() > asked {
                asked = Instant::now() + Duration::from_secs(30);
                follow_advice().await;
            }
            sleep(look).await;
            look = (look * 5 / 4).min(SELDOM);
            wrong = checks::unsettled(&mut self.known);
        }
        journal::step("settled");
        Ok(())
    }

    /// Removes everything on all hosts, after which nothing may be left.
    pub(crate) async fn tear_down(&mut self) -> Result<(), String> {
        journal::step("everything is removed");
        let end = Instant::now() + SETTLED;
        let mut look = LOOK;
        loop {
            for host in 0..host::count() {
                let (containers, networks) = host::with(host, |host| {
                    let names = host.engine.networks.values().map(|net| net.info.name.clone());
                    (host.engine.containers.keys().cloned().collect::<Vec<_>>(), names.collect::<Vec<_>>())
                });
                for name in containers {
                    let _ = operations::carry_out(Command::Remove { host, name }).await;
                }
                for name in networks {
                    let _ = operations::carry_out(Command::RemoveNetwork { host, name }).await;
                }
            }
            sleep(look).await;
            look = (look * 5 / 4).min(SELDOM);
            self.watch()?;
            let left = checks::left_over();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("is left over:\n  {}", left.join("\n  ")));
            }
        }
    }
}

/// Does what `status` asks people to do: networks that are not the cluster's, and containers on them.
async fn follow_advice() {
    for number in 0..host::count() {
        let Some(daemon) = host::daemon(number) else { continue };
        let problems = daemon.report.now().problems.clone();
        drop(daemon);
        let doomed: Vec<String> = host::with(number, |host| {
            let named =
                |name: &str| problems.iter().any(|text| text.starts_with(&format!("network {name} ")));
            let nets = host.engine.networks.values();
            nets.filter(|net| named(&net.info.name)).map(|net| net.info.name.clone()).collect()
        });
        for name in doomed {
            journal::step(format!("host{number}: told {problems:?}, people remove {name}"));
            clear(number, &name).await;
        }
    }
}

async fn clear(number: usize, network: &str) {
    let users: Vec<String> = host::with(number, |host| {
        let id = host.engine.network_id(network).unwrap_or_default();
        let on = host.engine.containers.iter().filter(|(_, c)| c.endpoints.contains_key(&id));
        on.map(|(name, _)| name.clone()).collect()
    });
    for name in users {
        engine_calls::stop(number, &name).await;
    }
    let _ = engine_networks::remove_network(number, network).await;
}
