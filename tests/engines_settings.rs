//! Settings of a network: carried to every host, honoured there, and refused in words a user understands.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use kit::{SOON, assert_clean, create, has_network, lab, ping, refused, remove, run, says, vanishes};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, StoreKind, wait_until,
};

/// What a network is: all that its user has given it or may see of it, but for ids and dates.
fn inspect(host: &Host, network: &str) -> serde_json::Value {
    let text = host.docker(&["network", "inspect", network]).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields = ["Name", "Driver", "Internal", "Attachable", "EnableIPv6", "Labels", "Options"];
    let mut shape: serde_json::Map<_, _> =
        fields.iter().map(|field| ((*field).to_owned(), all[0][field].clone())).collect();
    shape.insert("Config".to_owned(), all[0]["IPAM"]["Config"].clone());
    shape.into()
}

#[test]
fn a_network_is_the_same_on_all_hosts() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V20_10_24, V28_5, V26_1], StoreKind::Etcd);
    let everything = [
        ["--subnet", "10.62.0.0/24"],
        ["--gateway", "10.62.0.254"],
        // An engine does not list a gateway that the user has not given with the subnet.
        ["--subnet", "fd62::/64"],
        ["--ip-range", "10.62.0.128/25"],
        ["--aux-address", "router=10.62.0.129"],
        ["--label", "team=blue"],
        ["--label", "empty="],
        ["-o", "com.docker.network.driver.mtu=1400"],
        ["-o", "vni=7000"],
    ];
    let flags = ["--attachable", "--internal", "--ipv6"];
    let took = create(&lab, 2, "full", &[&everything.concat()[..], &flags].concat());
    eprintln!("network on all hosts {took:?} after its creation");
    assert!(took.as_secs() < 10, "took {took:?}");
    let first = inspect(lab.host(2), "full");
    let parts = ["10.62.0.254", "10.62.0.128/25", "10.62.0.129", "team", "1400", "7000", "fd62::/64"];
    says(&first.to_string(), &parts);
    assert!(["Internal", "Attachable", "EnableIPv6"].iter().all(|flag| first[flag] == true), "{first}");
    for host in lab.hosts() {
        assert_eq!(inspect(host, "full"), first, "on {}", host.name());
        let name = format!("s{}", host.number());
        run(host, &name, "full", &[]);
        let ip = host.address(&name, "full").unwrap().to_string();
        let last: u8 = ip.rsplit('.').next().unwrap().parse().unwrap();
        assert!(ip.starts_with("10.62.0.") && last >= 128 && ![129, 254].contains(&last), "{ip} of {name}");
        assert_eq!(host.in_container(&name, &["cat", "/sys/class/net/eth0/mtu"]).unwrap(), "1400");
        let links = host.exec(&["nsenter", "--net=/run/docker/rs-overlay/netns/overlay", "ip", "-d", "link"]);
        says(&links.unwrap(), &["vxlan id 7000 "]);
    }
    for (creator, name, flags) in [(2, "plain", &[][..]), (1, "sub", &["--subnet", "10.64.0.0/24"])] {
        create(&lab, creator, name, flags);
        let first = inspect(lab.host(creator), name);
        for host in lab.hosts() {
            assert_eq!(inspect(host, name), first, "{name} on {}", host.name());
        }
    }
    ping(lab.host(1), "s1", lab.host(3).address("s3", "full").unwrap());

    // Removed where it is not in use, it goes there alone; the last container's host takes the rest along.
    remove(lab.host(2), &["s2"]);
    lab.host(2).docker(&["network", "rm", "full"]).unwrap();
    ping(lab.host(1), "s1", lab.host(3).address("s3", "full").unwrap());
    assert!(!has_network(lab.host(2), "full").unwrap(), "it came back on host2");
    assert!(has_network(lab.host(1), "full").unwrap() && has_network(lab.host(3), "full").unwrap());
    remove(lab.host(1), &["s1"]);
    remove(lab.host(3), &["s3"]);
    eprintln!("gone everywhere {:?} after the last container", vanishes(&lab, "full"));

    create(&lab, 1, "list", &["-o", "com.docker.network.driver.overlay.vxlanid_list=7001"]);
    run(lab.host(3), "listed", "list", &[]);
    let links =
        lab.host(3).exec(&["nsenter", "--net=/run/docker/rs-overlay/netns/overlay", "ip", "-d", "link"]);
    says(&links.unwrap(), &["vxlan id 7001 "]);
    remove(lab.host(3), &["listed"]);
    lab.host(1).docker(&["network", "rm", "list"]).unwrap();
    eprintln!("gone everywhere {:?} after its removal", vanishes(&lab, "list"));
    assert_clean(&lab);
}

#[test]
fn a_user_is_told_what_is_wrong() {
    if !kit::allowed() {
        return;
    }
    let lab = lab(&[V28_5, V20_10_24], StoreKind::Etcd);
    let (one, two) = (lab.host(1), lab.host(2));
    create(&lab, 1, "taken", &["--subnet", "10.63.0.0/29", "-o", "vni=6300"]);
    let wrong = |options: &[&str], parts: &[&str]| {
        let line = [&["network", "create"], &kit::OURS[..], options, &["wrong"]].concat();
        says(&refused(two, &line), parts);
    };
    wrong(&["-o", "color=red"], &["color", "unknown option", "vni"]);
    wrong(&["-o", "vni=6300"], &["6300", "taken"]);
    wrong(&["-o", "vni=16777216"], &["16777216"]);
    wrong(&["-o", "com.docker.network.driver.mtu=1451"], &["1451", "1450"]);
    wrong(&["--subnet", "10.63.0.0/16"], &["10.63.0.0/16", "10.63.0.0/29", "taken", "host1"]);

    // A subnet that only another host reaches otherwise.
    one.exec(&["ip", "route", "add", "198.51.100.0/24", "dev", "eth1"]).unwrap();
    let line = [&["network", "create"], &kit::OURS[..], &["--subnet", "198.51.100.0/25", "routed"]].concat();
    let said =
        wait_until("the refusal of another host's route", SOON, || -> anyhow::Result<Option<String>> {
            let output = two.docker_output(&line)?;
            if output.status.success() {
                two.docker(&["network", "rm", "routed"])?;
                return Ok(None);
            }
            Ok(Some(output.stderr))
        });
    says(&said.unwrap(), &["198.51.100.0/24", "host1", "eth1"]);
    one.exec(&["ip", "route", "del", "198.51.100.0/24", "dev", "eth1"]).unwrap();

    // Six addresses, one of them the gateway's.
    let outside = ["run", "--rm", "--net", "taken", "--ip", "10.63.1.5", "busybox", "true"];
    says(&refused(two, &outside), &["10.63.1.5"]);
    for (host, name) in [(one, "f1"), (two, "f2"), (one, "f3"), (two, "f4"), (one, "f5")] {
        run(host, name, "taken", &[]);
    }
    says(
        &refused(two, &["run", "--rm", "--net", "taken", "busybox", "true"]),
        &["10.63.0.0/29", "full", "taken"],
    );
    let held = one.address("f3", "taken").unwrap().to_string();
    let again = ["run", "--rm", "--net", "taken", "--ip", &held, "busybox", "true"];
    says(&refused(two, &again), &[&held, "f3", "host1"]);
    assert_clean(&lab);
}
