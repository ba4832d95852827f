//! The data plane on the real kernel, on hosts and containers that are network namespaces.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test may fail")]

mod common {
    pub(crate) mod lab;
    pub(crate) mod overlays;
}

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use common::{
    lab::{Host, Lab, Net, allowed, endpoint, mac, network, open, vni},
    overlays::{overlay, possible},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use rs_overlay::{
    dataplane::{
        Dataplane, DataplaneError,
        names::{bridge_link, container_link, host_link, vxlan_link},
        netlink::{Kernel, KernelConfig},
    },
    model::{EndpointId, MacAddr},
    plan::{Op, Overlay, Port, Segment, Vxlan, diff},
};

const VNI: u32 = 4096;

/// One network with containers on two hosts, 1 and 2, seen from host `here`. Container `n` has the
/// addresses 10.9.0.n and fd00::n.
fn view(here: usize, six: bool, places: &[(char, u8, usize)]) -> Overlay {
    let underlay = |host: usize| -> IpAddr {
        if six {
            format!("2001:db8::{host}").parse().unwrap()
        } else {
            format!("192.0.2.{host}").parse().unwrap()
        }
    };
    let mtu = if six { 1430 } else { 1450 };
    let mut segment = Segment {
        network: network('a'),
        vxlan: Vxlan { local: underlay(here), port: 4789, mtu },
        ports: BTreeMap::new(),
        fdb: BTreeMap::new(),
        neighbours: BTreeMap::new(),
    };
    for &(id, n, host) in places {
        if host == here {
            segment.ports.insert(endpoint(id), Port { mac: mac(n), mtu });
        } else {
            segment.fdb.insert(mac(n), underlay(host));
            segment.neighbours.insert(IpAddr::from([10, 9, 0, n]), mac(n));
            segment.neighbours.insert(format!("fd00::{n}").parse().unwrap(), mac(n));
        }
    }
    Overlay { segments: [(vni(VNI), segment)].into(), ..Overlay::default() }
}

fn container(lab: &Lab, host: &Host, id: char, n: u8) -> Net {
    lab.container(host, &endpoint(id), &[&format!("10.9.0.{n}/24"), &format!("fd00::{n}/64")])
}

fn must_ping(from: &Net, n: u8) {
    for ip in [format!("10.9.0.{n}"), format!("fd00::{n}")] {
        from.ping(&ip, 56).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
}

async fn two_hosts(six: bool) {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let places = [('1', 2, 1), ('2', 3, 1), ('3', 4, 2)];
    a.make(&view(1, six, &places)).await;
    b.make(&view(2, six, &places)).await;
    let one = container(&lab, &a, '1', 2);
    let two = container(&lab, &a, '2', 3);
    let three = container(&lab, &b, '3', 4);
    // The engine has taken the links away: still the same overlay.
    assert_eq!(a.kernel.observe().await.unwrap(), view(1, six, &places));

    must_ping(&one, 4);
    must_ping(&three, 2);
    must_ping(&one, 3);
    must_ping(&two, 2);

    // IPv4: 20 + 8 bytes of headers.
    let full = view(1, six, &places).segments[&vni(VNI)].vxlan.mtu - 28;
    one.ping("10.9.0.4", full).unwrap();
    let refused = one.ping("10.9.0.4", full + 1).unwrap_err();
    assert!(refused.contains("too long"), "{refused}");

    // The UDP socket has stayed on the host, and the tunnel is really what carried this.
    let port = if six { "[::]:4789" } else { "0.0.0.0:4789" };
    assert!(a.net.sh("ss -lun").contains(port), "{}", a.net.sh("ss -lun"));
    assert!(!a.overlay().sh("ss -lun").contains("4789"));
    let tunnel = vxlan_link(vni(VNI));
    let before = a.overlay().sent(&tunnel);
    assert!(before > 0);

    // A question for an address that nobody has stays here.
    one.try_sh("ping -n -c 2 -W 1 10.9.0.99").unwrap_err();
    one.try_sh("ping -n -c 2 -W 1 fd00::99").unwrap_err();
    one.try_sh("ping -n -b -c 2 -W 1 10.9.0.255").unwrap_err();
    one.try_sh("ping -n -c 2 -W 1 -I eth0 ff02::1").ok();
    assert_eq!(a.overlay().sent(&tunnel), before);

    // Nobody speaks with another's MAC.
    must_ping(&one, 4);
    one.sh("ip link set eth0 address 02:42:0a:09:00:63");
    one.try_sh("ping -n -c 2 -W 1 10.9.0.4").unwrap_err();
    one.try_sh("ping -n -c 2 -W 1 10.9.0.3").unwrap_err();
    one.sh(&format!("ip link set eth0 address {}", mac(4)));
    one.try_sh("ping -n -c 2 -W 1 10.9.0.3").unwrap_err();
    one.sh(&format!("ip link set eth0 address {}", mac(2)));
    must_ping(&one, 4);
    must_ping(&three, 2);

    a.make(&Overlay::default()).await;
    assert!(!a.overlay().sh("ip -o link").contains(&tunnel));
    assert!(one.try_sh("ip link show eth0").is_err());
    assert!(!a.net.sh("ss -lun").contains("4789"));
}

#[tokio::test]
async fn containers_of_two_hosts_talk_over_ipv4() {
    if allowed() {
        two_hosts(false).await;
    }
}

#[tokio::test]
async fn containers_of_two_hosts_talk_over_ipv6() {
    if allowed() {
        two_hosts(true).await;
    }
}

#[tokio::test]
async fn any_overlay_can_be_made_from_any_other() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let wanted = possible(overlay().new_tree(&mut runner).unwrap().current());
        host.make(&wanted).await;
        assert_eq!(host.make(&wanted).await, vec![]);
    }
    host.make(&Overlay::default()).await;
    let left = host.overlay().sh("ip -o link");
    assert_eq!(left.lines().count(), 1, "{left}");
    let left = host.net.sh("ip -o link; ip route show table all proto 82");
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[tokio::test]
async fn what_others_change_is_seen_and_repaired_without_touching_the_container() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let places = [('1', 2, 1), ('3', 4, 2)];
    let wanted = view(1, false, &places);
    a.make(&wanted).await;
    b.make(&view(2, false, &places)).await;
    let one = container(&lab, &a, '1', 2);
    let _three = container(&lab, &b, '3', 4);
    let (bridge, tunnel, port) = (bridge_link(vni(VNI)), vxlan_link(vni(VNI)), host_link(&endpoint('1')));
    let (near, far) = (mac(2), mac(4));
    let inside = a.overlay();
    for meddling in [
        format!("bridge fdb replace {far} dev {tunnel} dst 192.0.2.99 self"),
        format!("bridge fdb del {far} dev {tunnel} self"),
        format!("bridge fdb del {far} dev {tunnel} master"),
        format!("bridge fdb replace {far} dev {tunnel} master static"),
        format!("bridge fdb add 02:42:0a:09:00:63 dev {tunnel} dst 192.0.2.99 self"),
        format!("bridge fdb add 02:42:0a:09:00:63 dev {tunnel} master static"),
        format!("bridge fdb replace {far} dev {port} master static"),
        format!("bridge fdb del {near} dev {port} master"),
        format!("bridge fdb add 02:42:0a:09:00:63 dev {port} master static"),
        format!("bridge fdb replace {near} dev {tunnel} master static sticky"),
        format!("ip neigh del 10.9.0.4 dev {bridge}"),
        format!("ip neigh replace 10.9.0.4 lladdr 02:42:0a:09:00:63 dev {bridge} nud permanent proto 82"),
        format!("ip neigh replace fd00::4 lladdr {far} dev {bridge} nud stale proto 82"),
        format!("ip neigh add 10.9.0.77 lladdr {far} dev {bridge} nud permanent proto 82"),
        format!("bridge link set dev {port} learning on"),
        format!("bridge link set dev {port} locked off"),
        format!("bridge link set dev {port} neigh_suppress on"),
        format!("bridge link set dev {port} bcast_flood off"),
        format!("bridge link set dev {tunnel} flood on"),
        format!("bridge link set dev {tunnel} neigh_suppress off"),
        format!("ip link set {port} down"),
        format!("ip link set {port} nomaster"),
        format!("ip link set {port} mtu 1300"),
        format!("ip link set {tunnel} down"),
        format!("ip link set {tunnel} nomaster"),
        format!("ip link set {tunnel} mtu 1300"),
        format!("ip link set {tunnel} type vxlan learning"),
        format!("ip link del {tunnel}"),
        format!("ip link set {bridge} down"),
        format!("ip link set {bridge} mtu 1300"),
        format!("ip link set {bridge} address 02:00:00:00:00:01"),
        format!("ip link set {bridge} type bridge mcast_snooping 1"),
        format!("ip link set {bridge} type bridge stp_state 1"),
        format!("ip link set {bridge} alias ''"),
        format!("ip link del {bridge}"),
        format!("ip link del {bridge} && ip link del {tunnel}"),
        format!("ip link set {bridge} alias '' && ip link del {tunnel}"),
    ] {
        inside.sh(&meddling);
        let found = a.kernel.observe().await.unwrap();
        assert_ne!(found, wanted, "unnoticed: {meddling}");
        let steps = a.make(&wanted).await;
        assert!(!steps.iter().any(|step| matches!(step, Op::DeletePort { .. })), "{meddling}: {steps:?}");
        for ip in ["10.9.0.4", "fd00::4"] {
            one.ping(ip, 56).unwrap_or_else(|error| panic!("{ip} after {meddling}, {steps:?}: {error}"));
        }
    }
    // And what is half made and not wanted goes.
    for meddling in [
        format!("ip link set {port} down"),
        format!("ip link set {port} nomaster && ip link del {bridge} && ip link del {tunnel}"),
        format!("ip link del {bridge}"),
        format!("bridge fdb del {far} dev {tunnel} master"),
        format!("bridge fdb del {far} dev {tunnel} self"),
    ] {
        a.make(&wanted).await;
        inside.sh(&meddling);
        a.make(&Overlay::default()).await;
        let left = inside.sh("ip -o link");
        assert_eq!(left.lines().count(), 1, "{meddling}: {left}");
    }
}

