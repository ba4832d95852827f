//! What real engines ask, call by call, and what the driver makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod host;
    pub(crate) mod player;
    pub(crate) mod trace;
}

use std::sync::Arc;

use rs_overlay::{config::AddrPool, model::AddressClaim, store::keys, store::ledger::Ledger};
use support::{
    host::{Host, embedded},
    player::{DEFAULT_POOL, HandedOut, Player},
    trace::{Step, read, tell_node_from_manager},
};

fn pools() -> Vec<AddrPool> {
    vec![format!("base={DEFAULT_POOL},size=24").parse().unwrap()]
}

/// Plays a recording twice: waiting for every effect, and as fast as it goes. Afterwards nothing is left.
async fn replay(name: &str, scope: &'static str) {
    for patient in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(embedded(dir.path()).await, dir.path(), 1, scope, pools()).await;
        Player::new(&host, scope, patient, HandedOut::default()).play(&read(name)).await;
        host.until_clean().await;
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal, $scope:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                replay($name, $scope).await;
            }
        )*

        #[test]
        fn no_recording_is_left_out() {
            let played = [$($name,)* MANAGER, WORKER];
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine-traces");
            for file in std::fs::read_dir(dir).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!(played.contains(&name.trim_end_matches(".jsonl")), "{name}");
            }
        }
    };
}

replays! {
    engine_20_local: "20.10.24-local", "local";
    engine_20_global_without_a_cluster: "20.10.24-global-refused", "global";
    engine_20_with_a_cluster_store: "20.10.5-consul-global", "global";
    engine_20_with_a_cluster_store_and_our_ipam: "20.10.5-consul-global-own-ipam", "global";
    engine_26_local: "26.1.5-local", "local";
    engine_26_global: "26.1.5-global", "global";
    engine_28_global: "28.5.2-global", "global";
    engine_28_global_and_our_ipam: "28.5.2-global-own-ipam", "global";
    engine_28_local_and_our_ipam: "28.5.2-local-own-ipam", "local";
}

const MANAGER: &str = "28.5.2-swarm-manager-own-ipam";
const WORKER: &str = "28.5.2-swarm-worker-own-ipam";

/// The steps before the first one that `is_end` is true of, and the rest.
fn cut(steps: &[Step], is_end: impl Fn(&Step) -> bool) -> (&[Step], &[Step]) {
    let at = steps.iter().position(is_end).expect("the recording has such a step");
    steps.split_at(at)
}

async fn swarm(patient: bool) {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let manager_host = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let worker_host = Host::start(Arc::clone(&store), dir.path(), 2, "global", pools()).await;
    let handed_out = HandedOut::default();
    let mut manager = Player::new(&manager_host, "global", patient, Arc::clone(&handed_out));
    let mut worker = Player::new(&worker_host, "global", patient, Arc::clone(&handed_out));
    let (mut manager_steps, worker_steps) = (read(MANAGER), read(WORKER));
    tell_node_from_manager(&mut manager_steps);

    // The manager allocates the network and its tasks' addresses, before any host runs one.
    let local_pool = |step: &Step| step.has("IpamDriver.RequestPool", "AddressSpace", "RecLocal");
    let (allocation, rest) = cut(&manager_steps, local_pool);
    manager.play(allocation).await;
    let all = handed_out.lock().unwrap().clone();
    assert_eq!(all.len(), 5, "a gateway and four tasks");

    // The tasks start on the worker, then on the manager's own host.
    worker.adopt(&manager);
    let (start, worker_rest) = cut(&worker_steps, |step| step.is("NetworkDriver.Leave"));
    worker.play(start).await;
    let (start, rest) = cut(rest, |step| step.is("NetworkDriver.Leave"));
    manager.play(start).await;
    let endpoints = || [&worker_host, &manager_host].map(|host| host.local.data().endpoints.len());
    assert_eq!(endpoints(), [2, 2]);

    // They stop on the worker, which gives back what is the manager's: nothing happens to that.
    let (stop, worker_rest) = cut(worker_rest, local_pool);
    worker.play(stop).await;
    worker_host
        .until("the worker is done", async || {
            let data = worker_host.local.data();
            let done = data.endpoints.is_empty() && data.releases.is_empty() && data.departures.is_empty();
            (!done).then(|| format!("{data:?}"))
        })
        .await;
    let ledger = Ledger::new(Arc::clone(&store));
    let cidr = "10.70.0.0/24".parse().unwrap();
    for ip in &all {
        let claim = ledger.get::<AddressClaim>(&keys::address(&cidr, *ip)).await.unwrap();
        let holder = claim.map(|held| held.record.node);
        assert_eq!(holder.as_ref(), Some(manager_host.local.node()), "{ip}");
    }

    // The manager's own tasks stop, it gives addresses back and allocates others; a worker comes again.
    let (turnover, end) = cut(rest, |step| step.is("NetworkDriver.FreeNetwork"));
    manager.play(turnover).await;
    worker.play(worker_rest).await;
    assert!(!manager_host.network_keys().await.is_empty(), "the manager still holds the network");
    manager.play(end).await;
    manager_host.until_clean().await;
    worker_host.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_28_swarm() {
    swarm(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_28_swarm_in_a_hurry() {
    swarm(false).await;
}
