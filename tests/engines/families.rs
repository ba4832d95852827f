//! Networks with IPv4 and IPv6, and the underlay of one family only.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use std::net::IpAddr;

use netns_harness::{Host, Lab, Signal, wait_until};

use crate::{
    dns::{address, answers},
    kit::{
        OURS, SOON, appears, create, logs, ping, refused, remove, run, says, steady_ping, try_run, vanishes,
    },
};

/// What must be the same everywhere.
const SAME: &str = "{{.Driver}} {{.EnableIPv6}} {{json .Labels}} {{json .Options}} \
                    {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}";

pub(crate) fn cli(host: &Host, args: &[&str]) -> anyhow::Result<String> {
    host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay")], args].concat())
}

fn inspect(host: &Host, network: &str, format: &str) -> String {
    host.docker(&["network", "inspect", "-f", format, network]).unwrap()
}

/// Waits until every host has the network, and has it alike.
fn is_alike(lab: &Lab, network: &str) -> String {
    appears(lab, network);
    let on = |host: &Host| {
        // Engine 20.10 shows an IPv6 gateway with the prefix length where it was an IPAM driver that chose it.
        let text = inspect(host, network, SAME);
        let words = text.split_whitespace().map(|word| match word.split_once("::1/") {
            Some((before, _)) => format!("{before}::1"),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let first = on(lab.host(1));
    for host in lab.hosts() {
        assert_eq!(on(host), first, "{network} on {}", host.name());
    }
    first
}

fn subnets(host: &Host, network: &str) -> Vec<ipnet::IpNet> {
    let text = inspect(host, network, "{{range .IPAM.Config}}{{.Subnet}} {{end}}");
    text.split_whitespace().map(|cidr| cidr.parse().unwrap()).collect()
}

fn both(host: &Host, name: &str, network: &str) -> [IpAddr; 2] {
    let found = [host.address(name, network).unwrap(), host.address6(name, network).unwrap()];
    assert!(found[0].is_ipv4() && found[1].is_ipv6(), "{name}: {found:?}");
    found
}

fn ping_all(host: &Host, from: &str, ips: [IpAddr; 2]) {
    for ip in ips {
        ping(host, from, ip);
    }
}

fn keeper(host: &Host) -> String {
    format!("c{}", host.number())
}

/// `--ipv6` and no subnet, with our IPAM: a /64 of a range that is the cluster's.
pub(crate) fn subnets_of_our_choice(lab: &Lab) {
    let mut ranges = Vec::new();
    for host in lab.hosts() {
        let network = format!("chosen{}", host.number());
        create(lab, host.number(), &network, &["--ipv6"]);
        is_alike(lab, &network);
        let found = subnets(host, &network);
        assert_eq!(found.iter().map(ipnet::IpNet::prefix_len).collect::<Vec<_>>(), [24, 64], "{found:?}");
        assert!("fd00::/8".parse::<ipnet::IpNet>().unwrap().contains(&found[1]), "{found:?}");
        ranges.push(ipnet::IpNet::new(found[1].addr(), 48).unwrap().trunc());
    }
    ranges.dedup();
    assert_eq!(ranges.len(), 1, "one cluster has one range: {ranges:?}");
    for host in lab.hosts() {
        let network = format!("chosen{}", host.number());
        host.docker(&["network", "rm", &network]).unwrap();
        vanishes(lab, &network);
    }
}

/// The same with the engine's own IPAM: engines before 27 have no IPv6 pools, and say so.
pub(crate) fn subnets_of_the_engine_s_choice(lab: &Lab) {
    for host in lab.hosts() {
        let line = ["network", "create", "-d", "rs-overlay", "--ipv6", "own"];
        if host.engine_version() == netns_harness::EngineVersion::V28_5 {
            host.docker(&line).unwrap();
            is_alike(lab, "own");
            assert_eq!(subnets(host, "own")[1].prefix_len(), 64);
            host.docker(&["network", "rm", "own"]).unwrap();
            vanishes(lab, "own");
        } else {
            says(&refused(host, &line), &["IPv6 address pool among the defaults"]);
        }
    }
}

/// A network of both families from its creation on host `number` to its end.
pub(crate) fn whole_life(lab: &Lab, number: usize, network: &str, ipam: &[&str]) {
    let given = ["--ipv6", "--label", "of=both", "--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64"];
    let line = [&["network", "create", "-d", "rs-overlay"], ipam, &given[..], &[network]].concat();
    lab.host(number).docker(&line).unwrap();
    says(&is_alike(lab, network), &["true", "both", "10.9.0.0/24", "fd00:9::/64"]);
    for host in lab.hosts() {
        run(host, &keeper(host), network, &["--network-alias", "web"]);
    }
    all_reach_all(lab, network);
    all_are_named(lab, network);
    for host in lab.hosts() {
        let before = both(host, &keeper(host), network);
        host.docker(&["restart", "-t", "0", &keeper(host)]).unwrap();
        assert_eq!(both(host, &keeper(host), network), before, "after a restart on {}", host.name());
    }
    all_reach_all(lab, network);
    for host in lab.hosts() {
        host.docker(&["network", "disconnect", network, &keeper(host)]).unwrap();
        host.docker(&["network", "connect", "--alias", "web", network, &keeper(host)]).unwrap();
    }
    all_reach_all(lab, network);
    given_addresses_are_kept(lab, network);
    for host in lab.hosts() {
        remove(host, &[&keeper(host)]);
    }
    lab.host(1).docker(&["network", "rm", network]).unwrap();
    vanishes(lab, network);
}

fn all(lab: &Lab, network: &str) -> Vec<[IpAddr; 2]> {
    lab.hosts().iter().map(|host| both(host, &keeper(host), network)).collect()
}

/// By both addresses, which stand under the name that they share.
fn all_reach_all(lab: &Lab, network: &str) {
    let all = all(lab, network);
    for host in lab.hosts() {
        for (at, kind) in ["A", "AAAA"].into_iter().enumerate() {
            let holders: Vec<_> = all.iter().map(|ips| address(ips[at])).collect();
            answers(host, &keeper(host), &[kind, "web"], &holders);
        }
        for (number, ips) in all.iter().enumerate() {
            if number + 1 != host.number() {
                ping_all(host, &keeper(host), *ips);
            }
        }
    }
}

/// Each name has both addresses, and both addresses have the name, on every host.
fn all_are_named(lab: &Lab, network: &str) {
    let all = all(lab, network);
    for host in lab.hosts() {
        for (other, ips) in lab.hosts().iter().zip(&all) {
            for (ip, kind) in ips.iter().zip(["A", "AAAA"]) {
                answers(host, &keeper(host), &[kind, &keeper(other)], &[address(*ip)]);
                let name = format!("PTR {}.{network}.", keeper(other));
                answers(host, &keeper(host), &["-x", &ip.to_string()], &[name]);
            }
        }
    }
}

fn given_addresses_are_kept(lab: &Lab, network: &str) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ips = ["10.9.0.77", "fd00:9::77"];
    run(two, "given", network, &["--ip", ips[0], "--ip6", ips[1]]);
    for ip in ips {
        ping(one, "c1", ip.parse().unwrap());
        let flag = if ip.contains(':') { "--ip6" } else { "--ip" };
        let said = refused(one, &["run", "--rm", "--net", network, flag, ip, "busybox", "true"]);
        says(&said, &[ip, network, "given", "host2"]);
    }
    remove(two, &["given"]);
    wait_until("the address to be free again", SOON, || {
        one.docker_output(&["rm", "-f", "given"])?;
        try_run(one, "given", network, &["--ip6", ips[1]]).map(|_| true)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    ping(two, "c2", ips[1].parse().unwrap());
    remove(one, &["given"]);
}

/// A /127, whose addresses are both of use, and a /112.
pub(crate) fn small_subnets(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    for (subnet, gateway, first) in
        [("fd00:a::/127", "fd00:a::", "fd00:a::1"), ("fd00:b::/112", "fd00:b::1", "fd00:b::2")]
    {
        let given = ["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", subnet, "--gateway", gateway];
        create(lab, 1, "small", &given);
        run(one, "c1", "small", &[]);
        assert_eq!(one.address6("c1", "small").unwrap().to_string(), first, "in {subnet}");
        if subnet.ends_with("/127") {
            let said = refused(one, &["run", "--rm", "--net", "small", "busybox", "true"]);
            says(&said, &["small", subnet]);
        } else {
            run(two, "c2", "small", &[]);
            ping_all(one, "c1", both(two, "c2", "small"));
            remove(two, &["c2"]);
        }
        remove(one, &["c1"]);
        one.docker(&["network", "rm", "small"]).unwrap();
        vanishes(lab, "small");
    }
}

/// A daemon that is killed takes no packet away, and entries that somebody breaks come back.
pub(crate) fn repaired(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    create(lab, 1, "blue", &["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64"]);
    run(one, "c1", "blue", &[]);
    run(two, "c2", "blue", &[]);
    let ips = both(two, "c2", "blue");
    ping_all(one, "c1", ips);
    let lost = steady_ping(one, "c1", ips[1], 100, || {
        one.daemon_kill(Signal::SIGKILL).unwrap();
        one.daemon_start().unwrap();
    });
    assert_eq!(lost, 0, "packets lost while the daemon was away");
    let inside = |line: &str| {
        let overlay = ["nsenter", "--net=/run/docker/rs-overlay/netns/overlay", "--", "sh", "-c", line];
        one.exec(&overlay).unwrap()
    };
    for ip in ips {
        let entry = || inside(&format!("ip neigh show {ip} nud permanent"));
        let bridge = entry().split_whitespace().nth(2).unwrap_or_else(|| panic!("no entry")).to_owned();
        inside(&format!("ip neigh replace {ip} lladdr 02:42:00:00:00:99 dev {bridge} nud stale"));
        let back = wait_until("the entry as it was", SOON, || {
            let now = entry();
            anyhow::ensure!(now.contains(" lladdr ") && !now.contains("00:99"), "{now:?}");
            Ok(true)
        });
        back.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        ping(one, "c1", ip);
    }
    remove(one, &["c1"]);
    remove(two, &["c2"]);
    one.docker(&["network", "rm", "blue"]).unwrap();
    vanishes(lab, "blue");
}

/// An engine that has removed a network while others use it gives the network's IPv6 subnet to the next one:
/// it looks at no route when it chooses.
pub(crate) fn left_and_created_again(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    // The IPv4 subnet of its choice may be the one of another host's `docker_gwbridge`.
    let create_own = |name: &str| {
        let created = wait_until("a network with subnets of the engine's choice", SOON, || {
            let said = one.docker_output(&["network", "create", "-d", "rs-overlay", "--ipv6", name])?.stderr;
            assert!(said.is_empty() || said.contains("through docker_gwbridge"), "{said}");
            anyhow::Ok(said.is_empty())
        });
        created.unwrap();
    };
    create_own("left");
    appears(lab, "left");
    run(two, "c2", "left", &[]);
    one.docker(&["network", "rm", "left"]).unwrap();
    wait_until("the word that it lives elsewhere", SOON, || {
        anyhow::Ok(cli(one, &["status"])?.contains("network left was removed here"))
    })
    .unwrap();
    // One of another name gets other subnets; the one of that name is the cluster's.
    for (name, container) in [("other", "c3"), ("left", "c1")] {
        create_own(name);
        let runs = wait_until("a container in the network", SOON, || {
            let Err(error) = try_run(one, container, name, &[]) else { return anyhow::Ok(true) };
            let said = format!("{error:#}");
            let known =
                ["being taken over here", "not found", "No such network", "does not know", "not known"];
            assert!(known.iter().any(|part| said.contains(part)), "{said}");
            one.docker_output(&["rm", "-f", container])?;
            Ok(false)
        });
        runs.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        is_alike(lab, name);
    }
    ping_all(one, "c1", both(two, "c2", "left"));
    assert!(subnets(one, "other").iter().all(|cidr| !subnets(two, "left").contains(cidr)));
    run(two, "c4", "other", &[]);
    ping_all(one, "c3", both(two, "c4", "other"));
    remove(one, &["c1", "c3"]);
    remove(two, &["c2", "c4"]);
    for name in ["left", "other"] {
        one.docker(&["network", "rm", name]).unwrap();
        vanishes(lab, name);
    }
}

/// A host whose underlay address is of the other family reaches nobody: all who see it say so.
pub(crate) fn another_family_of_underlay(lab: &Lab) {
    let (one, three) = (lab.host(1), lab.host(3));
    three.exec(&["ip", "addr", "add", "192.0.2.3/24", "dev", "eth1"]).unwrap();
    three.daemon_kill(Signal::SIGTERM).unwrap();
    three.daemon_start_with(&["--cluster-advertise", "192.0.2.3"]).unwrap();
    let told = [(one, "host host3 advertises 192.0.2.3"), (three, "host host1 advertises 2001:db8::1")];
    for (host, words) in told {
        let said = wait_until("a word about the two families", SOON, || {
            let status = cli(host, &["status"])?;
            anyhow::ensure!(status.contains(words) && status.contains("of another family"), "{status}");
            Ok(true)
        });
        said.unwrap_or_else(|error| panic!("{error:#}"));
    }
    // An interface that has both advertises the one of IPv4.
    three.exec(&["ip", "addr", "del", "192.0.2.3/24", "dev", "eth1"]).unwrap();
    three.daemon_restart(Signal::SIGTERM).unwrap();
    wait_until("the end of that", SOON, || anyhow::Ok(!cli(one, &["status"])?.contains("of another family")))
        .unwrap();
    lab.host(1).docker(&[&["network", "create"], &OURS[..], &["--ipv6", "again"]].concat()).unwrap();
    is_alike(lab, "again");
    run(one, "c1", "again", &[]);
    run(three, "c3", "again", &[]);
    ping_all(one, "c1", both(three, "c3", "again"));
    remove(one, &["c1"]);
    remove(three, &["c3"]);
    one.docker(&["network", "rm", "again"]).unwrap();
    vanishes(lab, "again");
}