#[tokio::test]
async fn the_pin_outlives_the_kernel_and_is_adopted() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let places = [('1', 2, 1), ('3', 4, 2)];
    let wanted = view(1, false, &places);
    a.make(&wanted).await;
    b.make(&view(2, false, &places)).await;
    let (one, _three) = (container(&lab, &a, '1', 2), container(&lab, &b, '3', 4));
    let Host { kernel, config, net: _net } = a;
    drop(kernel);
    must_ping(&one, 4);
    let again = open(&config).await;
    assert_eq!(diff(&again.observe().await.unwrap(), &wanted), vec![]);
    must_ping(&one, 4);
}

#[tokio::test]
async fn what_lies_at_the_pins_place_is_checked() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let config = |path: &std::path::Path| KernelConfig { namespace: path.into(), ..host.config.clone() };
    let left_over = lab.pin("left-over");
    std::fs::write(&left_over, "").unwrap();
    let kernel = open(&config(&left_over)).await;
    assert_eq!(kernel.observe().await.unwrap(), Overlay::default());
    let own = Kernel::open(config(&host.net.path())).await.unwrap_err();
    assert!(matches!(own, DataplaneError::Taken { .. }), "{own}");
    let precious = lab.pin("precious");
    std::fs::write(&precious, "data").unwrap();
    Kernel::open(config(&precious)).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
}

