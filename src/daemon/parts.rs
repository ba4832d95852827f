//! The daemon's parts, how they are joined, and their tasks.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use super::{facts::FactFinder, orders::Orders, underlay::UnderlayFinder, verify::Verifier, view::View};
use crate::{
    clock,
    config::DaemonConfig,
    dataplane::{host::Host, netlink::Kernel, prober::NeighbourProber},
    dns::manager::{Manager, Told},
    driver::{Driver, DriverConfig},
    engine::{Deadlines, DockerEngine, DriverName, EngineApi},
    http::{self, Plugin},
    jury::Unreachable,
    local::{self, Local},
    member::{Facts, Member},
    model::{Node, Underlay},
    reconcile::{
        Applied, collect::Collector, housekeeping::Housekeeping, keeper::Keeper, liveness::Liveness,
        mirror::Mirror, mode::ModeFinder, mode::Roles, mtu::MtuKeeper, naming::Naming,
        propagate::EngineReport, propagate::Propagator, publisher::Publisher, refill::Refill, worker::Worker,
    },
    store::{Store, gate::Gate, ledger::Ledger},
};

/// After which time what was needed for the start alone is no longer in use.
const STARTED: Duration = Duration::from_secs(2);

/// Builds all parts and starts the background tasks.
#[expect(clippy::too_many_arguments, reason = "the parts that are joined here")]
pub(super) async fn start(
    config: &DaemonConfig,
    vtep: IpAddr,
    store: Arc<dyn Store>,
    host: Host,
    kernel: Arc<Kernel>,
    local: Arc<Local>,
    cancel: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Plugin> {
    let gate = Gate::new(store);
    let store: Arc<dyn Store> = Arc::new(gate.clone());
    let ledger = Ledger::new(store.clone());
    let engine: Arc<dyn EngineApi> = Arc::new(DockerEngine::new(&config.docker_host, Deadlines::default()));
    let driver_name = Arc::new(DriverName::of_socket(&config.socket));
    let roles = Roles::new(config.scope, driver_name.plugin().is_some(), local.clone());
    let mirror = Mirror::new(store, local.clone());
    let (snapshot, health) = (mirror.snapshot(), mirror.health());
    let (report, reports) = watch::channel(EngineReport::default());
    let (applied, applied_now) = watch::channel(Arc::new(Applied::default()));

    let way = UnderlayFinder::new(config.cluster_advertise.clone(), vtep);
    let mut finder =
        FactFinder::new(host, way, snapshot.clone(), reports.clone(), roles.watch(), applied_now.clone());
    let (facts, underlay) = finder.find().await?;
    let node = this_node(config, &underlay, &local, &facts);
    let ((facts, facts_now), (underlay, underlay_now)) = (watch::channel(facts), watch::channel(underlay));
    let (unreachable, missed) = watch::channel(Unreachable::new());
    let prober = NeighbourProber { namespace: kernel.namespace().to_owned(), underlay: underlay_now.clone() };
    let liveness = Liveness {
        ledger: ledger.clone(),
        node: local.node().clone(),
        prober: Arc::new(prober),
        snapshot: snapshot.clone(),
        applied: applied_now.clone(),
        health: health.clone(),
        unreachable,
    };

    let driver_config = DriverConfig { roles: roles.clone(), pools: config.default_addr_pools.clone() };
    let driver = Driver::new(
        driver_config,
        ledger.clone(),
        local.clone(),
        snapshot.clone(),
        applied_now.clone(),
        underlay_now.clone(),
    );
    let driver = driver.confirmed_by(reports.clone()).informed_by(health.clone());
    let driver = Arc::new(driver.standing_on(gate.footing()));
    let worker = Worker {
        dataplane: kernel.clone(),
        local: local.clone(),
        snapshot: snapshot.clone(),
        underlay: underlay_now.clone(),
        refused: driver.refused(),
        vxlan_port: config.vxlan_port,
        applied,
    };
    let refill = Refill {
        gate: gate.clone(),
        local: local.clone(),
        snapshot: snapshot.clone(),
        health: health.clone(),
    };
    let publisher = Publisher {
        ledger: ledger.clone(),
        local: local.clone(),
        underlay: underlay_now.clone(),
        health: health.clone(),
    };
    let housekeeping = Housekeeping {
        ledger: ledger.clone(),
        local: local.clone(),
        health: health.clone(),
        footing: Some(gate.footing()),
    };
    let mtu_keeper = MtuKeeper {
        ledger: ledger.clone(),
        node: local.node().clone(),
        snapshot: snapshot.clone(),
        underlay: underlay_now.clone(),
    };
    let keeper = Keeper {
        ledger: ledger.clone(),
        local: local.clone(),
        snapshot: snapshot.clone(),
        health: health.clone(),
        footing: Some(gate.footing()),
    };
    let member = Member {
        ledger: ledger.clone(),
        local: local.clone(),
        node: node.clone(),
        facts: facts_now,
        underlay: underlay_now.clone(),
        unreachable: missed,
    };
    let naming = Naming { engine: engine.clone(), local: local.clone(), driver: driver_name.clone() };
    let collector = Collector { engine: engine.clone(), local: local.clone(), driver: driver_name.clone() };
    let orders = Orders {
        engine: engine.clone(),
        ledger: ledger.clone(),
        local: local.clone(),
        snapshot: snapshot.clone(),
        driver: driver_name.clone(),
    };
    let propagator = Propagator {
        engine: engine.clone(),
        ledger: ledger.clone(),
        local: local.clone(),
        driver: driver_name.clone(),
        roles: roles.watch(),
        snapshot: snapshot.clone(),
        health: health.clone(),
        report,
    };
    let (told, names_told) = watch::channel(Told::default());
    let names =
        Manager { local: local.clone(), snapshot: snapshot.clone(), underlay: underlay_now.clone(), told };
    let verifier = Verifier {
        worker: worker.clone(),
        store: ledger.store().clone(),
        engine: engine.clone(),
        driver: driver_name.clone(),
        local: local.clone(),
        snapshot: snapshot.clone(),
        names: names_told.clone(),
        underlay: underlay_now.clone(),
        footing: gate.footing(),
    };
    let store_url = config.cluster_store.clone();
    let (way, mode) = (kernel.clone(), config.fast_path);
    let view = View {
        node,
        kernel,
        underlay: underlay_now,
        driver: driver_name,
        store_url,
        ledger,
        orders,
        local,
        snapshot,
        health,
        applied: applied_now,
        engine: reports,
        names: names_told,
        verifier,
        footing: gate.footing(),
        roles: roles.watch(),
    };

    tasks.spawn(mirror.run(cancel.clone()));
    let ended = cancel.clone();
    tasks.spawn(async move {
        if let Err(error) = worker.run(ended).await {
            error!(%error, "the kernel can no longer be followed");
        }
    });
    let ended = cancel.clone();
    tasks.spawn(async move {
        // Beside all else: an engine need not wait for what makes its containers faster.
        if let Err(error) = way.choose_path(mode).await {
            error!(%error, "packets go by the bridges");
        }
        // Other threads let go of what they had for that a moment later.
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(STARTED) => Kernel::give_memory_back(),
        }
        ended.cancelled().await;
    });
    tasks.spawn(refill.run(cancel.clone()));
    tasks.spawn(publisher.run(cancel.clone()));
    tasks.spawn(housekeeping.run(cancel.clone()));
    tasks.spawn(member.run(cancel.clone()));
    tasks.spawn(liveness.run(cancel.clone()));
    tasks.spawn(mtu_keeper.run(cancel.clone()));
    tasks.spawn(ModeFinder { engine: engine.clone(), roles: roles.clone() }.run(cancel.clone()));
    tasks.spawn(naming.run(cancel.clone()));
    tasks.spawn(collector.run(cancel.clone()));
    tasks.spawn(propagator.run(cancel.clone()));
    tasks.spawn(keeper.run(cancel.clone()));
    tasks.spawn(names.run(cancel.clone()));
    tasks.spawn(finder.run(facts, underlay, cancel.clone()));
    let calls = config.state_dir.join("calls");
    let journal = http::Journal::open(&calls)
        .with_context(|| format!("cannot keep the calls under way in {}", calls.display()))?;
    Ok(Plugin { driver, admin: Arc::new(view), calls: TaskTracker::new(), journal: Arc::new(journal) })
}

fn this_node(config: &DaemonConfig, underlay: &Underlay, local: &Local, facts: &Facts) -> Node {
    Node {
        id: local.node().clone(),
        hostname: config.hostname.clone(),
        vtep: underlay.vtep,
        vxlan_port: config.vxlan_port,
        underlay_mtu: underlay.mtu,
        daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_version: None,
        scope: facts.scope.as_str().to_owned(),
        mode: facts.mode,
        boot_id: local::boot_id(),
        since: clock::unix_seconds(),
        routes: facts.routes.clone(),
        incarnation: 0,
        probe: false,
        unreachable: std::collections::BTreeMap::new(),
        vxlans: facts.vxlans.clone(),
        extra: std::collections::BTreeMap::new(),
    }
}
