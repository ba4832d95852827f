//! Sixty containers started at once from three hosts on one /24.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/dns.rs"]
mod dns;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
    time::Instant,
};

use kit::{appears, assert_clean, create, lab, logs, ping, try_run};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, Lab, StoreKind,
};

const EACH: usize = 20;

#[test]
fn sixty_containers_at_once_have_sixty_addresses() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V20_10_24, V28_5, V26_1], StoreKind::Etcd);
    create(&lab, 1, "ours", &["--subnet", "10.61.0.0/24"]);
    let all = start_all(&lab, "ours");
    sixty_holders_of_a_name(&lab, &all);
    remove_all(&lab);
    // The engine of host 1 allocates by itself here, and does not know of the other two.
    lab.host(1).docker(&["network", "create", "-d", "rs-overlay", "theirs"]).unwrap();
    appears(&lab, "theirs");
    start_all(&lab, "theirs");
    assert_clean(&lab);
}

/// All that fits into an answer, and the rest over TCP.
fn sixty_holders_of_a_name(lab: &Lab, all: &[(String, IpAddr)]) {
    let all: BTreeSet<_> = all.iter().map(|(_, ip)| dns::address(*ip)).collect();
    for host in lab.hosts() {
        let from = name(host, 0);
        let ask = |question: &[&str]| dns::dig(host, &from, question).unwrap();
        // `dig` asks again over TCP by itself.
        for question in [&["+noedns", "crowd"][..], &["+tcp", "crowd"], &["+bufsize=4096", "crowd.ours"]] {
            dns::answers(host, &from, question, &all.iter().collect::<Vec<_>>());
        }
        // 12 bytes of header, 11 of question, 16 of each address; EDNS takes 11 more.
        for (how, room) in [
            (&["+noedns"][..], (512 - 12 - 11) / 16),
            (&["+bufsize=512"], (512 - 12 - 11 - 11) / 16),
            (&["+bufsize=800"], (800 - 12 - 11 - 11) / 16),
        ] {
            let said = ask(&[&["+notcp", "+ignore"], how, &["crowd"]].concat());
            let told = said.set();
            assert!(said.truncated, "{how:?}: {said:?}");
            assert!(told.len() == room && told.iter().all(|ip| all.contains(*ip)), "{how:?}: {said:?}");
        }
        let whole = ask(&["+notcp", "+ignore", "+bufsize=1232", "crowd"]);
        assert!(!whole.truncated && whole.answers.len() == all.len(), "{whole:?}");
    }
}

fn start_all(lab: &Lab, network: &str) -> Vec<(String, IpAddr)> {
    let started = Instant::now();
    let all: Vec<(String, IpAddr)> = thread::scope(|scope| {
        let hosts: Vec<_> = lab.hosts().iter().map(|host| scope.spawn(|| start_on(host, network))).collect();
        hosts.into_iter().flat_map(|host| host.join().unwrap()).collect()
    });
    eprintln!("{} containers on {network} after {:?}", all.len(), started.elapsed());
    let mut holders: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for (name, ip) in &all {
        holders.entry(*ip).or_default().push(name.clone());
    }
    holders.retain(|_, names| names.len() > 1);
    assert!(holders.is_empty(), "addresses held twice: {holders:?}\n{}", logs(lab));
    assert_eq!(all.len(), lab.hosts().len() * EACH);
    for host in lab.hosts() {
        // One of every host's is enough to see that each one learns of all others.
        for (_, ip) in all.iter().step_by(7) {
            ping(host, &name(host, 0), *ip);
        }
    }
    all
}

fn start_on(host: &Host, network: &str) -> Vec<(String, IpAddr)> {
    thread::scope(|scope| {
        let start = |number| {
            let name = name(host, number);
            try_run(host, &name, network, &["--network-alias", "crowd"])
                .unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
            let ip = host.address(&name, network).unwrap();
            (name, ip)
        };
        let starts: Vec<_> = (0..EACH).map(|number| scope.spawn(move || start(number))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    })
}

fn remove_all(lab: &Lab) {
    thread::scope(|scope| {
        for host in lab.hosts() {
            scope.spawn(move || {
                let names: Vec<String> = (0..EACH).map(|number| name(host, number)).collect();
                kit::remove(host, &names.iter().map(String::as_str).collect::<Vec<_>>());
            });
        }
    });
}

fn name(host: &Host, number: usize) -> String {
    format!("m{}-{number}", host.number())
}
