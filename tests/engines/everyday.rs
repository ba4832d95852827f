//! What every user does with a network, from its creation to its removal.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use netns_harness::{Host, Lab, wait_until};

use crate::kit::{
    SOON, assert_clean, create, logs, ping, pings, refused, remove, run, says, transfer, try_run, vanishes,
};

/// The whole life of a network; `mtu` is what the underlay leaves.
pub(crate) fn whole_life(lab: &Lab, mtu: usize) {
    // Docker takes `--ip` only for networks whose subnet the user gave.
    let took = create(lab, 1, "blue", &["--ipv6", "--subnet", "10.77.0.0/24"]);
    eprintln!("network on all {} hosts {took:?} after its creation", lab.hosts().len());
    for host in lab.hosts() {
        run_one(host);
    }
    everybody_reaches_everybody(lab);
    large_packets_pass(lab, mtu);
    let (one, two) = (lab.host(1), lab.host(2));
    transfer((one, "c1"), (two, "c2"), two.address("c2", "blue").unwrap());
    transfer((two, "c2"), (one, "c1"), one.address6("c1", "blue").unwrap());
    given_addresses_are_kept(lab);
    internal_networks_have_no_way_out(lab);
    containers_come_and_go(lab);

    for host in lab.hosts() {
        remove(host, &[&*container(host)]);
    }
    lab.host(2).docker(&["network", "rm", "blue"]).unwrap();
    eprintln!("network gone from all hosts {:?} after its removal", vanishes(lab, "blue"));
    assert_clean(lab);
}

fn container(host: &Host) -> String {
    format!("c{}", host.number())
}

fn run_one(host: &Host) {
    run(host, &container(host), "blue", &[]);
}

fn everybody_reaches_everybody(lab: &Lab) {
    for from in lab.hosts() {
        for to in lab.hosts() {
            let name = container(to);
            ping(from, &container(from), to.address(&name, "blue").unwrap());
            ping(from, &container(from), to.address6(&name, "blue").unwrap());
        }
    }
}

/// A packet of the full MTU passes without being cut up, one more byte does not leave the container.
fn large_packets_pass(lab: &Lab, mtu: usize) {
    let (one, two) = (lab.host(1), lab.host(2));
    let shown = one.in_container("c1", &["cat", "/sys/class/net/eth0/mtu"]).unwrap();
    assert_eq!(shown, mtu.to_string(), "MTU of the container");
    // 8 bytes of ICMP header in front of the payload, and 20 or 40 of IP.
    for (ip, header) in [(two.address("c2", "blue").unwrap(), 28), (two.address6("c2", "blue").unwrap(), 48)]
    {
        let ping = |size: usize| {
            let (size, ip) = (size.to_string(), ip.to_string());
            one.container_netns("c1", &["ping", "-M", "do", "-c", "1", "-W", "2", "-s", &size, &ip])
        };
        wait_until("the answer to a full packet", SOON, || ping(mtu - header).map(|_| true)).unwrap();
        assert!(ping(mtu - header + 1).is_err(), "a packet larger than the MTU was sent to {ip}");
    }
}

fn given_addresses_are_kept(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let (ip, mac) = ("10.77.0.77", "02:aa:bb:cc:dd:01");
    run(two, "named", "blue", &["--mac-address", mac]);
    assert_eq!(two.in_container("named", &["cat", "/sys/class/net/eth0/address"]).unwrap(), mac);
    ping(one, "c1", two.address("named", "blue").unwrap());
    run(two, "given", "blue", &["--ip", ip, "--mac-address", "02:aa:bb:cc:dd:03"]);
    assert_eq!(two.address("given", "blue").unwrap().to_string(), ip);
    ping(one, "c1", ip.parse().unwrap());
    let said = refused(one, &["run", "--rm", "--net", "blue", "--ip", ip, "busybox", "true"]);
    says(&said, &[ip, "blue", "given", "host2"]);
    remove(two, &["named", "given"]);

    // The same address at once on another host, with another MAC than the one that c1 still has cached.
    wait_until("the address to be free again", SOON, || {
        one.docker_output(&["rm", "-f", "given"])?;
        try_run(one, "given", "blue", &["--ip", ip, "--mac-address", "02:aa:bb:cc:dd:04"]).map(|_| true)
    })
    .unwrap();
    ping(one, "c1", ip.parse().unwrap());
    ping(two, "c2", ip.parse().unwrap());
    remove(one, &["given"]);
}

fn internal_networks_have_no_way_out(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let outside = match lab.family() {
        netns_harness::Family::V4 => Some("192.0.2.254".parse().unwrap()),
        // Engines give containers no IPv6 way out by default.
        netns_harness::Family::V6 => None,
    };
    create(lab, 2, "closed", &["--internal"]);
    run(one, "in1", "closed", &[]);
    run(two, "in2", "closed", &[]);
    ping(one, "in1", two.address("in2", "closed").unwrap());
    ping(two, "in2", one.address("in1", "closed").unwrap());
    for (host, name) in [(one, "in1"), (two, "in2")] {
        let links = host.in_container(name, &["ls", "/sys/class/net"]).unwrap();
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"], "links of {name}");
        let routes = host.in_container(name, &["ip", "route"]).unwrap();
        assert!(!routes.contains("default"), "routes of {name}: {routes}");
        if let Some(outside) = outside {
            assert!(pings(host, name, outside).is_err(), "{name} has a way out");
            ping(host, &container(host), outside);
        }
    }
    remove(one, &["in1"]);
    remove(two, &["in2"]);
    one.docker(&["network", "rm", "closed"]).unwrap();
    vanishes(lab, "closed");
}

/// Every way in which a container ends and begins: others reach it afterwards, and not in between.
fn containers_come_and_go(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let firsts = [two.address("c2", "blue").unwrap(), two.address6("c2", "blue").unwrap()];
    let silent = |what: &str| {
        for first in firsts {
            assert!(pings(one, "c1", first).is_err(), "{first} answers after `{what}`");
        }
    };
    let reached = |what: &str| {
        eprintln!("after `{what}`");
        ping(one, "c1", two.address("c2", "blue").unwrap());
        ping(one, "c1", two.address6("c2", "blue").unwrap());
        ping(two, "c2", one.address6("c1", "blue").unwrap());
    };
    two.docker(&["stop", "-t", "0", "c2"]).unwrap();
    silent("stop");
    two.docker(&["start", "c2"]).unwrap();
    reached("start");
    two.docker(&["restart", "-t", "0", "c2"]).unwrap();
    reached("restart");
    two.docker(&["kill", "c2"]).unwrap();
    wait_until("the end of c2", SOON, || {
        two.docker(&["inspect", "-f", "{{.State.Running}}", "c2"]).map(|text| text == "false")
    })
    .unwrap();
    two.docker(&["start", "c2"]).unwrap();
    reached("kill and start");
    two.docker(&["network", "disconnect", "blue", "c2"]).unwrap();
    assert!(two.address("c2", "blue").is_err(), "{}", logs(lab));
    let gone = wait_until("the silence of a container that was taken off", SOON, || {
        firsts.iter().all(|first| pings(one, "c1", *first).is_err())
    });
    gone.unwrap();
    two.docker(&["network", "connect", "blue", "c2"]).unwrap();
    reached("connect");
    let links = two.in_container("c2", &["ls", "/sys/class/net"]).unwrap();
    eprintln!("links of c2 after it was connected again: {}", links.replace('\n', " "));
}
