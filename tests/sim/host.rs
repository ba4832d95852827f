//! A host: a kernel, an engine, a way to the store, a directory, and a daemon that comes and goes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rs_overlay::{
    chance,
    dataplane::fake::FakeKernel,
    driver::{Driver, DriverConfig},
    engine::DriverName,
    local::Local,
    member::{Facts, Member},
    model::{EndpointId, Node, NodeId, Scope, Snapshot, Underlay},
    plan::Overlay,
    reconcile::{
        Applied,
        collect::Collector,
        housekeeping::Housekeeping,
        keeper::Keeper,
        liveness::Liveness,
        mirror::Mirror,
        mode::Roles,
        naming::Naming,
        propagate::{EngineReport, Propagator},
        publisher::Publisher,
        refill::Refill,
        worker::Worker,
    },
    store::{Store, gate::Gate, ledger::Ledger},
    watched::Followed,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    deck::{self, Owner},
    engine::Engine,
    engine_api::SimEngine,
    journal,
    kernel::{SimKernel, SimProber},
    link::{Link, SimStore},
};

/// Name by which engines know our driver.
pub(crate) const DRIVER: &str = "rs-overlay";

/// A host of the cluster.
#[expect(clippy::struct_excessive_bools, reason = "each can be wrong with a host by itself")]
pub(crate) struct Host {
    pub(crate) dir: PathBuf,
    pub(crate) vtep: IpAddr,
    pub(crate) link: watch::Sender<Link>,
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) engine: Engine,
    /// When somebody last changed the kernel behind the daemon's back.
    pub(crate) meddled: Option<tokio::time::Instant>,
    /// Endpoints that it has cut off, as its daemon said last.
    pub(crate) cut_off: BTreeSet<EndpointId>,
    /// What it calls itself.
    pub(crate) node: Option<NodeId>,
    /// It was declared dead at some time.
    pub(crate) was_dead: bool,
    /// Its death is known, and was looked at.
    pub(crate) excused: bool,
    /// It has power.
    pub(crate) powered: bool,
    /// It does not run, as a virtual machine that is paused.
    pub(crate) paused: bool,
    /// Nobody reaches it.
    pub(crate) isolated: bool,
    /// When it was last without an answer for others.
    pub(crate) silent: Option<tokio::time::Instant>,
    /// Counts boots.
    pub(crate) boot: u32,
    pub(crate) daemon: Option<Daemon>,
    /// Whether somebody sees to it that a daemon that has ended comes again.
    pub(crate) kept: bool,
    /// Counts daemons, and tells of each change.
    pub(crate) starts: watch::Sender<u64>,
}

/// A daemon that runs.
#[derive(Clone)]
pub(crate) struct Daemon {
    pub(crate) driver: Arc<Driver>,
    pub(crate) local: Arc<Local>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) report: watch::Receiver<EngineReport>,
}

thread_local! {
    static HOSTS: RefCell<Vec<Host>> = const { RefCell::new(Vec::new()) };
}

/// Looks at a host or changes it.
pub(crate) fn with<T>(host: usize, look: impl FnOnce(&mut Host) -> T) -> T {
    HOSTS.with(|hosts| look(&mut hosts.borrow_mut()[host]))
}

/// How many there are.
pub(crate) fn count() -> usize {
    HOSTS.with(|hosts| hosts.borrow().len())
}

/// Sets hosts up, without daemons.
pub(crate) fn begin(count: usize, root: &std::path::Path) {
    let new = |host: usize| {
        let dir = root.join(host.to_string());
        std::fs::create_dir_all(dir.join("netns")).unwrap();
        Host {
            dir,
            vtep: [192, 0, 2, u8::try_from(host + 1).unwrap()].into(),
            link: watch::channel(Link::default()).0,
            kernel: Arc::default(),
            engine: Engine::default(),
            meddled: None,
            cut_off: BTreeSet::new(),
            node: None,
            was_dead: false,
            excused: false,
            powered: true,
            paused: false,
            isolated: false,
            silent: None,
            boot: 0,
            daemon: None,
            kept: true,
            starts: watch::channel(0).0,
        }
    };
    HOSTS.with(|hosts| *hosts.borrow_mut() = (0..count).map(new).collect());
}

