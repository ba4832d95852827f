//! Managed plugins: in a swarm, whose managers hand out networks, addresses and names, and on plain engines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/plugin.rs"]
mod plugin;

#[path = "engines/registry.rs"]
mod registry;

#[path = "engines/swarm.rs"]
mod swarm;

#[path = "engines/faults"]
mod faults {
    pub(crate) mod pinger;
}

use std::{collections::BTreeSet, fs, thread, time::Duration};

use faults::pinger::Pinger;
use kit::{SOON, appears, nothing_left, nothing_left_in_store, ping, pings, run};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, Lab, Signal, StoreKind, wait_until,
};
use plugin::PluginDirectory;
use registry::Registry;
use swarm::{IMAGE, PLUGIN, Swarm};

/// Replicas of a service.
const REPLICAS: usize = 5;

#[test]
fn a_swarm_of_three_engines() {
    if !kit::allowed() {
        return;
    }
    let registry = "192.0.2.1:5000";
    let lab = Lab::builder()
        .hosts(&[V28_5, V26_1, V20_10_24])
        .store(StoreKind::Etcd)
        .engine_args(&["--insecure-registry", registry])
        .build()
        .unwrap();
    lab.swarm(3).unwrap();
    install(&lab);
    let swarm = Swarm::new(&lab);
    for host in lab.hosts() {
        swarm.well(host, "global");
    }

    // Our IPAM, and the engine's own.
    swarm.network("blue", &["--ipam-driver", PLUGIN]);
    swarm.network("green", &[]);
    for (network, service) in [("blue", "web"), ("green", "gweb")] {
        swarm.service(service, network, REPLICAS);
        for host in lab.hosts() {
            swarm.plain(host, network);
        }
        swarm.all_reach_all(service, network, REPLICAS);
    }
    assert!(swarm.claims("blue").is_superset(&swarm.addresses("web", "blue")));
    eprintln!("two services on three engines reach each other by name and address");

    for replicas in [REPLICAS + 3, 2, REPLICAS] {
        swarm.scale("web", replicas);
        swarm.all_reach_all("web", "blue", replicas);
    }
    swarm.drain(lab.host(2), true);
    swarm.settled("web", REPLICAS);
    assert_eq!(swarm::tasks_on(lab.host(2), "web").len(), 0, "tasks on a host that was drained");
    swarm.all_reach_all("web", "blue", REPLICAS);
    swarm.drain(lab.host(2), false);
    // A plain container is no task that moves: its host ended it.
    swarm.plain_again(lab.host(2), &["blue", "green"]);

    another_manager(&swarm);
    upgrades_lose_no_packet(&swarm);

    swarm.clear(&["web", "gweb"], &["blue", "green"]);
    let clean = wait_until("nothing in the store", SOON * 3, || nothing_left_in_store(&lab).map(|()| true));
    clean.unwrap_or_else(|error| panic!("{error:#}\n{}", swarm.logs()));
    // The swarm's own ingress network goes with the swarm.
    swarm.network("forgotten", &["--ipam-driver", PLUGIN]);
    lab.hosts().iter().for_each(|host| host.swarm_leave().unwrap());
    swarm.says(lab.host(2), &["network", "rm", "forgotten"], &[]);
    let clean = wait_until("the end of all that was ours", SOON, || nothing_left(&lab).map(|()| true));
    clean.unwrap_or_else(|error| panic!("{error:#}\n{}", swarm.logs()));
}

/// The managing engine ends, and another one takes over: it asks for all again, and so does the first at its return.
fn another_manager(swarm: &Swarm) {
    for round in 1..=if swarm::in_full() { 3 } else { 1 } {
        let first = swarm.leader();
        let before = swarm.claims("blue");
        first.engine_stop(Signal::SIGTERM).unwrap();
        let next = swarm.leader_other_than(first);
        eprintln!("round {round}: {} manages after {}", next.name(), first.name());
        first.engine_start().unwrap();
        swarm.settled("web", REPLICAS);
        swarm.settled("gweb", REPLICAS);
        swarm.plain_again(first, &["blue", "green"]);
        // New tasks get addresses that nobody has.
        swarm.scale("web", REPLICAS + 2);
        swarm.all_reach_all("web", "blue", REPLICAS + 2);
        swarm.all_reach_all("gweb", "green", REPLICAS);
        swarm.scale("web", REPLICAS);
        let node = swarm.node_id(next);
        let claims = swarm.claims_of("blue");
        let in_use = swarm.addresses("web", "blue");
        for ip in &in_use {
            assert_eq!(claims.get(ip), Some(&node), "{ip} is not the new manager's; claims {claims:?}");
        }
        eprintln!("claims before {before:?}, after {:?}", claims.keys().collect::<Vec<_>>());
    }
}

