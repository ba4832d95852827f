//! Broadcast and multicast between hosts: to those that have endpoints, and to no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    time::{Duration, Instant},
};

use rs_overlay::{
    dataplane::{Dataplane, names::vxlan_link},
    plan::Overlay,
};

use crate::both_ways;
use crate::lab::{Host, Lab, Net, mac, vni};
use crate::scene::{VNI, container, must_ping, view};

const PORT: u16 = 5000;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x33);
const COUNT: u32 = 20;

/// The view of a host in a network that floods to `peers`.
fn flooding(here: usize, six: bool, places: &[(char, u8, usize)], peers: &[usize]) -> Overlay {
    let mut wanted = view(here, six, places);
    let segment = wanted.segments.get_mut(&vni(VNI)).unwrap();
    segment.vxlan.flood = true;
    segment.fast = false;
    segment.ports.values_mut().for_each(|port| port.fast = false);
    let address = |n: &usize| -> IpAddr {
        if six { format!("2001:db8::{n}").parse().unwrap() } else { format!("192.0.2.{n}").parse().unwrap() }
    };
    segment.flood = peers.iter().map(address).collect();
    wanted
}

/// A program that listens to all there is.
fn listen(net: &Net, own: Ipv4Addr) -> [UdpSocket; 2] {
    net.run(|| {
        let four = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        four.join_multicast_v4(&GROUP, &own).unwrap();
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT + 1)).unwrap();
        six.join_multicast_v6(&GROUP6, index).unwrap();
        [four, six]
    })
}

/// Sends [`COUNT`] numbered packets to each of group, group and broadcast address.
fn send(net: &Net, salt: u32) {
    net.run(|| {
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let four = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        four.set_broadcast(true).unwrap();
        let six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        for n in 0..COUNT {
            let say = |kind: u32| (salt + 100 * kind + n).to_be_bytes();
            four.send_to(&say(0), (GROUP, PORT)).unwrap();
            four.send_to(&say(1), (Ipv4Addr::new(10, 9, 0, 255), PORT)).unwrap();
            six.send_to(&say(2), SocketAddr::V6(SocketAddrV6::new(GROUP6, PORT + 1, 0, index))).unwrap();
        }
    });
}

/// How often each number has arrived, until all have or nothing has come for a second.
fn heard(sockets: &[UdpSocket; 2], want: usize) -> BTreeMap<u32, u32> {
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut last, mut total) = (Instant::now(), 0);
    while last.elapsed() < Duration::from_secs(1) && total < 2 * want {
        for socket in sockets {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut buffer = [0; 4];
            while socket.recv(&mut buffer).is_ok() {
                *numbers.entry(u32::from_be_bytes(buffer)).or_default() += 1;
                (last, total) = (Instant::now(), total + 1);
            }
        }
    }
    numbers
}

fn all(salt: u32) -> BTreeMap<u32, u32> {
    let numbers = (0..3).flat_map(|kind| (0..COUNT).map(move |n| salt + 100 * kind + n));
    numbers.map(|number| (number, 1)).collect()
}

