//! What must not get slower, as ratios within one run. The bounds are far from what is measured on a quiet machine,
//! so that a busy one does not break them; `make bench` has the figures themselves.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]
#![allow(dead_code, reason = "the bench uses all of it")]

#[path = "engines/kit.rs"]
mod kit;

#[path = "../benches/figures/between.rs"]
mod between;
#[path = "../benches/figures/clocked.rs"]
mod clocked;
#[path = "../benches/figures/figure.rs"]
mod figure;
#[path = "../benches/figures/rounds.rs"]
mod rounds;
#[path = "../benches/figures/stage.rs"]
mod stage;

use between::{Cores, round_trips};
use figure::{Better::Lower, Figure, OURS, Series, quantile};
use netns_harness::{EngineVersion::V20_10_24, Host, Lab, StoreKind};
use rounds::{Samples, in_turn};
use stage::End;

/// Rounds of the data path, and round trips in each.
const ROUNDS: usize = 9;
const ROUND_TRIPS: usize = 4000;
/// Containers that are started on each network.
const STARTS: usize = 7;

const BARE: &str = "bare VXLAN";
const BRIDGES: &str = "rs-overlay by bridges";
const DOCKERS: &str = "docker bridge";

#[test]
fn round_trips_and_starts_are_no_slower_than_they_were() {
    if !kit::allowed() {
        return;
    }
    let builder = || kit::builder(&[V20_10_24, V20_10_24], StoreKind::Etcd);
    let lab = builder().build().unwrap();
    let by_bridges = builder().daemon_args(&["--fast-path", "off"]).build().unwrap();
    for lab in [&lab, &by_bridges] {
        kit::create(lab, 1, "ours", &[]);
    }
    data_path(&lab, &by_bridges);
    starts(&lab);
}

fn ratio(figure: &Figure, peer: &str) -> f64 {
    let told = |series: &Series| format!("{} {:.1}", series.subject, series.median());
    let medians: Vec<_> = figure.series.iter().map(told).collect();
    let ratio = figure.ratio(peer).unwrap();
    eprintln!("{}, {}: {}; ours to {peer}: {ratio:.2}", figure.title, figure.unit, medians.join(", "));
    ratio
}

/// Whether packets go past the bridges there, which takes a kernel that can.
fn is_fast(host: &Host) -> bool {
    let said = host.exec(&[env!("CARGO_BIN_EXE_rs-overlay"), "status", "--format", "json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    eprintln!("data path: {}", status["data_path"]);
    status["data_path"]["fast"].as_bool().unwrap()
}

/// A way across the two hosts of a lab.
fn containers(lab: &Lab) -> [End<'_>; 2] {
    [lab.host(1), lab.host(2)]
        .map(|host| End::container(host, &format!("end-{}", host.name()), "ours").unwrap())
}

/// Across hosts: past the bridges, through them, and beside the least that an overlay can cost.
fn data_path(lab: &Lab, by_bridges: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let bare = [stage::vxlan(one, two).unwrap(), stage::vxlan(two, one).unwrap()];
    let ways = [(OURS, containers(lab)), (BRIDGES, containers(by_bridges)), (BARE, bare)];
    for (_, [from, to]) in &ways {
        from.reaches(to).unwrap();
    }
    let mut samples = Samples::default();
    for round in 0..ROUNDS {
        for (name, [from, to]) in in_turn(&ways, round) {
            let to = (&to.namespace, to.ip);
            let times = round_trips(&from.namespace, to, ROUND_TRIPS, Cores::One).unwrap();
            samples.add("trips", name, quantile(&times, 0.5));
        }
    }
    let subjects = ways.iter().map(|(name, _)| *name);
    let trips = samples.figure("trips", "round trip on one core", ("us", Lower), subjects, "");
    let (bridges, bare) = (ratio(&trips, BRIDGES), ratio(&trips, BARE));
    assert!(!is_fast(by_bridges.host(1)));
    if is_fast(one) && is_fast(two) {
        // 0.8, and 1.1 to 1.15.
        assert!(bridges < 0.95 && bare < 1.4, "{bridges:.2} of the bridges, {bare:.2} of bare VXLAN");
    } else {
        // The same way twice, and 1.4.
        assert!((0.8..1.25).contains(&bridges) && bare < 1.8, "{bridges:.2} and {bare:.2}");
    }
}

/// Beside the bridge, which needs neither a driver nor a store.
fn starts(lab: &Lab) {
    let host = lab.host(1);
    host.docker(&["network", "create", "bridged"]).unwrap();
    stage::container(host, "stays", "bridged").unwrap();
    let networks = [(OURS, "ours"), (DOCKERS, "bridged")];
    let mut samples = Samples::default();
    for start in 0..STARTS {
        for (name, network) in in_turn(&networks, start) {
            let line = ["run", "-d", "--name", "brief", "--net", network, "busybox", "sleep", "3600"];
            let took = clocked::docker(host, &line).unwrap();
            host.docker(&["rm", "-f", "brief"]).unwrap();
            samples.add("run", name, took.as_secs_f64() * 1e3);
        }
    }
    let run = samples.figure("run", "docker run", ("ms", Lower), [OURS, DOCKERS], "");
    // 1.05 to 1.15.
    assert!(ratio(&run, DOCKERS) < 1.6);
}
