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
use figure::{Better::Lower, Figure, OURS, quantile};
use netns_harness::{EngineVersion::V20_10_24, Lab, StoreKind};
use rounds::{Samples, in_turn};
use stage::End;

/// Rounds of the data path, and round trips in each.
const ROUNDS: usize = 9;
const ROUND_TRIPS: usize = 4000;
/// Containers that are started on each network.
const STARTS: usize = 7;

const BARE: &str = "bare VXLAN";
const BRIDGE: &str = "docker bridge";

#[test]
fn round_trips_and_starts_are_no_slower_than_they_were() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::lab(&[V20_10_24, V20_10_24], StoreKind::Etcd);
    kit::create(&lab, 1, "ours", &[]);
    data_path(&lab);
    starts(&lab);
}

fn ratio(figure: &Figure, peer: &str) -> f64 {
    for series in &figure.series {
        eprintln!("{}: {} {:.1} {}", figure.title, series.subject, series.median(), figure.unit);
    }
    let ratio = figure.ratio(peer).unwrap();
    eprintln!("{}: {OURS} to {peer} {ratio:.2}", figure.title);
    ratio
}

/// Across hosts, beside the least that an overlay can cost.
fn data_path(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ours = [one, two].map(|host| End::container(host, &format!("end{}", host.number()), "ours").unwrap());
    let bare = [stage::vxlan(one, two).unwrap(), stage::vxlan(two, one).unwrap()];
    let ways = [(OURS, ours), (BARE, bare)];
    let mut samples = Samples::default();
    for (_, [from, to]) in &ways {
        from.reaches(to).unwrap();
    }
    for round in 0..ROUNDS {
        for (name, [from, to]) in in_turn(&ways, round) {
            let times =
                round_trips(&from.namespace, (&to.namespace, to.ip), ROUND_TRIPS, Cores::One).unwrap();
            samples.add("trips", name, quantile(&times, 0.5));
        }
    }
    let trips = samples.figure("trips", "round trip on one core", ("us", Lower), [OURS, BARE], "");
    // 1.4 with bridges.
    assert!(ratio(&trips, BARE) < 1.8);
}

/// Beside the bridge, which needs neither a driver nor a store.
fn starts(lab: &Lab) {
    let host = lab.host(1);
    host.docker(&["network", "create", "bridged"]).unwrap();
    stage::container(host, "stays", "bridged").unwrap();
    let networks = [(OURS, "ours"), (BRIDGE, "bridged")];
    let mut samples = Samples::default();
    for start in 0..STARTS {
        for (name, network) in in_turn(&networks, start) {
            let line = ["run", "-d", "--name", "brief", "--net", network, "busybox", "sleep", "3600"];
            let took = clocked::docker(host, &line).unwrap();
            host.docker(&["rm", "-f", "brief"]).unwrap();
            samples.add("run", name, took.as_secs_f64() * 1e3);
        }
    }
    let run = samples.figure("run", "docker run", ("ms", Lower), [OURS, BRIDGE], "");
    // 1.05 to 1.15.
    assert!(ratio(&run, BRIDGE) < 1.6);
}
