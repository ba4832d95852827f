//! Underlays that are wide, narrow, mixed, move, or have several addresses and tables.

use std::net::IpAddr;

use rs_overlay::{dataplane::Dataplane, plan::Overlay};

use crate::both_ways;
use crate::lab::{Host, Lab, Net, allowed, endpoint, vni};
use crate::scene::{VNI, container, must_ping, view};

const PLACES: [(char, u8, usize); 2] = [('1', 2, 1), ('3', 4, 2)];

/// The view of a host of which it is known what all underlays carry.
fn sized(here: usize, six: bool, mtu: u32) -> Overlay {
    let mut wanted = view(here, six, &PLACES);
    let segment = wanted.segments.get_mut(&vni(VNI)).unwrap();
    segment.vxlan.mtu = mtu;
    segment.ports.values_mut().for_each(|port| port.mtu = mtu);
    wanted
}

/// Packets of full size arrive in one piece both ways, and larger ones are refused where they are made.
fn carries(one: &Net, three: &Net, mtu: u32) {
    for (net, ip) in [(one, "10.9.0.4"), (three, "10.9.0.2")] {
        net.ping(ip, mtu - 28).unwrap_or_else(|error| panic!("{mtu} bytes to {ip}: {error}"));
        let refused = net.try_sh(&format!("ping -n -c 1 -W 1 -M do -s {} {ip}", mtu - 27)).unwrap_err();
        assert!(refused.contains("too long"), "{refused}");
    }
    for (net, ip) in [(one, "fd00::4"), (three, "fd00::2")] {
        net.ping(ip, mtu - 48).unwrap_or_else(|error| panic!("{mtu} bytes to {ip}: {error}"));
    }
}

async fn sizes(six: bool) {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let overhead = if six { 70 } else { 50 };
    let (from, to) = if six { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
    let mut running: Option<(Net, Net)> = None;
    for (wire_a, wire_b) in [(1500, 1500), (9000, 9000), (1400, 1500), (1500, 1400), (1500, 1500)] {
        for (host, wire) in [(&a, wire_a), (&b, wire_b)] {
            host.net.sh(&format!("ip link set wire mtu {wire}"));
        }
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(a.facts.path_mtu(to, from).await.unwrap(), Some(wire_a));
        let mtu = wire_a.min(wire_b) - overhead;
        a.make(&sized(1, six, mtu)).await;
        b.make(&sized(2, six, mtu)).await;
        let (one, three) =
            running.get_or_insert_with(|| (container(&lab, &a, '1', 2), container(&lab, &b, '3', 4)));
        // Their links keep the size that they were made with until they are told.
        for (host, id, net) in [(&a, '1', &*one), (&b, '3', &*three)] {
            assert!(host.kernel.fit(&endpoint(id), &net.path(), mtu).await.unwrap(), "not inside");
            let own = net.sh("ip -o link show eth0 | sed 's/.* mtu \\([0-9]*\\).*/\\1/'");
            assert_eq!(own.trim(), mtu.to_string());
            assert_eq!(host.kernel.observe().await.unwrap(), sized(if id == '1' { 1 } else { 2 }, six, mtu));
        }
        carries(one, three, mtu);
    }
    // Whoever is not there cannot be told.
    let (one, three) = running.unwrap();
    assert!(!a.kernel.fit(&endpoint('1'), &three.path(), 1400).await.unwrap());
    assert!(a.kernel.fit(&endpoint('1'), std::path::Path::new("/run/nobody"), 1400).await.is_err());
    assert_eq!(
        one.sh("ip -o link show eth0 | sed 's/.* mtu \\([0-9]*\\).*/\\1/'").trim(),
        (1500 - overhead).to_string()
    );
}

both_ways! {
    wide_narrow_and_mixed_underlays_carry_packets_of_full_size_over_ipv4 => sizes(false);
    wide_narrow_and_mixed_underlays_carry_packets_of_full_size_over_ipv6 => sizes(true);
}

/// Counts tunnel packets that arrive at `host`, by whom they are from.
fn count_sources(host: &Host, sources: &[&str]) {
    host.net
        .sh("nft add table inet seen && nft 'add chain inet seen in { type filter hook input priority 0; }'");
    for source in sources {
        host.net.sh(&format!("nft add rule inet seen in ip saddr {source} udp dport 4789 counter"));
    }
}

fn counted(host: &Host, source: &str) -> u64 {
    let text = host.net.sh("nft list chain inet seen in");
    let line = text.lines().find(|line| line.contains(&format!("saddr {source} "))).unwrap();
    line.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Both hosts' views where the first one is at another address.
fn moved(address: &str) -> [Overlay; 2] {
    let address: IpAddr = address.parse().unwrap();
    let (mut a, mut b) = (view(1, false, &PLACES), view(2, false, &PLACES));
    a.segments.get_mut(&vni(VNI)).unwrap().vxlan.local = address;
    b.segments.get_mut(&vni(VNI)).unwrap().fdb.values_mut().for_each(|vtep| *vtep = address);
    [a, b]
}

#[tokio::test]
async fn the_advertised_address_is_the_source_whatever_else_the_host_has() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    // 192.0.2.1 is the primary address, which the kernel would choose.
    a.net.sh("ip addr add 192.0.2.77/24 dev wire");
    count_sources(&b, &["192.0.2.1", "192.0.2.77"]);
    let [view_a, view_b] = moved("192.0.2.77");
    a.make(&view_a).await;
    b.make(&view_b).await;
    let (one, three) = (container(&lab, &a, '1', 2), container(&lab, &b, '3', 4));
    must_ping(&one, 4);
    must_ping(&three, 2);
    assert_eq!(counted(&b, "192.0.2.1"), 0);
    let before = counted(&b, "192.0.2.77");
    assert!(before > 0);

    // No way in the main table: only packets from that address find one, in another table.
    a.net.sh("ip route flush table main; ip rule add from 192.0.2.77 lookup 100");
    a.net.sh("ip route add 192.0.2.0/24 dev wire table 100 mtu 1350");
    let (peer, own) = (IpAddr::from([192, 0, 2, 2]), IpAddr::from([192, 0, 2, 77]));
    assert_eq!(a.facts.path_mtu(peer, own).await.unwrap(), Some(1350));
    assert_eq!(a.facts.path_mtu(peer, [192, 0, 2, 1].into()).await.unwrap(), None);
    must_ping(&one, 4);
    must_ping(&three, 2);
    assert_eq!(counted(&b, "192.0.2.1"), 0);
    assert!(counted(&b, "192.0.2.77") > before);
}

#[tokio::test]
async fn a_host_that_moves_to_another_address_keeps_its_containers() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    a.make(&view(1, false, &PLACES)).await;
    b.make(&view(2, false, &PLACES)).await;
    let (one, three) = (container(&lab, &a, '1', 2), container(&lab, &b, '3', 4));
    must_ping(&one, 4);
    for address in ["192.0.2.11", "192.0.2.1"] {
        a.net.sh(&format!("ip addr flush dev wire && ip addr add {address}/24 dev wire"));
        let [view_a, view_b] = moved(address);
        a.make(&view_a).await;
        b.make(&view_b).await;
        must_ping(&one, 4);
        must_ping(&three, 2);
    }
}
