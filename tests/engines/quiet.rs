//! What containers ask each other about addresses, which is answered on their own host.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use std::net::IpAddr;

use netns_harness::{Host, Lab, wait_until};

use crate::kit::{SOON, create, ping, remove, run, vanishes};

/// What is counted of the packets that leave a host in VXLAN, but for the probe network's, each with what a
/// packet looks like behind its UDP header: the VXLAN header is 8 bytes, the inner Ethernet header 14.
const KINDS: [(&str, &str); 5] = [
    ("asked_arp", "@th,224,16 0x0806"),
    ("asked_nd", "@th,224,16 0x86dd @th,288,8 58 @th,560,8 133-137"),
    // Reports about multicast groups come behind a hop-by-hop header.
    ("asked_groups", "@th,224,16 0x86dd @th,288,8 0"),
    ("data_four", "@th,224,16 0x0800"),
    ("data_six", "@th,224,16 0x86dd @th,288,8 58 @th,560,8 128-129"),
];

fn count(host: &Host) {
    let counters: Vec<_> = KINDS.iter().map(|(name, _)| format!("counter {name} {{ }}\n")).collect();
    let looks: Vec<_> = KINDS
        .iter()
        .map(|(name, looks)| format!("udp dport 4789 @th,96,24 != 0xffffff {looks} counter name {name}\n"))
        .collect();
    let rules = format!(
        "table inet quiet {{\n{}chain out {{ type filter hook output priority 0;\n{}}}\n}}\n",
        counters.concat(),
        looks.concat()
    );
    host.exec(&["nft", &rules]).unwrap();
}

fn counted(host: &Host, name: &str) -> u64 {
    let text = host.exec(&["nft", "-j", "list", "counter", "inet", "quiet", name]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut rows = json["nftables"].as_array().unwrap().iter();
    rows.find_map(|row| row["counter"]["packets"].as_u64()).unwrap_or_else(|| panic!("{text}"))
}

fn asked(host: &Host) -> [u64; 3] {
    ["asked_arp", "asked_nd", "asked_groups"].map(|name| counted(host, name))
}

/// Packets of each kind, sent by hand in a network that nobody has, are counted: the rules see what they should.
fn rules_see(host: &Host, vtep: IpAddr) {
    let header = r"\x08\0\0\0\0\0\x07\0\x33\x33\0\0\0\x01\x02\x42\0\0\0\x01";
    let six = |next: &str, kind: &str| {
        format!(r"{header}\x86\xdd\x60\0\0\0\0\x20{next}\xff{}{kind}{}", r"\0".repeat(32), r"\0".repeat(31))
    };
    let arp = format!(r"{header}\x08\x06{}", r"\0".repeat(28));
    for packet in [arp, six(r"\x3a", r"\x85"), six(r"\x3a", r"\x87"), six(r"\0", r"\x8f")] {
        host.exec(&["bash", "-c", &format!("printf '{packet}' >/dev/udp/{vtep}/4789")]).unwrap();
    }
    assert_eq!(asked(host), [1, 2, 1]);
    host.exec(&["nft", "reset", "counters", "table", "inet", "quiet"]).unwrap();
    assert_eq!(asked(host), [0, 0, 0]);
}

fn inside(host: &Host, name: &str, line: &str) -> String {
    host.container_netns(name, &["sh", "-c", line]).unwrap_or_else(|error| panic!("{line}: {error:#}"))
}

/// Containers begin, look for others and for nobody, forget what they know, are restarted and end; nothing
/// but what they tell each other leaves a host.
pub(crate) fn nothing_but_data(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    for (host, other) in [(one, two), (two, one)] {
        count(host);
        rules_see(host, other.vtep());
    }
    create(lab, 1, "blue", &["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64"]);
    run(one, "c1", "blue", &[]);
    run(two, "c2", "blue", &[]);
    let ends = [(one, "c1", two, "c2"), (two, "c2", one, "c1")];
    let ips =
        |host: &Host, name: &str| [host.address(name, "blue").unwrap(), host.address6(name, "blue").unwrap()];
    for (host, name, other, far) in ends {
        for ip in ips(other, far) {
            ping(host, name, ip);
            inside(host, name, &format!("ip neigh flush to {ip} && ping -n -c 1 -W 5 {ip}"));
        }
        // Nobody has these, and nobody elsewhere is asked for them.
        inside(host, name, "for ip in 10.9.0.200 fd00:9::200; do ping -n -c 1 -W 1 $ip; done; true");
        // Routers, neighbours with addresses of the link alone, duplicates.
        inside(host, name, "ping -n -c 1 -W 1 -I eth0 ff02::2; ping -n -c 1 -W 1 -I eth0 ff02::1; true");
        inside(
            host,
            name,
            "echo 1 >/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down; ip addr add fd00:9::300 dev eth0; ip link set eth0 down; ip link set eth0 up; sleep 2",
        );
        let link = inside(other, far, "ip -6 -o addr show dev eth0 scope link");
        let link = link.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        let said = inside(host, name, &format!("ping -n -c 1 -W 1 {link}%eth0 || echo silence"));
        assert!(said.contains("silence"), "an address of another host's link answers: {said}");
    }
    for (host, name, other, far) in ends {
        host.docker(&["restart", "-t", "0", name]).unwrap();
        for ip in ips(other, far) {
            ping(host, name, ip);
        }
    }
    // What a kernel knows it asks for again after a while: the one that it knows, and nobody else.
    for (host, name, other, far) in ends {
        let [four, six] = ips(other, far);
        for ip in [four, six] {
            inside(host, name, &format!("ip neigh change {ip} dev eth0 nud probe"));
        }
        wait_until("the kernel to ask again", SOON, || {
            let known = inside(host, name, "ip neigh show dev eth0 nud reachable");
            anyhow::ensure!([four, six].iter().all(|ip| known.contains(&format!("{ip} "))), "{known}");
            Ok(true)
        })
        .unwrap();
    }
    for host in [one, two] {
        let told = [counted(host, "data_four"), counted(host, "data_six")];
        eprintln!("{}: {told:?} pings, questions {:?}", host.name(), asked(host));
        assert!(told.iter().all(|packets| *packets >= 4), "{told:?}");
        assert_eq!(asked(host), [0, 0, 0], "questions left {}", host.name());
    }
    remove(one, &["c1"]);
    remove(two, &["c2"]);
    one.docker(&["network", "rm", "blue"]).unwrap();
    vanishes(lab, "blue");
    for host in [one, two] {
        host.exec(&["nft", "delete", "table", "inet", "quiet"]).unwrap();
    }
}
