//! The store is killed, or stopped in its tracks, and everybody goes on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use std::time::{Duration, Instant};

use kit::{SOON, appears, assert_clean, create, lab, ping, refused, remove, run, says};
use netns_harness::{
    EngineVersion::{V20_10_24, V28_5},
    Host, Lab, Signal, StoreKind, wait_until,
};

/// Networks of the lab: with our IPAM, and with the one of the engine that created it.
const NETWORKS: [&str; 2] = ["ours", "theirs"];
/// Longest time that a refusal may take: 2 s for the store, the rest for a busy machine.
const REFUSED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Paused,
}

impl Fault {
    fn begin(self, lab: &Lab) {
        match self {
            Self::Killed => lab.store().kill().unwrap(),
            Self::Paused => lab.store().pause().unwrap(),
        }
    }

    fn end(self, lab: &Lab) {
        match self {
            Self::Killed => lab.store().start().unwrap(),
            Self::Paused => lab.store().resume().unwrap(),
        }
    }
}

/// Two hosts with a container each on both networks, and reserves that are full.
fn scene(store: StoreKind) -> Lab {
    let lab = lab(&[V20_10_24, V28_5], store);
    create(&lab, 1, "ours", &["--subnet", "10.90.0.0/24"]);
    lab.host(1).docker(&["network", "create", "-d", "rs-overlay", "theirs"]).unwrap();
    appears(&lab, "theirs");
    for host in lab.hosts() {
        for network in NETWORKS {
            run(host, &name(host, network, "old"), network, &[]);
        }
    }
    for host in lab.hosts() {
        wait_until(&format!("the reserves of {}", host.name()), SOON, || {
            let claims = host.exec(&["sh", "-c", "cat /var/lib/rs-overlay/claims/*.json"])?;
            Ok::<_, anyhow::Error>(claims.matches("\"reserve\"").count() >= 16)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(&lab)));
    }
    everybody_talks(&lab, "old");
    lab
}

fn name(host: &Host, network: &str, what: &str) -> String {
    format!("{network}-{what}-{}", host.number())
}

/// Every container `what` reaches the old one of the other host.
fn everybody_talks(lab: &Lab, what: &str) {
    let (one, two) = (lab.host(1), lab.host(2));
    for network in NETWORKS {
        for (from, to) in [(one, two), (two, one)] {
            let there = to.address(&name(to, network, "old"), network).unwrap();
            ping(from, &name(from, network, what), there);
        }
    }
}

/// What has to work on a host while the store is away.
fn works(host: &Host, what: &str) {
    let started = Instant::now();
    for network in NETWORKS {
        let short_lived = name(host, network, &format!("{what}-gone"));
        run(host, &short_lived, network, &[]);
        remove(host, &[&short_lived]);
        let new = name(host, network, what);
        run(host, &new, network, &[]);
        let before = host.address(&new, network).unwrap();
        host.docker(&["restart", "-t", "0", &new]).unwrap();
        assert_eq!(host.address(&new, network).unwrap(), before, "{new} has moved with a restart");
        host.docker(&["stop", "-t", "0", &new]).unwrap();
        host.docker(&["start", &new]).unwrap();
        assert_eq!(host.address(&new, network).unwrap(), before, "{new} has moved with stop and start");
    }
    eprintln!("{}: ten starts of containers took {:?}", host.name(), started.elapsed());
}

/// What cannot work says so, and soon.
fn is_refused(host: &Host, args: &[&str], parts: &[&str]) {
    let started = Instant::now();
    let said = refused(host, args);
    let took = started.elapsed();
    eprintln!("refused after {took:?}");
    assert!(took < REFUSED, "{took:?}: docker {}\n{}", args.join(" "), host.daemon_log());
    says(&said, parts);
}

fn refusals(host: &Host) {
    let needs = ["needs the cluster store", "192.0.2.254"];
    let create = [&["network", "create"], &kit::OURS[..], &["unlucky"]].concat();
    is_refused(host, &create, &needs);
    is_refused(host, &["network", "create", "-d", "rs-overlay", "unlucky"], &needs);
    let fixed = ["run", "--name", "fixed", "--net", "ours", "--ip", "10.90.0.222", "busybox", "true"];
    is_refused(host, &fixed, &["10.90.0.222", "needs the cluster store", "without --ip"]);
    remove(host, &["fixed"]);
}

