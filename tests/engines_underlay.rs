//! Underlays that change under running containers, and broadcast and multicast between hosts, with real engines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/underlay/flood.rs"]
mod flood;

#[path = "engines/underlay/moves.rs"]
mod moves;

#[path = "engines/underlay/sizes.rs"]
mod sizes;

use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, StoreKind,
};
use rs_overlay::dataplane::namespace::Namespace;

/// The command line of a host's daemon.
fn cli(host: &Host, args: &[&str]) -> anyhow::Result<String> {
    host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay")], args].concat())
}

/// Runs inside the network of a container.
fn inside<T: Send>(host: &Host, container: &str, work: impl FnOnce() -> T + Send) -> T {
    Namespace::open(&host.container_namespace(container).unwrap()).unwrap().run(work).unwrap()
}

#[test]
fn sizes_addresses_and_frames_for_all() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::builder(&[V28_5, V20_10_24, V26_1], StoreKind::Etcd).mtu(9000).build().unwrap();
    let scene = |name: &str, play: &dyn Fn()| {
        let started = std::time::Instant::now();
        play();
        eprintln!("scene {name} took {:.1?}", started.elapsed());
    };
    scene("flood", &|| flood::on_demand(&lab));
    scene("sizes", &|| sizes::change(&lab));
    scene("moves", &|| moves::follow(&lab));
    scene("swap", &|| moves::swap(&lab));
    scene("a fixed address", &|| moves::fixed(&lab));
    kit::assert_clean(&lab);
}

#[test]
fn addresses_move_on_consul() {
    if kit::allowed() {
        let lab = kit::lab(&[V26_1, V20_10_24], StoreKind::Consul);
        moves::follow(&lab);
        moves::swap(&lab);
        kit::assert_clean(&lab);
    }
}