#[tokio::test]
async fn links_of_others_are_left_alone() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let inside = host.overlay();
    let foreign = container_link(&endpoint('9'));
    inside.sh(
        "ip link add br0 type bridge && ip link add p0 type veth peer name q0 && ip link set p0 master br0",
    );
    host.net.sh(&format!("ip link add {foreign} type bridge && ip link add rsync0 type bridge"));
    host.net.sh("ip link add name uplink type bridge && ip route add 198.51.100.0/24 dev lo");
    let places = [('1', 2, 1), ('3', 4, 2)];
    host.make(&view(1, false, &places)).await;
    host.make(&Overlay::default()).await;
    for link in ["br0", "p0", "q0"] {
        inside.sh(&format!("ip link show {link}"));
    }
    for link in [foreign.as_str(), "rsync0", "uplink"] {
        host.net.sh(&format!("ip link show {link}"));
    }
    // A name that we need and another has.
    let taken = view(1, false, &[('9', 2, 1)]);
    let steps = diff(&host.kernel.observe().await.unwrap(), &taken);
    let failures: Vec<_> = host.kernel.apply(&steps).await.into_iter().filter_map(Result::err).collect();
    assert!(matches!(failures.as_slice(), [DataplaneError::Taken { .. }]), "{failures:?}");
    assert!(failures[0].to_string().contains(&foreign), "{}", failures[0]);
    assert!(host.net.sh(&format!("ip -d link show {foreign}")).contains("bridge"));
}