fn the_store_is_away(store: StoreKind, fault: Fault) {
    if !kit::allowed() {
        return;
    }
    let lab = scene(store);
    let (one, two) = (lab.host(1), lab.host(2));
    fault.begin(&lab);
    eprintln!("{store} is {fault:?}");
    for host in lab.hosts() {
        works(host, "new");
        refusals(host);
        // An old one comes back to where the other host looks for it.
        for network in NETWORKS {
            host.docker(&["restart", "-t", "0", &name(host, network, "old")]).unwrap();
        }
    }
    everybody_talks(&lab, "old");
    // A daemon that starts now knows enough for all of that.
    for host in lab.hosts() {
        host.daemon_kill(Signal::SIGKILL).unwrap();
        host.daemon_start().unwrap();
        works(host, "newer");
        refusals(host);
    }
    everybody_talks(&lab, "old");

    fault.end(&lab);
    let back = Instant::now();
    for (from, to) in [(one, two), (two, one)] {
        for network in NETWORKS {
            let (asking, wanted) = (name(from, network, "old"), name(to, network, "newer"));
            let there = to.address(&wanted, network).unwrap().to_string();
            let found = wait_until(&format!("the name {wanted} on {}", from.name()), SOON, || {
                let said = from.docker_output(&["exec", &asking, "nslookup", &wanted])?;
                Ok::<_, anyhow::Error>(said.stdout.contains(&there))
            });
            found.unwrap_or_else(|error| panic!("{error:#}\n{}", kit::logs(&lab)));
            eprintln!("{wanted} has a name on {} {:?} after the store's return", from.name(), back.elapsed());
        }
    }
    for what in ["new", "newer"] {
        everybody_talks(&lab, what);
    }
    assert_clean(&lab);
}

#[test]
fn etcd_is_killed() {
    the_store_is_away(StoreKind::Etcd, Fault::Killed);
}

#[test]
fn etcd_is_paused() {
    the_store_is_away(StoreKind::Etcd, Fault::Paused);
}

#[test]
fn consul_is_killed() {
    the_store_is_away(StoreKind::Consul, Fault::Killed);
}

#[test]
fn consul_is_paused() {
    the_store_is_away(StoreKind::Consul, Fault::Paused);
}

#[test]
fn a_host_boots_while_the_store_is_away() {
    if !kit::allowed() {
        return;
    }
    let lab = scene(StoreKind::Etcd);
    let (one, two) = (lab.host(1), lab.host(2));
    run(two, "fixed", "ours", &["--ip", "10.90.0.200"]);
    let old = name(two, "ours", "old");
    let before = two.address(&old, "ours").unwrap();
    ping(one, &name(one, "ours", "old"), "10.90.0.200".parse().unwrap());
    lab.store().kill().unwrap();
    two.power_off().unwrap();
    two.power_on().unwrap();
    let all = [old.as_str(), &name(two, "theirs", "old"), "fixed"].map(str::to_owned);
    for container in &all {
        let started = wait_until(&format!("the start of {container}"), SOON, || {
            two.docker(&["start", container]).map(|_| true)
        });
        started.unwrap_or_else(|error| panic!("{error:#}\n{}", two.daemon_log()));
    }
    assert_eq!(two.address(&old, "ours").unwrap(), before);
    assert_eq!(two.address("fixed", "ours").unwrap().to_string(), "10.90.0.200");
    everybody_talks(&lab, "old");
    ping(one, &name(one, "ours", "old"), "10.90.0.200".parse().unwrap());
    lab.store().start().unwrap();
    everybody_talks(&lab, "old");
    assert_clean(&lab);
}

#[test]
fn a_full_subnet_is_shared_to_its_last_address() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V20_10_24, V28_5], StoreKind::Etcd);
    let (one, two) = (lab.host(1), lab.host(2));
    create(&lab, 1, "small", &["--subnet", "10.91.0.0/28"]);
    run(one, "first", "small", &[]);
    // Fourteen addresses: the gateway's, the first container's, and twelve for the other host.
    for number in 1..=12 {
        run(two, &format!("more-{number}"), "small", &[]);
    }
    for number in [1, 12] {
        ping(one, "first", two.address(&format!("more-{number}"), "small").unwrap());
    }
    let said = refused(two, &["run", "--name", "over", "--net", "small", "busybox", "true"]);
    says(&said, &["10.91.0.0/28", "is full"]);
    remove(two, &["over"]);
    assert_clean(&lab);
}