/// Drops all hosts.
pub(crate) fn end() {
    let hosts = HOSTS.with(|hosts| std::mem::take(&mut *hosts.borrow_mut()));
    drop(hosts);
}

/// The daemon of a host, if it runs.
pub(crate) fn daemon(host: usize) -> Option<Daemon> {
    with(host, |host| host.daemon.clone())
}

/// Ends the daemon of a host as `kill -9` does: nothing of it takes one more step. If the host is kept,
/// another one comes soon.
pub(crate) fn kill_daemon(host: usize) {
    journal::note(|| format!("host{host}: no daemon"));
    deck::kill(Owner::Daemon(host));
    let (daemon, kept) = with(host, |host| (host.daemon.take(), host.kept));
    drop(daemon);
    with(host, |host| host.starts.send_modify(|_| ()));
    if kept {
        deck::spawn(Owner::World, async move {
            tokio::time::sleep(super::luck::millis(50..3000)).await;
            start_daemon(host);
        });
    }
}

/// Starts the daemon of a host, unless it runs or is not to.
pub(crate) fn start_daemon(host: usize) {
    if with(host, |host| host.daemon.is_some() || !host.kept) {
        return;
    }
    deck::spawn(Owner::Daemon(host), async move { boot(host) });
}

fn boot(host: usize) {
    if with(host, |host| host.daemon.is_some() || !host.kept) {
        return;
    }
    let (dir, vtep, boot, inner) =
        with(host, |host| (host.dir.clone(), host.vtep, host.boot, Arc::clone(&host.kernel)));
    let opened = Local::open_in(&dir.join("state"), chance::number(), format!("boot-{boot}"));
    let local = match opened {
        Ok(local) => Arc::new(local),
        Err(error) => {
            journal::note(|| format!("host{host}: the daemon does not start: {error}"));
            deck::spawn(Owner::World, async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                start_daemon(host);
            });
            return;
        }
    };
    inner.end_programs();
    if inner.overlay() == Overlay::default() {
        // As the daemon does where it has found no namespace of its own.
        let _ = local.forget_lost(|sandbox| std::path::Path::new(sandbox).exists());
    }
    let gate = Gate::new(Arc::new(SimStore(host)));
    let store: Arc<dyn Store> = Arc::new(gate.clone());
    let ledger = Ledger::new(Arc::clone(&store));
    let mirror = Mirror::new(store, Arc::clone(&local));
    let (snapshot, health) = (mirror.snapshot(), mirror.health());
    let (report_in, report) = watch::channel(EngineReport::default());
    let (applied_in, applied) = watch::channel(Arc::new(Applied::default()));
    let (underlay_in, underlay) = watch::channel(Underlay::new(vtep, 1500));
    let (facts_in, facts) = watch::channel(Facts::default());
    let roles = Roles::fixed(Scope::Local);
    let config =
        DriverConfig { roles: roles.clone(), pools: vec!["base=10.128.0.0/9,size=24".parse().unwrap()] };
    let driver = Driver::new(
        config,
        ledger.clone(),
        Arc::clone(&local),
        snapshot.clone(),
        applied.clone(),
        underlay.clone(),
    );
    let driver = driver.confirmed_by(report.clone()).informed_by(health.clone());
    let driver = Arc::new(driver.standing_on(gate.footing()));
    let worker = Worker {
        dataplane: Arc::new(SimKernel { host, inner }),
        local: Arc::clone(&local),
        snapshot: snapshot.clone(),
        underlay: underlay.clone(),
        refused: driver.refused(),
        vxlan_port: 4789,
        applied: applied_in,
    };
    let publisher = Publisher {
        ledger: ledger.clone(),
        local: Arc::clone(&local),
        underlay: underlay.clone(),
        health: health.clone(),
    };
    let housekeeping = Housekeeping {
        ledger: ledger.clone(),
        local: Arc::clone(&local),
        health: health.clone(),
        footing: Some(gate.footing()),
    };
    let keeper = Keeper {
        ledger: ledger.clone(),
        local: Arc::clone(&local),
        snapshot: snapshot.clone(),
        health: health.clone(),
        footing: Some(gate.footing()),
    };
    let refill =
        Refill { gate, local: Arc::clone(&local), snapshot: snapshot.clone(), health: health.clone() };
    let node = node(host, vtep, &local);
    let (missed, unreachable) = watch::channel(BTreeMap::new());
    let liveness = Liveness {
        ledger: ledger.clone(),
        node: local.node().clone(),
        prober: Arc::new(SimProber(host)),
        snapshot: snapshot.clone(),
        applied: applied.clone(),
        health: health.clone(),
        unreachable: missed,
    };
    let member =
        Member { ledger: ledger.clone(), local: Arc::clone(&local), node, facts, underlay, unreachable };
    let engine = Arc::new(SimEngine(host));
    let driver_name = Arc::new(DriverName::from(DRIVER));
    let naming = Naming { engine: engine.clone(), local: Arc::clone(&local), driver: driver_name.clone() };
    let collector =
        Collector { engine: engine.clone(), local: Arc::clone(&local), driver: driver_name.clone() };
    let propagator = Propagator {
        engine,
        ledger,
        local: Arc::clone(&local),
        driver: driver_name,
        roles: roles.watch(),
        snapshot: snapshot.clone(),
        health: health.clone(),
        report: report_in,
    };
    // Nobody stops these daemons in good order: they are killed, which no token tells.
    let never = CancellationToken::new;
    let owner = Owner::Daemon(host);
    deck::spawn(owner, mirror.run(never()));
    deck::spawn(owner, async move {
        let ended = worker.run(CancellationToken::new()).await;
        panic!("the kernel can no longer be followed: {ended:?}");
    });
    deck::spawn(owner, publisher.run(never()));
    deck::spawn(owner, housekeeping.run(never()));
    deck::spawn(owner, member.run(never()));
    deck::spawn(owner, naming.run(never()));
    deck::spawn(owner, collector.run(never()));
    deck::spawn(owner, propagator.run(never()));
    deck::spawn(owner, liveness.run(never()));
    deck::spawn(owner, keeper.run(never()));
    deck::spawn(owner, refill.run(never()));
    deck::spawn(owner, tell_facts(applied, underlay_in, facts_in));
    journal::note(|| format!("host{host}: the daemon runs"));
    with(host, |host| {
        host.daemon = Some(Daemon { driver, local, snapshot, report });
        host.starts.send_modify(|starts| *starts += 1);
    });
}

/// Tells of the probe device as soon as it is there; nothing else about these hosts changes.
async fn tell_facts(
    mut applied: watch::Receiver<Arc<Applied>>,
    _underlay: watch::Sender<Underlay>,
    facts: watch::Sender<Facts>,
) {
    loop {
        let probe = applied.catch_up().has_probe();
        facts.send_if_modified(|facts| std::mem::replace(&mut facts.probe, probe) != probe);
        if applied.changed().await.is_err() {
            return;
        }
    }
}

fn node(host: usize, vtep: IpAddr, local: &Local) -> Node {
    Node {
        id: local.node().clone(),
        hostname: format!("host{host}"),
        vtep,
        vxlan_port: 4789,
        underlay_mtu: 1500,
        daemon_version: String::new(),
        engine_version: None,
        scope: "local".to_owned(),
        mode: None,
        boot_id: local.boot().to_owned(),
        since: rs_overlay::clock::unix_seconds(),
        routes: Vec::new(),
        vxlans: Vec::new(),
        incarnation: 0,
        probe: false,
        unreachable: BTreeMap::new(),
        extra: BTreeMap::new(),
    }
}