#[tokio::test]
async fn a_vni_of_another_program_is_named() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1)]);
    host.net.sh(&format!("ip link add flannel.1 type vxlan id {VNI} dstport 4789 local 192.0.2.1"));
    let steps = diff(&Overlay::default(), &wanted);
    let results = host.kernel.apply(&steps).await;
    let error = results[0].as_ref().unwrap_err();
    assert!(matches!(error, DataplaneError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("flannel.1"), "{error}");
    host.net.sh("ip link del flannel.1");
    host.make(&wanted).await;
}

#[tokio::test]
async fn a_changed_mac_reaches_containers_that_hold_the_old_one() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let mut wanted = view(1, false, &[('1', 2, 1), ('3', 4, 2)]);
    host.make(&wanted).await;
    let one = container(&lab, &host, '1', 2);
    let remote: Vec<IpAddr> = vec![IpAddr::from([10, 9, 0, 4]), "fd00::4".parse().unwrap()];
    for ip in &remote {
        // Nobody answers the ping behind the wire, but the bridge answers for the address.
        let _ = one.try_sh(&format!("ping -n -c 1 -W 1 {ip}"));
        assert!(
            one.sh(&format!("ip neigh show {ip}")).contains(&mac(4).to_string()),
            "{}",
            one.sh("ip neigh")
        );
    }
    let segment = wanted.segments.get_mut(&vni(VNI)).unwrap();
    let vtep = segment.fdb.remove(&mac(4)).unwrap();
    segment.fdb.insert(mac(5), vtep);
    for ip in &remote {
        segment.neighbours.insert(*ip, mac(5));
    }
    let before = host.overlay().sent(&vxlan_link(vni(VNI)));
    host.make(&wanted).await;
    for ip in &remote {
        let told = || one.sh(&format!("ip neigh show {ip}"));
        let mut last = told();
        for _ in 0..50 {
            if last.contains(&mac(5).to_string()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            last = told();
        }
        assert!(last.contains(&mac(5).to_string()), "{ip}: {last}");
    }
    assert_eq!(host.overlay().sent(&vxlan_link(vni(VNI))), before, "an announcement left the host");
}

#[tokio::test]
async fn a_guard_is_seen_and_carries_nothing() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    host.net.sh("ip link add wire type veth peer name far && ip addr add 192.0.2.1/24 dev wire && ip link set far up && ip link set wire up");
    host.net.sh("ip route add default via 192.0.2.254");
    let guard = "198.51.100.0/24".parse().unwrap();
    let wanted = Overlay { guards: [guard].into(), ..Overlay::default() };
    host.make(&wanted).await;
    let listed = host.net.sh("ip -4 route show table main scope link type throw");
    assert!(listed.contains("198.51.100.0/24"), "{listed}");
    for tos in (0..=0xff_u32).step_by(4) {
        let way = host.net.sh(&format!("ip route get 198.51.100.7 tos {tos:#x}"));
        assert!(way.contains("via 192.0.2.254"), "tos {tos:#x}: {way}");
    }
    host.net.sh("ip route del throw 198.51.100.0/24 tos 0xfc");
    assert_ne!(host.kernel.observe().await.unwrap(), wanted);
    host.make(&wanted).await;
    host.make(&Overlay::default()).await;
    assert_eq!(host.net.sh("ip route show table all proto 82"), "");
}

