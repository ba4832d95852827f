//! Daemons, engines and stores that end and come back while containers talk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use std::time::{Duration, Instant};

use kit::{SOON, assert_clean, create, lab, ping, pings, refused, run, says, steady_ping, try_run};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, Lab, Signal, StoreKind, wait_until,
};

#[test]
fn a_daemon_that_restarts_loses_no_packet() {
    if !kit::allowed() {
        return;
    }
    let lab = pair(StoreKind::Etcd);
    let (one, two) = (lab.host(1), lab.host(2));
    let ip = two.address("c2", "blue").unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let lost = steady_ping(one, "c1", ip, 100, || {
            for host in [one, two] {
                let started = Instant::now();
                host.daemon_kill(signal).unwrap();
                let took = started.elapsed();
                eprintln!("the daemon of {} ended {took:?} after {signal}", host.name());
                assert!(took < Duration::from_secs(5), "{took:?}\n{}", host.daemon_log());
                host.daemon_start().unwrap();
            }
        });
        assert_eq!(lost, 0, "packets lost over {signal}");
        // What comes after the restart works as what was before.
        run(two, "later", "blue", &[]);
        ping(one, "c1", two.address("later", "blue").unwrap());
        kit::remove(two, &["later"]);
    }
    second_daemon_is_refused(one);
    ping(one, "c1", ip);
    assert_clean(&lab);
}

fn second_daemon_is_refused(host: &Host) {
    let program = env!("CARGO_BIN_EXE_rs-overlay");
    let line = [program, "daemon", "--cluster-store", "embedded:///tmp/never", "--cluster-advertise", "eth1"];
    for more in [&[][..], &["--socket", "/run/docker/plugins/second.sock"]] {
        let output = host.run(&[&line[..], more].concat()).limit(SOON).output().unwrap();
        assert!(!output.status.success(), "a second daemon ran on one state directory");
        eprintln!("second daemon: {}{}", output.stdout.trim(), output.stderr.trim());
        says(&format!("{}{}", output.stdout, output.stderr), &["/var/lib/rs-overlay"]);
    }
    assert!(host.daemon_running(), "the second daemon ended the first");
}

#[test]
fn an_engine_that_restarts_is_followed() {
    if !kit::allowed() {
        return;
    }
    let lab = pair(StoreKind::Consul);
    let (one, two) = (lab.host(1), lab.host(2));
    let reached = |what: &str| {
        eprintln!("after {what}");
        ping(one, "c1", two.address("c2", "blue").unwrap());
        ping(two, "c2", one.address("c1", "blue").unwrap());
    };
    two.docker(&["restart", "-t", "0", "c2"]).unwrap();
    reached("docker restart");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        two.engine_stop(signal).unwrap();
        two.engine_start().unwrap();
        wait_until("the container to be in a state to be started", SOON, || {
            two.docker(&["start", "c2"]).map(|_| true)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", two.daemon_log()));
        reached(&format!("{signal} to the engine and a start"));
        let name = format!("after-{signal}").to_lowercase();
        run(two, &name, "blue", &[]);
        ping(one, "c1", two.address(&name, "blue").unwrap());
    }
    assert_clean(&lab);
}

#[test]
fn a_store_that_is_away_disturbs_no_traffic() {
    if !kit::allowed() {
        return;
    }
    for kind in [StoreKind::Etcd, StoreKind::Consul] {
        let lab = pair(kind);
        let (one, two) = (lab.host(1), lab.host(2));
        let lost = steady_ping(one, "c1", two.address("c2", "blue").unwrap(), 160, || {
            lab.store().kill().unwrap();
            let started = Instant::now();
            let said = refused(two, &[&["network", "create"], &kit::OURS[..], &["unlucky"]].concat());
            let took = started.elapsed();
            eprintln!("refused after {took:?}");
            says(&said, &["rs-overlay", kind.as_str(), "192.0.2.254"]);
            assert!(took < Duration::from_secs(15), "{took:?}");
            lab.store().start().unwrap();
        });
        assert_eq!(lost, 0, "packets lost while {kind} was away");
        let works = wait_until("a network once the store is back", SOON, || {
            two.docker(&[&["network", "create"], &kit::OURS[..], &["lucky"]].concat()).map(|_| true)
        });
        works.unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(&lab)));
        kit::appears(&lab, "lucky");
        run(one, "late", "lucky", &[]);
        assert_clean(&lab);
    }
}

#[test]
fn the_host_with_the_embedded_store_restarts_its_daemon() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V20_10_24, V28_5, V26_1], StoreKind::Embedded);
    create(&lab, 2, "blue", &[]);
    for host in lab.hosts() {
        run(host, &format!("c{}", host.number()), "blue", &[]);
    }
    let (two, three) = (lab.host(2), lab.host(3));
    let target = three.address("c3", "blue").unwrap();
    ping(two, "c2", target);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        lab.host(1).daemon_kill(signal).unwrap();
        assert!(pings(two, "c2", target).unwrap());
        lab.host(1).daemon_start().unwrap();
        let name = format!("after-{signal}").to_lowercase();
        let started = wait_until("a container once the store is back", SOON, || {
            three.docker_output(&["rm", "-f", &name])?;
            try_run(three, &name, "blue", &[]).map(|_| true)
        });
        started.unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(&lab)));
        for host in [lab.host(1), two] {
            ping(host, &format!("c{}", host.number()), three.address(&name, "blue").unwrap());
        }
    }
    assert_clean(&lab);
}

/// Two hosts with a container each that reach each other.
fn pair(store: StoreKind) -> Lab {
    let lab = lab(&[V20_10_24, V28_5], store);
    create(&lab, 1, "blue", &[]);
    run(lab.host(1), "c1", "blue", &[]);
    run(lab.host(2), "c2", "blue", &[]);
    ping(lab.host(1), "c1", lab.host(2).address("c2", "blue").unwrap());
    ping(lab.host(2), "c2", lab.host(1).address("c1", "blue").unwrap());
    lab
}
