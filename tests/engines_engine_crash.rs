//! Engines that crash, alone or with all their containers, with and without live-restore: what no longer
//! exists is collected, what lives is left alone, and no network keeps an endpoint that is not there.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use std::{
    thread,
    time::{Duration, Instant},
};

use kit::{SOON, assert_clean, create, ping, remove, run, says, steady_ping};
use netns_harness::{
    EngineVersion::{V20_10_24, V28_5},
    Host, Lab, Signal, StoreKind, wait_until,
};

/// The collector waits for 40 s, looks every 10 s, and an engine may keep a sandbox for a minute.
const COLLECTED: Duration = Duration::from_mins(3);
/// An address that was handed out to an engine that then died is given back after three minutes, and the
/// network's end is decided at a sweep after that.
const FORGOTTEN: Duration = Duration::from_mins(7);
const OWN: &str = "ls /var/lib/rs-overlay/endpoints | grep -c json$ || true";

#[test]
fn with_live_restore_what_lives_goes_on_and_what_died_is_collected() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::builder(&[V20_10_24, V28_5], StoreKind::Etcd).engine_args(&["--live-restore"]);
    let lab = lab.build().unwrap();
    let (one, two) = populated(&lab);
    let ip = two.address("c2", "blue").unwrap();
    for host in [one, two] {
        let lost = steady_ping(one, "c1", ip, 160, || {
            host.engine_stop(Signal::SIGKILL).unwrap();
            host.engine_start().unwrap();
        });
        assert_eq!(lost, 0, "packets lost while the engine of {} was away", host.name());
        assert_eq!(own_endpoints(host), 2, "{}", host.daemon_log());
        is_right(host);
    }
    for host in [one, two] {
        let processes = processes(host);
        host.engine_stop(Signal::SIGKILL).unwrap();
        kill(host, &processes);
        host.engine_start().unwrap();
        all_are_collected(host);
    }
    ends_well(&lab);
}

#[test]
fn without_live_restore_nothing_of_the_dead_stays() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd);
    let (one, two) = populated(&lab);
    for host in [one, two] {
        // The engine alone: at its next start it ends what it finds running.
        host.engine_stop(Signal::SIGKILL).unwrap();
        host.engine_start().unwrap();
        all_are_collected(host);
        restart_all(host);
        // All at once, as the kernel does that runs out of memory.
        let processes = processes(host);
        host.engine_stop(Signal::SIGKILL).unwrap();
        kill(host, &processes);
        host.engine_start().unwrap();
        all_are_collected(host);
        restart_all(host);
    }
    ping(one, "c1", two.address("c2", "blue").unwrap());
    ends_well(&lab);
}

/// The engine cleans up at its start and cannot tell us: nobody says that the endpoints are gone.
#[test]
fn an_engine_that_cleans_up_while_our_daemon_is_away_leaves_nothing() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd);
    let (one, two) = populated(&lab);
    thread::scope(|scope| {
        for host in [one, two] {
            scope.spawn(move || {
                let processes = processes(host);
                host.daemon_kill(Signal::SIGKILL).unwrap();
                host.engine_stop(Signal::SIGKILL).unwrap();
                kill(host, &processes);
                host.engine_start().unwrap();
                host.daemon_start().unwrap();
                all_are_collected(host);
                restart_all(host);
            });
        }
    });
    ping(one, "c1", two.address("c2", "blue").unwrap());
    ends_well(&lab);
}

/// The engine dies at some moment of a container's start or end.
#[test]
fn an_engine_that_dies_in_the_middle_of_a_start_or_an_end_blocks_no_network() {
    if !kit::allowed() {
        return;
    }
    let lab = kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd);
    let (one, two) = populated(&lab);
    for (round, after) in [30_u64, 90, 150, 220, 300, 420].into_iter().enumerate() {
        let host = if round % 2 == 0 { one } else { two };
        thread::scope(|scope| {
            scope.spawn(|| {
                let name = format!("r{round}");
                let line = ["run", "-d", "--name", &name, "--net", "blue", "busybox", "sleep", "3600"];
                // Whether it comes through is not what is asked here.
                let _ = host.docker_output(&line);
                let _ = host.docker_output(&["rm", "-f", &name]);
            });
            thread::sleep(Duration::from_millis(after));
            host.engine_stop(Signal::SIGKILL).unwrap();
        });
        host.engine_start().unwrap();
        eprintln!("round {round}: the engine of {} died after {after} ms", host.name());
        restart_all(host);
    }
    ping(one, "c1", two.address("c2", "blue").unwrap());
    for host in [one, two] {
        is_right(host);
    }
    ends_well(&lab);
}

