//! What containers can send, and what they cannot.

use std::{net::IpAddr, time::Duration};

use rs_overlay::{
    dataplane::{
        Dataplane,
        names::{host_link, vxlan_link},
    },
    plan::{Op, Overlay},
};

use crate::both_ways;
use crate::lab::{Lab, endpoint, mac, vni};
use crate::scene::{VNI, container, must_ping, view};

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
    let refused = one.try_sh(&format!("ping -n -c 1 -W 1 -M do -s {} 10.9.0.4", full + 1)).unwrap_err();
    assert!(refused.contains("too long"), "{refused}");

    // The UDP socket has stayed on the host, and the tunnel is really what carried this.
    let port = if six { "[::]:4789" } else { "0.0.0.0:4789" };
    assert!(a.net.sh("ss -lun").contains(port), "{}", a.net.sh("ss -lun"));
    assert!(!a.overlay().sh("ss -lun").contains("4789"));
    let tunnel = vxlan_link(vni(VNI));
    let before = a.overlay().sent(&tunnel);
    assert!(before > 0);

    // A question for an address that nobody has stays here.
    one.try_sh("ping -n -c 2 -i 0.2 -W 1 10.9.0.99").unwrap_err();
    one.try_sh("ping -n -c 2 -i 0.2 -W 1 fd00::99").unwrap_err();
    one.try_sh("ping -n -b -c 2 -i 0.2 -W 1 10.9.0.255").unwrap_err();
    one.try_sh("ping -n -c 2 -i 0.2 -W 1 -I eth0 ff02::1").ok();
    // So does one that a kernel puts to the station that it knows, to confirm that it is there.
    for ip in ["10.9.0.3", "fd00::3", "10.9.0.4", "fd00::4"] {
        one.sh(&format!("ip neigh change {ip} dev eth0 nud probe"));
        let confirmed = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            one.sh(&format!("ip neigh show {ip}")).contains("REACHABLE")
        });
        assert!(confirmed, "{}", one.sh("ip neigh"));
    }
    assert_eq!(a.overlay().sent(&tunnel), before);

    // Nobody speaks with another's MAC, be it a stranger's or a neighbour's.
    must_ping(&one, 4);
    let near = host_link(&endpoint('2'));
    for forged in [mac(99), mac(4), mac(3)] {
        one.sh("ip link set eth0 down");
        one.sh(&format!("ip link set eth0 address {forged}"));
        let before = (a.overlay().sent(&tunnel), a.overlay().sent(&near));
        one.sh("ip link set eth0 up");
        for n in [3, 4] {
            one.sh(&format!("ip neigh replace 10.9.0.{n} lladdr {} dev eth0 nud permanent", mac(n)));
            one.try_sh(&format!("ping -n -c 2 -i 0.2 -W 1 10.9.0.{n}")).unwrap_err();
        }
        assert_eq!((a.overlay().sent(&tunnel), a.overlay().sent(&near)), before, "as {forged}");
    }
    one.sh(&format!("ip link set eth0 down && ip link set eth0 address {} && ip link set eth0 up", mac(2)));
    one.sh("ip addr replace fd00::2/64 dev eth0 nodad");
    must_ping(&one, 4);
    must_ping(&three, 2);

    a.make(&Overlay::default()).await;
    assert!(!a.overlay().sh("ip -o link").contains(&tunnel));
    assert!(one.try_sh("ip link show eth0").is_err());
    assert!(!a.net.sh("ss -lun").contains("4789"));
}

both_ways! {
    containers_of_two_hosts_talk_over_ipv4 => two_hosts(false);
    containers_of_two_hosts_talk_over_ipv6 => two_hosts(true);
    a_changed_mac_reaches_containers_that_hold_the_old_one => changed_mac();
}

async fn changed_mac() {
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
    let news: Vec<_> = remote.iter().map(|ip| Op::Announce { vni: vni(VNI), ip: *ip, mac: mac(5) }).collect();
    assert!(host.kernel.apply(&news).await.iter().all(Result::is_ok));
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
