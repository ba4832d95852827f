//! A network of engines that share it by themselves.

use std::net::IpAddr;

use anyhow::Result;
use netns_harness::{Host, Lab, Signal, wait_until};
use serde_json::Value;

use super::kit::{
    SOON, has_network, logs, ping, refused, remove, run, says, steady_ping, store_keys, vanishes,
};

/// An engine that stops in good order waits for its containers no longer than this.
const HASTE: [&str; 2] = ["--stop-timeout", "1"];

/// The daemon's answer on `host`, as JSON.
fn asked(host: &Host, command: &[&str]) -> Value {
    let line = [&[env!("CARGO_BIN_EXE_rs-overlay")], command, &["--format", "json"]].concat();
    serde_json::from_str(&host.exec(&line).unwrap()).unwrap()
}

/// The mode is found, and everyone says the same of it.
pub(crate) fn told(lab: &Lab) {
    for host in lab.hosts() {
        let known = wait_until("the mode of the engine", SOON, || -> Result<bool> {
            Ok(asked(host, &["status"])["mode"] == "classic"
                && nodes_say(host, "classic") == lab.hosts().len())
        });
        known.unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", asked(host, &["status"]), logs(lab)));
        let calm = wait_until("a status without problems", SOON, || -> Result<bool> {
            Ok(asked(host, &["status"])["problems"] == serde_json::json!([]))
        });
        calm.unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", asked(host, &["status"]), logs(lab)));
        let status = asked(host, &["status"]);
        assert_eq!(status["scope"], "global");
        let why = format!("classic: the engine was started with --cluster-store {}", lab.store_url());
        assert_eq!(status["mode_because"], why);
        for node in asked(host, &["node", "ls"]).as_array().unwrap() {
            assert!(node["last_seen"].as_u64() >= node["since"].as_u64(), "{node}");
            assert_eq!((&node["state"], &node["engine"]), (&"alive".into(), &status["engine"]["version"]));
        }
    }
}

fn nodes_say(host: &Host, mode: &str) -> usize {
    let nodes = asked(host, &["node", "ls"]);
    nodes.as_array().unwrap().iter().filter(|node| node["mode"] == mode).count()
}

