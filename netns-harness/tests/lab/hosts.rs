//! Two engines of different generations on one underlay.

use netns_harness::{EngineVersion, Family, Lab, StoreKind, wait_until};

use crate::support::{LONG, Traces, can_run, reaches};

#[test]
fn two_generations_of_engines_run_containers_side_by_side() {
    if !can_run() {
        return;
    }
    let engines = [EngineVersion::V20_10_24, EngineVersion::V28_5];
    let lab = Lab::builder().hosts(&engines).store(StoreKind::Etcd).build().unwrap();
    assert_eq!(lab.store_url(), "etcd://192.0.2.254:2379");
    for (host, engine) in lab.hosts().iter().zip(engines) {
        let version = host.docker(&["version", "-f", "{{.Server.Version}}"]).unwrap();
        assert!(version.starts_with(engine.as_str()), "{version} is not {engine}");
        host.docker(&["run", "-d", "--name", "sleeper", "busybox", "sleep", "100000"]).unwrap();
        let address = host.address("sleeper", "bridge").unwrap().to_string();
        assert!(address.starts_with("172.17."), "{address}");
        let inside = host.in_container("sleeper", &["ip", "addr", "show", "eth0"]).unwrap();
        assert!(inside.contains(&address), "{address} is not in {inside}");
        let outside = host.container_netns("sleeper", &["ip", "-brief", "addr", "show", "eth0"]).unwrap();
        assert!(outside.contains(&address), "{address} is not in {outside}");
        assert!(host.address6("sleeper", "bridge").is_err() && host.address("sleeper", "other").is_err());
    }
    let ids: Vec<String> =
        lab.hosts().iter().map(|host| host.docker(&["info", "-f", "{{.ID}}"]).unwrap()).collect();
    assert_ne!(ids[0], ids[1], "two hosts have one engine's identity");
    assert!(reaches(lab.host(1), lab.host(2)) && reaches(lab.host(2), lab.host(1)));
    let health = lab.host(2).exec(&["curl", "-sS", "-m", "30", "http://192.0.2.254:2379/health"]).unwrap();
    assert!(health.contains("true"), "{health}");

    let output = lab.host(1).docker_output(&["inspect", "nothing"]).unwrap();
    assert!(!output.status.success() && !output.stderr.is_empty());
    let error = lab.host(1).docker(&["inspect", "nothing"]).unwrap_err().to_string();
    assert!(error.contains("docker inspect nothing") && error.contains("nothing"), "{error}");
    let traces = Traces::of(&lab);
    drop(lab);
    traces.assert_none();
}

#[test]
fn an_ipv6_underlay_has_no_ipv4() {
    if !can_run() {
        return;
    }
    let engines = [EngineVersion::V20_10_24, EngineVersion::V26_1];
    let lab =
        Lab::builder().hosts(&engines).store(StoreKind::Etcd).family(Family::V6).mtu(9000).build().unwrap();
    assert_eq!(lab.host(2).vtep().to_string(), "2001:db8::2");
    assert!(reaches(lab.host(1), lab.host(2)));
    assert_eq!(lab.host(1).exec(&["ip", "-4", "addr", "show", "eth1"]).unwrap(), "");
    assert!(lab.host(1).exec(&["ip", "link", "show", "eth1"]).unwrap().contains("mtu 9000"));
    let url = "http://[2001:db8::fe]:2379/health";
    assert!(lab.host(2).exec(&["curl", "-sS", "-m", "30", url]).unwrap().contains("true"));
    let inside = lab.host(2).docker(&["run", "--rm", "busybox", "ip", "-4", "addr", "show", "eth0"]).unwrap();
    assert!(inside.contains("172.17."), "{inside}");
}

#[test]
fn leftovers_are_found_in_every_place() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24]).build().unwrap();
    let host = lab.host(1);
    host.docker(&["network", "create", "plain"]).unwrap();
    host.docker(&["run", "-d", "--name", "sleeper", "--network", "plain", "busybox", "sleep", "100000"])
        .unwrap();
    assert_eq!(lab.leftovers().unwrap(), Vec::<String>::new(), "Docker's own links are not ours");

    host.exec(&["ip", "link", "add", "rsveth0", "type", "veth", "peer", "name", "rsveth1"]).unwrap();
    host.exec(&["ip", "route", "add", "unreachable", "198.51.100.0/24", "proto", "82"]).unwrap();
    host.exec(&["mkdir", "-p", "/run/docker/rs-overlay/netns"]).unwrap();
    host.exec(&["touch", "/run/docker/rs-overlay/netns/pin"]).unwrap();
    let script = "mount --bind /proc/self/ns/net /run/docker/rs-overlay/netns/pin
        ip link add rsbridge type bridge
        ip link add rsvxlan type vxlan id 7 dstport 4789 dev lo";
    host.exec(&["unshare", "--net", "sh", "-ec", script]).unwrap();
    let lines = lab.leftovers().unwrap().join("\n");
    for line in [
        "host1: veth rsveth0",
        "host1: veth rsveth1",
        "host1: route unreachable 198.51.100.0/24",
        "host1 in /run/docker/rs-overlay/netns/pin: bridge rsbridge",
        "host1 in /run/docker/rs-overlay/netns/pin: vxlan rsvxlan",
    ] {
        assert!(lines.contains(line), "no {line:?} in\n{lines}");
    }
    host.exec(&["umount", "/run/docker/rs-overlay/netns/pin"]).unwrap();
    host.exec(&["ip", "link", "del", "rsveth0"]).unwrap();
    host.exec(&["ip", "route", "flush", "proto", "82"]).unwrap();
    wait_until("the end of leftovers", LONG, || lab.leftovers().map(|lines| lines.is_empty())).unwrap();
}

#[test]
fn containers_ask_the_labs_own_resolver() {
    if !can_run() {
        return;
    }
    let address = "198.51.100.7".parse().unwrap();
    let names = [("www.example.org", address), ("www.example.org", "198.51.100.8".parse().unwrap())];
    let lab = Lab::builder().hosts(&[EngineVersion::V28_5]).resolver(&names).build().unwrap();
    let ask = |name| lab.host(1).docker_output(&["run", "--rm", "busybox", "nslookup", name]).unwrap();
    let known = ask("www.example.org");
    assert!(known.stdout.contains("198.51.100.7") && known.stdout.contains("198.51.100.8"), "{known:?}");
    let denied = ask("other.example.org");
    assert!(!denied.status.success() && denied.stdout.contains("NXDOMAIN"), "{denied:?}");
    let ports = lab.fabric_exec(&["bridge", "link"]).unwrap();
    assert!(ports.contains("port1") && ports.contains("forwarding"), "{ports}");
}
