//! `docker network create -d rs-overlay NAME` and nothing else: the engine allocates by itself.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use std::net::IpAddr;

use kit::{appears, assert_clean, lab, ping, run};
use netns_harness::{
    EngineVersion::{V20_10_24, V28_5},
    Host, StoreKind,
};

#[test]
fn networks_without_any_flag_do_not_collide() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V20_10_24, V28_5], StoreKind::Etcd);
    let (one, two) = (lab.host(1), lab.host(2));
    one.docker(&["network", "create", "-d", "rs-overlay", "first"]).unwrap();
    appears(&lab, "first");
    two.docker(&["network", "create", "-d", "rs-overlay", "second"]).unwrap();
    appears(&lab, "second");
    let subnets = ["first", "second"].map(|network| {
        let [here, there] = [one, two].map(|host| subnet(host, network));
        assert_eq!(here, there, "subnets of {network}");
        here
    });
    assert_ne!(subnets[0], subnets[1]);
    for network in ["first", "second"] {
        let mut held: Vec<IpAddr> = Vec::new();
        for (host, number) in [(one, 1), (two, 1), (one, 2), (two, 2), (two, 3), (one, 3)] {
            let name = format!("{network}-{number}");
            run(host, &name, network, &[]);
            held.push(host.address(&name, network).unwrap());
        }
        let mut different = held.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), held.len(), "an address is held twice: {held:?}");
        for ip in held {
            ping(one, &format!("{network}-1"), ip);
            ping(two, &format!("{network}-1"), ip);
        }
    }
    // The first container of a host makes its engine create the bridge to the outside: elsewhere than
    // where the cluster's subnets are.
    for host in [one, two] {
        let bridge = subnet(host, "docker_gwbridge");
        assert!(!subnets.contains(&bridge), "docker_gwbridge of {} is on {bridge}", host.name());
        let outside: IpAddr = "192.0.2.254".parse().unwrap();
        ping(host, "first-1", outside);
    }
    assert_clean(&lab);
}

fn subnet(host: &Host, network: &str) -> String {
    host.docker(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", network]).unwrap()
}