#[tokio::test]
async fn changes_are_told_and_those_of_others_are_not() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1), ('3', 4, 2)]);
    host.make(&wanted).await;
    let mut events = host.kernel.events().unwrap();
    let patience = Duration::from_secs(20);
    let quiet = Duration::from_millis(500);
    let meddling = format!("ip link set {} down", bridge_link(vni(VNI)));
    host.overlay().sh(&meddling);
    tokio::time::timeout(patience, events.recv()).await.unwrap().unwrap();
    while tokio::time::timeout(quiet, events.recv()).await.is_ok() {}
    host.net.sh(
        "ip link add br-1234 type bridge && ip link set br-1234 up && ip addr add 192.0.2.1/24 dev br-1234",
    );
    assert!(tokio::time::timeout(quiet, events.recv()).await.is_err(), "woken for a bridge of the engine");
    host.net.sh(&format!("ip link set {} mtu 1300", container_link(&endpoint('1'))));
    tokio::time::timeout(patience, events.recv()).await.unwrap().unwrap();
    drop(host.kernel);
    while tokio::time::timeout(patience, events.recv()).await.unwrap().is_some() {}
}

/// An endpoint whose finishing touch a crash has prevented.
#[tokio::test]
async fn a_port_without_alias_is_repaired_or_removed() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1)]);
    host.make(&view(1, false, &[])).await;
    let id: EndpointId = endpoint('1');
    let half = format!(
        "ip link add {} master {} type veth peer name {} netns {}",
        host_link(&id),
        bridge_link(vni(VNI)),
        container_link(&id),
        host.net.path().display()
    );
    host.overlay().sh(&half);
    host.make(&wanted).await;
    let end = host.net.sh(&format!("ip link show {}", container_link(&id)));
    assert!(end.contains(&mac(2).to_string()) && end.contains("mtu 1450") && end.contains("alias"), "{end}");
    host.make(&Overlay::default()).await;
    // With its segment, or at the next start.
    host.make(&view(1, false, &[])).await;
    host.overlay().sh(&half);
    host.make(&Overlay::default()).await;
    assert_eq!(host.overlay().sh("ip -o link").lines().count(), 1);
    host.make(&view(1, false, &[])).await;
    host.overlay().sh(&half);
    let again = open(&host.config).await;
    assert_eq!(host.overlay().sh("ip -o link").lines().count(), 3);
    drop(again);
}

/// Prints times; run with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn time_of_large_networks() {
    for remote in [1_000_u32, 10_000] {
        let lab = Lab::new();
        let host = lab.host("a").await;
        let mut wanted = view(1, false, &[('1', 2, 1)]);
        let small = wanted.clone();
        let start = Instant::now();
        host.apply(&small).await;
        let first = start.elapsed();
        let segment = wanted.segments.get_mut(&vni(VNI)).unwrap();
        for n in 1..=remote {
            let [_, _, a, b] = n.to_be_bytes();
            let ip = IpAddr::from([10, 10, a, b]);
            segment.fdb.insert(MacAddr::from_ip(ip), IpAddr::from([192, 0, 2, 2 + b % 200]));
            segment.neighbours.insert(ip, MacAddr::from_ip(ip));
        }
        let start = Instant::now();
        host.apply(&wanted).await;
        let fill = start.elapsed();
        let start = Instant::now();
        assert_eq!(host.kernel.observe().await.unwrap(), wanted);
        let observe = start.elapsed();
        let more = view(1, false, &[('1', 2, 1), ('2', 3, 1)]);
        let port = more.segments[&vni(VNI)].ports[&endpoint('2')];
        let start = Instant::now();
        let steps = [Op::AddPort { vni: vni(VNI), endpoint: endpoint('2'), port }];
        assert!(host.kernel.apply(&steps).await[0].is_ok());
        let port = start.elapsed();
        let start = Instant::now();
        host.apply(&small).await;
        let empty = start.elapsed();
        println!(
            "{remote} remote endpoints: network with one port {first:?}, fill {fill:?}, observe {observe:?}, \
             one more port {port:?}, observe and empty {empty:?}"
        );
    }
}
