//! A hundred thousand names: what a question costs, and what an index costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use rs_overlay::{
    model::{Endpoint, Network, NetworkId},
    names::{Answer, Kind, Zone, could_come, life, lookup, reverse_question},
};
use serde_json::json;

const FEW: u32 = 1_000;
const MANY: u32 = 100_000;
/// Questions that are timed together.
const BATCH: u32 = 200;
const BATCHES: usize = 60;

fn id() -> NetworkId {
    NetworkId::new("a".repeat(64)).unwrap()
}

fn network() -> Network {
    serde_json::from_value(json!({
        "id": id(), "name": "shop", "subnets": [], "vni": 4096, "ipam": "ours", "created_by": "n1",
        "created_at": 1,
    }))
    .unwrap()
}

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

/// Each has a name and a short id of its own, and shares an alias with one other.
fn endpoints(count: u32) -> Vec<Endpoint> {
    let one = |n: u32| {
        serde_json::from_value(json!({
            "id": format!("{n:064x}"), "network": id(), "node": "n1", "vtep": "192.0.2.1",
            "mac": "02:42:0a:09:00:02", "addresses": [address(n)], "container": format!("c{n}"),
            "container_id": format!("{:0<64}", format!("{n:012x}")),
            "aliases": [format!("alias-{}", n % (count / 2))], "created_at": 7,
        }))
    };
    (0..count).map(|n| one(n).unwrap()).collect()
}

/// All that becomes of a question, whether it is ours or not.
fn ask(zone: &Zone, name: &str, kind: Kind) -> Answer {
    let networks = [id()];
    black_box(life(zone, &networks, name, kind, Duration::from_secs(1)));
    black_box(could_come(zone, &networks, name));
    lookup(zone, &networks, name, kind, 3)
}

fn batch(zone: &Zone, questions: &[(String, Kind)]) -> Duration {
    let began = Instant::now();
    for (name, kind) in questions {
        black_box(ask(zone, name, *kind));
    }
    began.elapsed()
}

/// Questions of every kind about holders all over the zone.
fn questions(count: u32) -> Vec<(String, Kind)> {
    let about = |n: u32| {
        let ip = address(n);
        [
            (format!("C{n}.shop."), Kind::A),
            (format!("{n:012x}"), Kind::Aaaa),
            (format!("alias-{}", n % (count / 2)), Kind::A),
            (reverse_question(ip), Kind::Ptr),
            (format!("nobody-{n}.shop"), Kind::A),
        ]
    };
    (0..BATCH / 5).flat_map(|n| about(n * (count / (BATCH / 5)))).collect()
}

/// The fastest of many rounds of each, taken in turns, so that other work of the machine does not count. A
/// hundred times the names may cost a few times as much, for their way through a deeper tree and out of
/// colder memory; whatever looks at all of them costs a hundred times as much.
#[test]
fn a_question_s_cost_hardly_grows() {
    let zones = [FEW, MANY].map(|count| {
        let (all, networks) = (endpoints(count), [network()]);
        let before = Zone::new(&networks, all.clone());
        // With names that were lost a moment ago as well.
        let kept = &all[..all.len() - 300];
        let began = Instant::now();
        let zone = Zone::new(&networks, kept.to_vec()).after(&before, Duration::ZERO);
        eprintln!("an index of {} names took {:?}", zone.len(), began.elapsed());
        (zone, questions(count))
    });
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..BATCHES {
        for (fastest, (zone, questions)) in fastest.iter_mut().zip(&zones) {
            *fastest = batch(zone, questions).min(*fastest);
        }
    }
    let [few, many] = fastest.map(|time| time / BATCH);
    eprintln!("a question among {FEW} containers took {few:?}, among {MANY} {many:?}");
    assert!(many < few * 20, "{few:?} became {many:?}");
}

#[test]
fn all_of_them_are_found() {
    let all = endpoints(MANY);
    let zone = Zone::new(&[network()], all);
    assert_eq!(zone.len(), MANY as usize * 5 / 2);
    for n in 0..MANY {
        let answer = lookup(&zone, &[id()], &format!("C{n}.shop"), Kind::A, 3);
        assert_eq!(answer, Answer::Addresses(vec![address(n)]));
    }
    let both = lookup(&zone, &[id()], "alias-7", Kind::A, 1);
    assert_eq!(both, Answer::Addresses(vec![address(MANY / 2 + 7), address(7)]));
}
