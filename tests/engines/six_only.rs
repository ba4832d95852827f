//! Networks without IPv4, which engines have from 28 on: hosts 1 and 2 of the lab, and not 3 and 4.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use netns_harness::{Host, Lab, Signal, wait_until};

use crate::{
    dns::{address, answers, dig},
    families::cli,
    kit::{SOON, has_network, logs, ping, refused, remove, run, says},
};

fn comes(lab: &Lab, name: &str) {
    for host in &lab.hosts()[..2] {
        wait_until(&format!("network {name} on {}", host.name()), SOON, || has_network(host, name))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        let flags = host.docker(&["network", "inspect", "-f", "{{.EnableIPv4}} {{.EnableIPv6}}", name]);
        assert_eq!(flags.unwrap(), "false true", "{name} on {}", host.name());
    }
}

fn goes(lab: &Lab, name: &str) {
    for host in &lab.hosts()[..2] {
        wait_until(&format!("the end of {name} on {}", host.name()), SOON, || {
            has_network(host, name).map(|has| !has)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
}

/// Engines that cannot have it are not asked again and again; their hosts say why it is not there.
fn is_told_on_old_hosts(lab: &Lab, name: &str) {
    for host in &lab.hosts()[2..] {
        let said = wait_until("a word about it", SOON, || {
            let status = cli(host, &["status"])?;
            anyhow::ensure!(
                status.contains(&format!("network {name} of the cluster cannot be on this host"))
            );
            anyhow::ensure!(status.contains("takes Docker 28"), "{status}");
            Ok(true)
        });
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        assert!(!has_network(host, name).unwrap());
        let asked = host.engine_log().lines().filter(|line| line.contains("networks/create")).count();
        assert_eq!(asked, 0, "the engine of {} was asked to create it", host.name());
    }
    let rows: serde_json::Value =
        serde_json::from_str(&cli(lab.host(3), &["network", "ls", "--format", "json"]).unwrap()).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row["missing"], serde_json::json!([]), "{row}");
    let unable: Vec<_> =
        row["unable"].as_array().unwrap().iter().map(|host| host.as_str().unwrap()).collect();
    assert!(
        unable.len() == 2 && unable[0].starts_with("host3 (") && unable[1].starts_with("host4 ("),
        "{row}"
    );
}

fn six(host: &Host, name: &str) -> std::net::IpAddr {
    let ip = host.address(name, "six").unwrap();
    assert_eq!(ip, host.address6(name, "six").unwrap());
    assert!(ip.is_ipv6(), "{name} has {ip}");
    ip
}

/// From its creation on host 1 to its removal on host 2.
pub(crate) fn whole_life(lab: &Lab, options: &[&str]) {
    let (one, two) = (lab.host(1), lab.host(2));
    let line = ["network", "create", "-d", "rs-overlay", "--ipv4=false", "--ipv6"];
    one.docker(&[&line[..], options, &["six"]].concat()).unwrap();
    comes(lab, "six");
    is_told_on_old_hosts(lab, "six");
    run(one, "c1", "six", &["--network-alias", "web"]);
    run(two, "c2", "six", &["--network-alias", "web"]);
    let reach = || {
        let ips = [six(one, "c1"), six(two, "c2")];
        for (host, from) in [(one, "c1"), (two, "c2")] {
            for (name, ip) in ["c1", "c2"].into_iter().zip(ips) {
                answers(host, from, &["AAAA", name], &[address(ip)]);
                answers(host, from, &["-x", &ip.to_string()], &[format!("PTR {name}.six.")]);
                ping(host, from, ip);
                let none = dig(host, from, &["A", name]).unwrap();
                assert!(none.code == "NOERROR" && none.answers.is_empty(), "A of {name}: {none:?}");
            }
            answers(host, from, &["AAAA", "web"], &ips.map(address));
        }
        ips
    };
    let before = reach();
    for (host, name) in [(one, "c1"), (two, "c2")] {
        host.docker(&["restart", "-t", "0", name]).unwrap();
    }
    assert_eq!(reach(), before, "after a restart");
    two.daemon_restart(Signal::SIGKILL).unwrap();
    two.docker(&["network", "disconnect", "six", "c2"]).unwrap();
    two.docker(&["network", "connect", "--alias", "web", "six", "c2"]).unwrap();
    reach();
    if !options.is_empty() {
        run(two, "given", "six", &["--ip6", "fd66::77"]);
        ping(one, "c1", "fd66::77".parse().unwrap());
        let said = refused(one, &["run", "--rm", "--net", "six", "--ip6", "fd66::77", "busybox", "true"]);
        says(&said, &["fd66::77", "six", "given", "host2"]);
        remove(two, &["given"]);
    }
    says(&cli(one, &["verify"]).unwrap(), &["no difference"]);
    remove(one, &["c1"]);
    remove(two, &["c2"]);
    two.docker(&["network", "rm", "six"]).unwrap();
    goes(lab, "six");
    for host in &lab.hosts()[2..] {
        wait_until("no word about it any more", SOON, || {
            anyhow::Ok(!cli(host, &["status"])?.contains("network six"))
        })
        .unwrap();
    }
}

/// `rs-overlay network create` on a host that can have it and on one that cannot.
pub(crate) fn ordered(lab: &Lab) {
    let create = ["network", "create", "--ipv4=false", "--ipv6", "six"];
    says(&cli(lab.host(3), &create).unwrap_err().to_string(), &["six", "without IPv4 takes Docker 28"]);
    // It does not wait for hosts that will never have it.
    cli(lab.host(1), &create).unwrap();
    comes(lab, "six");
    let said = cli(lab.host(2), &["network", "inspect", "six"]).unwrap();
    says(&said, &["Impossible on: host3 (", "ipv6 only"]);
    says(&cli(lab.host(2), &["network", "rm", "six"]).unwrap(), &["six: gone everywhere"]);
}