/// UDP packets that a host has received, whether somebody wanted them or not.
fn received(host: &Host) -> u64 {
    let text = host.net.sh("nstat -asz UdpInDatagrams UdpNoPorts Udp6InDatagrams Udp6NoPorts");
    text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

async fn flood(six: bool) {
    let lab = Lab::new();
    let hosts = [lab.host("a").await, lab.host("b").await, lab.host("c").await];
    let [a, b, c] = &hosts;
    let _switch = lab.switch(&[a, b, c]);
    let places = [('1', 2, 1), ('2', 3, 1), ('3', 4, 2)];
    let (view_a, view_b) = (flooding(1, six, &places, &[2]), flooding(2, six, &places, &[1]));
    a.make(&view_a).await;
    b.make(&view_b).await;
    assert_eq!(a.make(&view_a).await, vec![], "the second look finds a difference");
    let (one, two) = (container(&lab, a, '1', 2), container(&lab, a, '2', 3));
    let three = container(&lab, b, '3', 4);
    for net in [&one, &two, &three] {
        net.sh("ip route add 239.0.0.0/8 dev eth0");
    }
    must_ping(&one, 4);
    let near = listen(&two, [10, 9, 0, 3].into());
    let far = listen(&three, [10, 9, 0, 4].into());
    let own = listen(&one, [10, 9, 0, 2].into());
    let before = received(c);
    // Both ways, once each: nothing comes twice, nothing comes back.
    send(&one, 1000);
    for ears in [&near, &far] {
        assert_eq!(heard(ears, 3 * COUNT as usize), all(1000));
    }
    // A sender hears its own multicast, by its own kernel, and not its own broadcast from the wire.
    drop(heard(&own, 3 * COUNT as usize));
    send(&three, 5000);
    for ears in [&near, &own] {
        assert_eq!(heard(ears, 3 * COUNT as usize), all(5000));
    }
    assert_eq!(received(c), before, "a host without an endpoint has got packets of the overlay");

    // What is known is answered here as before; what is not goes out.
    let tunnel = vxlan_link(vni(VNI));
    let asks = |ip: &str| {
        let before = a.overlay().sent(&tunnel);
        let answered = one.try_sh(&format!("busybox arping -c 1 -w 1 -I eth0 {ip}")).is_ok();
        (answered, a.overlay().sent(&tunnel) - before)
    };
    // Other frames for all, such as reports of group members, may be on their way at any time.
    let quiet = (0..10).any(|_| asks("10.9.0.4") == (true, 0));
    assert!(quiet, "every question for a known address left the host");
    let (answered, sent) = asks("10.9.0.99");
    assert!(!answered && sent > 0, "a question for an unknown address has not left the host");

    // Nobody floods with another's MAC.
    one.sh(&format!("ip link set eth0 down && ip link set eth0 address {} && ip link set eth0 up", mac(4)));
    one.sh("ip route add 239.0.0.0/8 dev eth0; ip addr replace fd00::2/64 dev eth0 nodad");
    send(&one, 9000);
    let told = heard(&near, 1);
    assert!(heard(&far, 1).keys().chain(told.keys()).all(|number| *number < 9000), "{told:?}");

    // What somebody else changes is noticed and repaired.
    let peer = if six { "2001:db8::2" } else { "192.0.2.2" };
    let stranger = if six { "2001:db8::9" } else { "192.0.2.9" };
    let all_zero = "00:00:00:00:00:00";
    for meddling in [
        format!("bridge fdb del {all_zero} dev {tunnel} dst {peer} self"),
        format!("bridge fdb append {all_zero} dev {tunnel} dst {stranger} self permanent"),
        format!("bridge fdb append {all_zero} dev {tunnel} dst {peer} port 4999 self permanent"),
        format!("bridge link set dev {tunnel} mcast_flood off bcast_flood off"),
        format!("bridge link set dev {tunnel} neigh_suppress off"),
        format!("bridge link set dev {tunnel} flood on"),
    ] {
        a.overlay().sh(&meddling);
        assert_ne!(a.kernel.observe().await.unwrap(), view_a, "unnoticed: {meddling}");
        // An entry that is not ours takes its neighbours along.
        a.apply(&view_a).await;
        a.make(&view_a).await;
    }

    // The last endpoint of the other host ends, and so does the flood to it.
    let alone = flooding(1, six, &places[..2], &[]);
    let steps = a.make(&alone).await;
    assert!(steps.iter().any(|step| step.to_string().starts_with("delete flood")), "{steps:?}");
    // Without the option nothing floods.
    a.make(&view(1, six, &places)).await;
    let entries = a.overlay().sh(&format!("bridge fdb show dev {tunnel}"));
    assert!(!entries.contains(all_zero), "{entries}");
    let macs: BTreeSet<_> = entries.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(macs.contains(mac(4).to_string().as_str()), "{entries}");
}

both_ways! {
    a_network_that_floods_does_so_over_ipv4 => flood(false);
    a_network_that_floods_does_so_over_ipv6 => flood(true);
}