/// `verify` finds nothing on any host.
pub(crate) fn no_difference(lab: &Lab) {
    for host in lab.hosts() {
        wait_until("a host without differences", SOON, || {
            let line = [env!("CARGO_BIN_EXE_rs-overlay"), "verify"];
            host.exec(&line).map(|_| true)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
}

fn reached_by_name(from: &Host, container: &str, name: &str) {
    let at = format!("{name} to answer {container} on {}", from.name());
    let answers = wait_until(&at, SOON, || {
        from.docker(&["exec", container, "ping", "-c", "1", "-W", "1", name]).map(|_| true)
    });
    answers.unwrap_or_else(|error| panic!("{error:#}\n{}", from.daemon_log()));
}

fn both_ways(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    for name in ["c2", "alias2", "c2.blue"] {
        reached_by_name(one, "c1", name);
    }
    for name in ["c1", "alias1", "c1.blue"] {
        reached_by_name(two, "c2", name);
    }
}

/// Created on one host, seen and used on the other; restarted containers are found again.
pub(crate) fn used_on_both(lab: &Lab, ipam: &[&str]) {
    let (one, two) = (lab.host(1), lab.host(2));
    let options = ["--subnet", "10.66.0.0/24", "--aux-address", "router=10.66.0.9", "--label", "team=net"];
    one.docker(&[&["network", "create", "-d", "rs-overlay"], ipam, &options, &["blue"]].concat()).unwrap();
    let seen =
        two.docker(&["network", "inspect", "-f", "{{.Scope}} {{.Id}} {{.Labels.team}}", "blue"]).unwrap();
    assert_eq!(seen, one.docker(&["network", "inspect", "-f", "global {{.Id}} net", "blue"]).unwrap());
    // The first container of the network is on the host that never heard of it.
    run(two, "c2", "blue", &[&["--network-alias", "alias2"][..], &HASTE].concat());
    let options = ["--network-alias", "alias1", "--ip", "10.66.0.77"];
    run(one, "c1", "blue", &[&options[..], &HASTE].concat());
    assert_eq!(one.address("c1", "blue").unwrap(), "10.66.0.77".parse::<IpAddr>().unwrap());
    both_ways(lab);
    let said = refused(two, &["run", "--rm", "--net", "blue", "--ip", "10.66.0.77", "busybox", "true"]);
    says(&said, &["ddress"]);
    one.docker(&["restart", "-t", "0", "c1"]).unwrap();
    two.docker(&["restart", "-t", "0", "c2"]).unwrap();
    both_ways(lab);
    no_second_resolver(two);
    listed(lab);
    no_difference(lab);
}

/// Names are the engine's business alone: no rules of ours in the sandbox.
fn no_second_resolver(host: &Host) {
    let rules = host.container_netns("c2", &["nft", "list", "tables"]).unwrap();
    assert!(!rules.contains("rs-overlay") && !rules.contains("rs_overlay"), "{rules}");
}

/// `network ls` on every host: the network, its name, who has it and who uses it.
fn listed(lab: &Lab) {
    let hosts: Vec<_> = lab.hosts().iter().map(Host::name).collect();
    for host in lab.hosts() {
        let is_told = || -> Result<bool> {
            let rows = asked(host, &["network", "ls"]);
            let row = &rows[0];
            Ok(rows.as_array().is_some_and(|rows| rows.len() == 1)
                && row["name"] == "blue"
                && row["endpoints"] == 2
                && row["hosts"] == serde_json::json!(hosts)
                && row["present"] == row["hosts"]
                && row["missing"] == serde_json::json!([]))
        };
        wait_until("network blue in the list of networks", SOON, is_told)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", asked(host, &["network", "ls"]), logs(lab)));
    }
    // Nothing was claimed ahead, and no name was claimed that engines look after.
    let keys = store_keys(lab).unwrap();
    assert!(!keys.iter().any(|key| key.starts_with("v1/names/")), "{keys:?}");
    let addresses = keys.iter().filter(|key| key.starts_with("v1/addresses/")).count();
    assert!(addresses <= 4, "gateway, router, and two containers at most: {keys:?}");
}

/// Killed daemons lose no packet, and what comes afterwards works.
pub(crate) fn daemons_end(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ip = two.address("c2", "blue").unwrap();
    let lost = steady_ping(one, "c1", ip, 60, || {
        for host in [one, two] {
            host.daemon_kill(Signal::SIGKILL).unwrap();
            host.daemon_start().unwrap();
        }
    });
    assert_eq!(lost, 0, "packets lost under killed daemons\n{}", logs(lab));
    run(two, "later", "blue", &[]);
    reached_by_name(one, "c1", "later");
    remove(two, &["later"]);
    no_difference(lab);
}

/// An engine that restarts, in order or not, finds its network again.
pub(crate) fn engine_restarts(lab: &Lab, signals: &[Signal]) {
    let (one, two) = (lab.host(1), lab.host(2));
    for signal in signals {
        two.engine_restart(*signal).unwrap();
        wait_until("the container to be in a state to be started", SOON, || {
            two.docker(&["start", "c2"]).map(|_| true)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", two.daemon_log(), two.engine_log()));
        ping(one, "c1", two.address("c2", "blue").unwrap());
        both_ways(lab);
    }
    told(lab);
}

/// The host that did not create the network removes it; all of it is gone from both.
pub(crate) fn removed_elsewhere(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    says(&refused(two, &["network", "rm", "blue"]), &["active endpoints"]);
    remove(one, &["c1"]);
    remove(two, &["c2"]);
    two.docker(&["network", "rm", "blue"]).unwrap();
    vanishes(lab, "blue");
    let forgotten = wait_until("the end of network blue on all hosts", SOON, || -> Result<bool> {
        let keys = store_keys(lab)?;
        let files = |host: &Host| host.exec(&["sh", "-c", "ls /var/lib/rs-overlay/networks"]);
        let left: Vec<_> = lab.hosts().iter().map(files).collect::<Result<_>>()?;
        Ok(!keys.iter().any(|key| key.starts_with("v1/networks/") || key.starts_with("v1/present/"))
            && left.iter().all(|files| files.trim().is_empty()))
    });
    forgotten.unwrap_or_else(|error| panic!("{error:#}\n{:?}\n{}", store_keys(lab), logs(lab)));
}

/// Created here and removed there in the next moment, before anybody there can have heard of it.
pub(crate) fn removed_unheard_of(lab: &Lab) {
    for round in 0..5 {
        let name = format!("brief{round}");
        lab.host(1).docker(&["network", "create", "-d", "rs-overlay", &name]).unwrap();
        lab.host(2).docker(&["network", "rm", &name]).unwrap();
    }
}

/// A host that changes its mode is told what to do, and does it. Until it changes back the two hosts have one
/// store and no network in common.
pub(crate) fn mode_changed(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    two.daemon_kill(Signal::SIGTERM).unwrap();
    two.daemon_start_with(&["--scope", "local"]).unwrap();
    let problems = |host: &Host| asked(host, &["status"])["problems"].to_string();
    says(&problems(two), &["registered this driver with scope global", "restart of the engine"]);
    two.engine_restart(Signal::SIGTERM).unwrap();
    two.docker(&["network", "create", "-d", "rs-overlay", "--ipam-driver", "rs-overlay", "green"]).unwrap();
    one.docker(&["network", "create", "-d", "rs-overlay", "--ipam-driver", "rs-overlay", "amber"]).unwrap();
    assert_eq!(two.docker(&["network", "inspect", "-f", "{{.Scope}}", "green"]).unwrap(), "local");
    assert_eq!(one.docker(&["network", "inspect", "-f", "{{.Scope}}", "amber"]).unwrap(), "global");
    run(two, "c2", "green", &HASTE);
    run(one, "c1", "amber", &HASTE);
    let is_told = || -> Result<bool> {
        let rows = asked(one, &["network", "ls"]);
        let row = |name: &str| rows.as_array().into_iter().flatten().find(|row| row["name"] == name).cloned();
        let (Some(green), Some(amber)) = (row("green"), row("amber")) else { return Ok(false) };
        let settled = green["missing"] == serde_json::json!([]) && amber["missing"] == green["missing"];
        Ok(settled
            && green["present"] == serde_json::json!([two.name()])
            && green["subnets"] != amber["subnets"])
    };
    wait_until("both networks in the list", SOON, is_told)
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", asked(one, &["network", "ls"]), logs(lab)));
    assert!(!has_network(one, "green").unwrap(), "{}", logs(lab));
    assert_eq!(problems(two), "[]");
    for host in [one, two] {
        let networks = host.docker(&["network", "ls", "--format", "{{.Name}} {{.Scope}}"]).unwrap();
        let amber = networks.lines().filter(|line| line.starts_with("amber ")).collect::<Vec<_>>();
        assert_eq!(amber, ["amber global"], "{networks}");
    }
    no_difference(lab);
    remove(two, &["c2"]);
    two.docker(&["network", "rm", "green"]).unwrap();
    two.daemon_kill(Signal::SIGTERM).unwrap();
    two.daemon_start().unwrap();
    two.engine_restart(Signal::SIGTERM).unwrap();
    run(two, "c2", "amber", &HASTE);
    reached_by_name(two, "c2", "c1");
    assert_eq!(problems(two), "[]");
}
