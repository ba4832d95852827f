//! Hosts that lose their power, their cable or their daemon, and come back.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/dns.rs"]
mod dns;
#[path = "engines/kit.rs"]
mod kit;

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use dns::answers;
use kit::{SOON, assert_clean, create, logs, ping, pings, refused, remove, run, says, steady_ping};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Family, Host, Lab, Signal, StoreKind, wait_until,
};

const DB: &str = "10.77.0.50";
/// Longest time until a host is declared dead: three times what it takes on a machine that is not busy, and
/// as much again for Consul, which ends sessions late.
const DEAD_WITHIN: Duration = Duration::from_mins(1);

fn cli(host: &Host, args: &[&str]) -> String {
    host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay")], args].concat()).unwrap()
}

/// State of host `of`, as `on` knows it.
fn state(on: &Host, of: &Host) -> String {
    let text = cli(on, &["node", "ls", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["hostname"] == of.name().as_str());
    row.unwrap_or_else(|| panic!("no {} in {text}", of.name()))["state"].as_str().unwrap().to_owned()
}

fn becomes(lab: &Lab, on: &Host, of: &Host, wanted: &str) -> Duration {
    let started = Instant::now();
    wait_until(&format!("{} to be {wanted}", of.name()), DEAD_WITHIN, || {
        let state = state(on, of);
        anyhow::ensure!(state == wanted, "{state}");
        Ok(true)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", cli(on, &["status"]), logs(lab)));
    started.elapsed()
}

/// Three hosts on an underlay of one family; `db`, also known as `store`, and `other` on the third one.
fn cluster(kind: StoreKind, family: Family) -> Lab {
    let lab = kit::builder(&[V20_10_24, V28_5, V26_1], kind).family(family).build().unwrap();
    create(&lab, 1, "blue", &["--subnet", "10.77.0.0/24"]);
    run(lab.host(1), "c1", "blue", &[]);
    run(lab.host(2), "c2", "blue", &[]);
    run(lab.host(3), "db", "blue", &["--ip", DB, "--network-alias", "store"]);
    run(lab.host(3), "other", "blue", &[]);
    for name in ["db", "store"] {
        answers(lab.host(1), "c1", &[name], &[format!("A {DB}")]);
    }
    ping(lab.host(1), "c1", DB.parse().unwrap());
    // A host can be asked for once its device is there, and that is published.
    for host in lab.hosts() {
        becomes(&lab, lab.host(1), host, "alive");
    }
    lab
}

/// Waits until the names of host 3 are withdrawn on the others, and its entries with them.
fn withdrawn(lab: &Lab, started: Instant) {
    for host in [lab.host(1), lab.host(2)] {
        let from = format!("c{}", host.number());
        let gone = wait_until("the names to be withdrawn", DEAD_WITHIN, || {
            // With nobody outside to ask, old engines say nothing at all about a name that is not there.
            if let Ok(said) = dns::dig(host, &from, &["+tries=1", "+time=1", "store"]) {
                anyhow::ensure!(said.answers.is_empty(), "{said:?}");
            }
            Ok(true)
        });
        gone.unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", cli(host, &["status"]), logs(lab)));
    }
    eprintln!("names withdrawn after {:?}", started.elapsed());
    assert_eq!(state(lab.host(1), lab.host(3)), "dead");
    let vtep = lab.host(3).vtep().to_string();
    for host in [lab.host(1), lab.host(2)] {
        let gone = wait_until("the entries to be removed", SOON, || {
            let overlay = ["nsenter", "--net=/run/docker/rs-overlay/netns/overlay", "--"];
            let fdb = host.exec(&[&overlay[..], &["bridge", "fdb", "show"]].concat())?;
            let left: Vec<_> =
                fdb.lines().filter(|line| line.ends_with(&format!("{vtep} self permanent"))).collect();
            let left: Vec<_> = left
                .into_iter()
                .chain(fdb.lines().filter(|line| line.contains("02:42:0a:4d:00:32")))
                .collect();
            anyhow::ensure!(left.is_empty(), "{left:?}");
            Ok(true)
        });
        gone.unwrap_or_else(|error| panic!("{error:#}"));
        says(&cli(host, &["status"]), &[&format!("host {} is dead", lab.host(3).name())]);
    }
}

/// The container is started anew on host 2, under its name, its alias and its address.
fn moved_off(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    run(two, "db", "blue", &["--ip", DB, "--network-alias", "store"]);
    for name in ["db", "store"] {
        answers(one, "c1", &[name], &[format!("A {DB}")]);
    }
    ping(one, "c1", DB.parse().unwrap());
}

#[test]
fn a_host_without_power_gives_way_and_returns() {
    if !kit::allowed() {
        return;
    }
    let lab = cluster(StoreKind::Etcd, Family::V4);
    let (one, two, three) = (lab.host(1), lab.host(2), lab.host(3));
    let started = Instant::now();
    three.power_off().unwrap();
    withdrawn(&lab, started);
    moved_off(&lab);

    let lost = steady_ping(one, "c1", DB.parse().unwrap(), 400, || {
        three.power_on().unwrap();
        becomes(&lab, one, three, "alive");
        let said = refused(three, &["start", "db"]);
        says(&said, &[DB, "container db", &two.name()]);
        three.docker(&["start", "other"]).unwrap();
    });
    assert_eq!(lost, 0, "packets of the new owner lost");
    ping(one, "c1", three.address("other", "blue").unwrap());
    answers(one, "c1", &["db"], &[format!("A {DB}")]);
    says(&three.daemon_log(), &["declared dead while it was away"]);
    // The new owner's end frees the address for the old one.
    remove(two, &["db"]);
    wait_until("the old container to get its address back", SOON, || {
        three.docker(&["start", "db"]).map(|_| true)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(&lab)));
    ping(one, "c1", DB.parse().unwrap());
    assert_clean(&lab);
}

#[test]
fn a_host_that_was_cut_off_finds_out_before_it_serves() {
    if !kit::allowed() {
        return;
    }
    let lab = cluster(StoreKind::Etcd, Family::V4);
    let (one, two, three) = (lab.host(1), lab.host(2), lab.host(3));
    let other: IpAddr = three.address("other", "blue").unwrap();
    let started = Instant::now();
    three.cut(true).unwrap();
    withdrawn(&lab, started);
    moved_off(&lab);
    // Both live: the one on host 3 does not know yet.
    assert!(pings(three, "other", DB.parse().unwrap()).unwrap());

    let lost = steady_ping(one, "c1", DB.parse().unwrap(), 300, || {
        three.cut(false).unwrap();
        becomes(&lab, one, three, "alive");
        let cut_off = wait_until("the old container to be cut off", SOON, || {
            let status = cli(three, &["status"]);
            anyhow::ensure!(status.contains("container db is cut off network blue"), "{status}");
            Ok(true)
        });
        cut_off.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(&lab)));
        says(&cli(three, &["status"]), &[DB, "container db on host", &two.name()]);
    });
    assert_eq!(lost, 0, "packets of the new owner lost");
    says(&three.daemon_log(), &["is cut off", DB]);
    assert!(three.in_container("db", &["ping", "-c", "1", "-W", "1", &other.to_string()]).is_err());
    // What was not taken over is as it was, and meets the new owner.
    ping(one, "c1", other);
    ping(three, "other", DB.parse().unwrap());
    answers(three, "other", &["db"], &[format!("A {DB}")]);
    // The end of the old one takes nothing from the new one.
    remove(three, &["db"]);
    let settled = wait_until("the status to be fine again", SOON, || {
        let status = cli(three, &["status"]);
        anyhow::ensure!(!status.contains("cut off"), "{status}");
        Ok(true)
    });
    settled.unwrap();
    ping(one, "c1", DB.parse().unwrap());
    assert_clean(&lab);
}

#[test]
fn a_host_whose_daemon_alone_is_gone_is_not_dead() {
    if !kit::allowed() {
        return;
    }
    let lab = cluster(StoreKind::Etcd, Family::V4);
    let (one, three) = (lab.host(1), lab.host(3));
    let lost = steady_ping(one, "c1", DB.parse().unwrap(), 700, || {
        three.daemon_kill(Signal::SIGKILL).unwrap();
        becomes(&lab, one, three, "suspect");
        // Much longer than a jury takes.
        for _ in 0..4 {
            thread::sleep(Duration::from_secs(4));
            assert_eq!(state(one, three), "suspect", "{}", logs(&lab));
            answers(one, "c1", &["store"], &[format!("A {DB}")]);
        }
        says(&cli(one, &["status"]), &[&format!("host {}", three.name()), "has lost its lease"]);
        // What it holds stays its own.
        let line = ["run", "--rm", "--net", "blue", "--ip", DB, "busybox", "true"];
        says(&refused(lab.host(2), &line), &[DB, "container db"]);
    });
    assert_eq!(lost, 0, "packets lost");
    three.daemon_start().unwrap();
    becomes(&lab, one, three, "alive");
    ping(one, "c1", DB.parse().unwrap());
    assert_clean(&lab);
}

#[test]
fn consul_ends_sessions_late_and_then_it_is_the_same_on_an_underlay_of_ipv6() {
    if !kit::allowed() {
        return;
    }
    let lab = cluster(StoreKind::Consul, Family::V6);
    let started = Instant::now();
    lab.host(3).power_off().unwrap();
    withdrawn(&lab, started);
    moved_off(&lab);
    lab.host(3).power_on().unwrap();
    becomes(&lab, lab.host(1), lab.host(3), "alive");
    assert_clean(&lab);
}
