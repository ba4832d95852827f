//! Real faults on real engines, under a steady ping, a TCP stream and questions for names.
//!
//! `RS_OVERLAY_FAULT_ROUNDS` sets how many rounds of killed daemons there are, `RS_OVERLAY_FAULT_SEED` what they are
//! made of. A round that fails prints both, and its script.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

/// Faults, what runs across them, and what must be true after them.
#[path = "engines/faults"]
mod faults {
    pub(crate) mod asker;
    pub(crate) mod chance;
    pub(crate) mod hosts;
    pub(crate) mod order;
    pub(crate) mod pinger;
    pub(crate) mod rounds;
    pub(crate) mod scene;
    pub(crate) mod settled;
    pub(crate) mod stores;
    pub(crate) mod stream;
    pub(crate) mod world;
}

use netns_harness::{
    EngineVersion::{V20_10_24, V28_5},
    StoreKind,
};

use faults::{hosts, rounds, scene::Scene, stores};

/// Rounds that run with all other tests; `make faults` runs 300.
const ROUNDS: u32 = 40;

#[test]
fn daemons_are_killed_at_random_points() {
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(&[V20_10_24, V28_5], StoreKind::Etcd);
    rounds::killed_daemons(&scene, rounds::count(ROUNDS), rounds::seed());
    scene.finish();
}

#[test]
fn daemons_are_killed_on_consul() {
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(&[V28_5, V20_10_24], StoreKind::Consul);
    rounds::killed_daemons(&scene, rounds::count(ROUNDS) / 5, rounds::seed());
    scene.finish();
}

#[test]
fn stores_of_etcd_go_wrong() {
    use stores::Fault::{Cut, Flapping, Full, Killed, Paused, Slow};
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(&[V20_10_24, V28_5], StoreKind::Etcd);
    stores::go_wrong(&scene, &[Killed, Paused, Cut, Slow, Flapping, Full]);
    scene.finish();
}

#[test]
fn stores_of_consul_go_wrong() {
    use stores::Fault::{Cut, Killed, Paused};
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(&[V28_5, V20_10_24], StoreKind::Consul);
    stores::go_wrong(&scene, &[Killed, Paused, Cut]);
    scene.finish();
}

#[test]
fn a_host_goes_wrong_and_comes_back() {
    use hosts::Fault::{Cut, DaemonStopped, EngineKilled, EngineRestarted, Frozen, PowerCut, Suspended};
    if !kit::allowed() {
        return;
    }
    let scene = Scene::beside(&[V20_10_24, V28_5], V20_10_24, StoreKind::Etcd);
    let part = [Cut(5), Frozen(20), Suspended(20), EngineKilled, PowerCut(1)];
    let rest = [Cut(30), Frozen(5), Suspended(60), DaemonStopped(30), EngineRestarted, PowerCut(30)];
    let mut faults = part.to_vec();
    if rounds::in_full() {
        faults.extend(rest);
    }
    hosts::go_wrong(&scene, &faults);
    scene.finish();
}