/// `docker plugin disable`, `enable` and `upgrade` while containers talk.
fn upgrades_lose_no_packet(swarm: &Swarm) {
    let (one, two) = (swarm.lab.host(1), swarm.lab.host(2));
    let registry = Registry::start(one).unwrap();
    let next = PluginDirectory::new().unwrap();
    fs::write(next.path().join("rootfs/release"), "the next one\n").unwrap();
    let reference = registry.reference("rs-overlay:next");
    one.docker(&["plugin", "create", &reference, &next.path().to_string_lossy()]).unwrap();
    one.docker(&["plugin", "push", &reference]).unwrap();
    one.docker(&["plugin", "rm", &reference]).unwrap();

    let [here, there] = [one, two].map(|host| swarm::plain_name(host, "blue"));
    let target = two.address(&there, "blue").unwrap();
    ping(one, &here, target);
    let pinger = Pinger::start(one, &here, target);
    for host in [one, two] {
        let before = swarm.node_id(host);
        host.docker(&["plugin", "disable", "-f", PLUGIN]).unwrap();
        thread::sleep(Duration::from_secs(2));
        host.docker(&["plugin", "enable", PLUGIN]).unwrap();
        assert_eq!(swarm.node_id(host), before, "the plugin has forgotten who it is");
        host.docker(&["plugin", "disable", "-f", PLUGIN]).unwrap();
        let upgrade = ["plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check"];
        host.docker(&[&upgrade[..], &[PLUGIN, &reference]].concat()).unwrap();
        host.docker(&["plugin", "enable", PLUGIN]).unwrap();
        assert_eq!(swarm.node_id(host), before, "the upgraded plugin has forgotten who it is");
        let release = format!("/var/lib/docker/plugins/{}/rootfs/release", host.plugin_id(PLUGIN).unwrap());
        assert_eq!(host.exec(&["cat", &release]).unwrap(), "the next one");
        swarm.well(host, "global");
    }
    let (gaps, twice) = pinger.gaps();
    eprintln!("{} pings at 10 ms, {} gaps", pinger.answered(), gaps.len());
    assert!(gaps.is_empty() && twice == 0, "packets lost, or answered {twice} times too often: {gaps:?}");
    drop(pinger);
    // What comes after it works as what was before.
    swarm.scale("web", REPLICAS + 1);
    swarm.all_reach_all("web", "blue", REPLICAS + 1);
}

#[test]
fn a_managed_plugin_on_plain_engines() {
    if !kit::allowed() {
        return;
    }
    let lab = Lab::builder().hosts(&[V28_5, V20_10_24]).store(StoreKind::Etcd).build().unwrap();
    install(&lab);
    let swarm = Swarm::new(&lab);
    let (one, two) = (lab.host(1), lab.host(2));
    one.docker(&["network", "create", "-d", PLUGIN, "--ipam-driver", PLUGIN, "blue"]).unwrap();
    one.docker(&["network", "create", "-d", PLUGIN, "green"]).unwrap();
    for network in ["blue", "green"] {
        appears(&lab, network);
        for host in lab.hosts() {
            run(host, &format!("{network}{}", host.number()), network, &[]);
        }
        for (host, other) in [(one, two), (two, one)] {
            let [own, its] = [host, other].map(|host| format!("{network}{}", host.number()));
            ping(host, &own, other.address(&its, network).unwrap());
            let named = wait_until("an answer to a name", SOON, || {
                host.in_container(&own, &["ping", "-c", "1", "-W", "1", &its]).map(|_| true)
            });
            named.unwrap_or_else(|error| panic!("{error:#}\n{}", swarm.logs()));
        }
    }
    for host in lab.hosts() {
        let driver = ["network", "inspect", "-f", "{{.Driver}} {{.IPAM.Driver}}", "blue"];
        assert_eq!(host.docker(&driver).unwrap(), format!("{PLUGIN} {PLUGIN}"));
        swarm.well(host, "local");
        swarm.says(host, &["verify"], &["no difference"]);
    }
    // Its own orders reach its engine, too.
    swarm.says(two, &["network", "create", "red"], &[]);
    appears(&lab, "red");
    swarm.says(one, &["network", "rm", "red"], &[]);
    assert!(pings(one, "blue1", two.address("blue2", "blue").unwrap()).unwrap());
    for host in lab.hosts() {
        let number = host.number();
        kit::remove(host, &[&format!("blue{number}"), &format!("green{number}")]);
    }
    one.docker(&["network", "rm", "blue", "green"]).unwrap();
    for network in ["blue", "green", "red"] {
        kit::vanishes(&lab, network);
    }
    let clean = wait_until("the end of all that was ours", SOON, || nothing_left(&lab).map(|()| true));
    clean.unwrap_or_else(|error| panic!("{error:#}\n{}", swarm.logs()));
}

/// Gives every engine the plugin, and a name for the test's image that no registry is asked for.
fn install(lab: &Lab) {
    plugin::install(lab);
    for host in lab.hosts() {
        host.docker(&["tag", "busybox:latest", IMAGE]).unwrap();
    }
    let all: BTreeSet<String> = lab.hosts().iter().map(Host::name).collect();
    wait_until("all hosts to know each other", SOON, || -> anyhow::Result<bool> {
        let nodes = swarm::asks(lab.host(1), &["node", "ls", "--format", "json"])?;
        let nodes: Vec<serde_json::Value> = serde_json::from_str(&nodes)?;
        let found = nodes.iter().filter_map(|node| node["hostname"].as_str().map(str::to_owned));
        Ok(found.collect::<BTreeSet<_>>() == all)
    })
    .unwrap();
}