/// Two containers on each of two hosts, with our IPAM and with the engine's.
fn populated(lab: &Lab) -> (&Host, &Host) {
    create(lab, 1, "blue", &[]);
    lab.host(1).docker(&["network", "create", "-d", "rs-overlay", "plain"]).unwrap();
    kit::appears(lab, "plain");
    let (one, two) = (lab.host(1), lab.host(2));
    for host in [one, two] {
        run(host, &format!("c{}", host.number()), "blue", &[]);
        run(host, &format!("p{}", host.number()), "plain", &[]);
    }
    ping(one, "c1", two.address("c2", "blue").unwrap());
    (one, two)
}

fn names(host: &Host) -> [String; 2] {
    ["c", "p"].map(|kind| format!("{kind}{}", host.number()))
}

/// The container's process and its shim, as numbers of the host's.
fn processes(host: &Host) -> Vec<String> {
    let of = |name: &String| {
        let pid = host.docker(&["inspect", "-f", "{{.State.Pid}}", name]).unwrap();
        let shim = host.exec(&["ps", "-o", "ppid=", "-p", &pid]).unwrap();
        [shim.trim().to_owned(), pid]
    };
    names(host).iter().flat_map(of).collect()
}

fn kill(host: &Host, processes: &[String]) {
    let line: Vec<_> = ["kill", "-9"].into_iter().chain(processes.iter().map(String::as_str)).collect();
    host.exec(&line).unwrap();
}

fn own_endpoints(host: &Host) -> usize {
    host.exec(&["sh", "-c", OWN]).unwrap().trim().parse().unwrap()
}

fn all_are_collected(host: &Host) {
    let started = Instant::now();
    let gone = wait_until("the end of all endpoints", COLLECTED, || own_endpoints(host) == 0);
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    eprintln!("{}: all endpoints are gone {:?} after the engine's start", host.name(), started.elapsed());
    is_right(host);
}

fn restart_all(host: &Host) {
    for name in names(host) {
        wait_until("the start of a container", SOON, || host.docker(&["start", &name]).map(|_| true))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    }
}

/// `verify` finds nothing wrong, in the end.
fn is_right(host: &Host) {
    let line = [env!("CARGO_BIN_EXE_rs-overlay"), "verify"];
    let right = wait_until("`rs-overlay verify` to find no difference", COLLECTED, || {
        let output = host.run(&line).limit(SOON).output()?;
        anyhow::ensure!(output.status.success(), "{}{}", output.stdout, output.stderr);
        says(&output.stdout, &["no difference"]);
        anyhow::Ok(true)
    });
    right.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", host.name(), host.daemon_log()));
}

/// No network is said to have an endpoint that is not there.
fn ends_well(lab: &Lab) {
    for host in lab.hosts() {
        let names = names(host);
        remove(host, &names.each_ref().map(String::as_str));
        let left = host.docker(&["ps", "-aq"]).unwrap();
        for container in left.lines() {
            remove(host, &[container]);
        }
    }
    for network in ["blue", "plain"] {
        lab.host(2).docker(&["network", "rm", network]).unwrap();
        for host in lab.hosts() {
            let gone = wait_until("the end of a network", FORGOTTEN, || {
                kit::has_network(host, network).map(|has| !has)
            });
            gone.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", host.name(), kit::logs(lab)));
        }
    }
    for host in lab.hosts() {
        let log = host.engine_log();
        assert!(!log.contains("has active endpoints"), "{}: {log}", host.name());
    }
    assert_clean(lab);
}
