//! Who says to be somebody else is not heard, and is counted; who may be anybody is heard.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use rs_overlay::{
    dataplane::{Forged, names::host_link},
    plan::Sources,
};

use crate::both_ways;
use crate::lab::{Host, Lab, Net, endpoint, mac, vni};
use crate::scene::{VNI, container, must_ping, view};

const PLACES: [(char, u8, usize); 3] = [('1', 2, 1), ('2', 3, 1), ('3', 4, 2)];
const PORT: u16 = 7000;

fn forged(host: &Host) -> Forged {
    host.kernel.forged().unwrap()
}

/// A program of container `n` that listens on both families.
fn listen(net: &Net) -> UdpSocket {
    net.run(|| {
        let socket = UdpSocket::bind(("::", PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    })
}

/// Sends a packet from `source`, which the container has on its loopback, to container `n`.
fn say(net: &Net, source: &str, to: &str) {
    let source: IpAddr = source.parse().unwrap();
    let to: IpAddr = to.parse().unwrap();
    net.run(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"?", (to, PORT))).unwrap();
}

fn heard(socket: &UdpSocket) -> Option<IpAddr> {
    let (_, from) = socket.recv_from(&mut [0; 8]).ok()?;
    Some(from.ip().to_canonical())
}

/// Addresses that are none of the interface's, but that the container can send from.
fn give_strange_addresses(net: &Net) {
    for address in ["10.9.0.77/32", "fd00::77/128"] {
        net.sh(&format!("ip addr add {address} dev lo {}", if address.contains(':') { "nodad" } else { "" }));
    }
    net.sh("sysctl -qw net.ipv4.ip_nonlocal_bind=1");
}

async fn strangers() {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    a.make(&view(1, false, &PLACES)).await;
    b.make(&view(2, false, &PLACES)).await;
    let (one, two) = (container(&lab, &a, '1', 2), container(&lab, &a, '2', 3));
    let three = container(&lab, &b, '3', 4);
    must_ping(&one, 4);
    must_ping(&one, 3);
    assert_eq!(forged(&a), Forged::default());
    let (near, far) = (listen(&two), listen(&three));
    for (source, to, ears) in [
        ("10.9.0.2", "10.9.0.3", &near),
        ("10.9.0.2", "10.9.0.4", &far),
        ("fd00::2", "fd00::3", &near),
        ("fd00::2", "fd00::4", &far),
    ] {
        say(&one, source, to);
        assert_eq!(heard(ears), Some(source.parse().unwrap()), "{source} to {to}");
    }
    give_strange_addresses(&one);
    let mut count = 0;
    for (source, to, ears) in [
        ("10.9.0.77", "10.9.0.3", &near),
        ("10.9.0.77", "10.9.0.4", &far),
        ("fd00::77", "fd00::3", &near),
        ("fd00::77", "fd00::4", &far),
    ] {
        say(&one, source, to);
        assert_eq!(heard(ears), None, "{source} to {to}");
        count += 1;
        assert!(forged(&a).address >= count, "{source} to {to}: {:?}", forged(&a));
    }
    // Nor does anybody hear that another one's address is at this station.
    one.sh("busybox arping -q -U -c 2 -w 2 -I eth0 -s 10.9.0.4 10.9.0.4 || true");
    let told = two.sh("ip neigh show 10.9.0.4");
    assert!(!told.contains(&mac(2).to_string()), "{told}");
    assert!(forged(&a).address > count, "{:?}", forged(&a));
    // Another station is refused as before, and counted.
    let before = forged(&a).mac;
    one.sh(&format!("ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up", mac(99)));
    one.sh(&format!("ip neigh replace 10.9.0.3 lladdr {} dev eth0 nud permanent", mac(3)));
    say(&one, "10.9.0.2", "10.9.0.3");
    assert_eq!(heard(&near), None);
    assert!(forged(&a).mac > before, "{:?}", forged(&a));
    // Who is honest goes on, also after somebody has taken the rules away and they were put back.
    must_ping(&two, 4);
    a.overlay().sh("nft delete table bridge rs_overlay_sources");
    a.make(&view(1, false, &PLACES)).await;
    give_strange_addresses(&two);
    say(&two, "10.9.0.77", "10.9.0.4");
    assert_eq!(heard(&far), None);
    must_ping(&two, 4);
}

async fn anybody() {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let mut free = view(1, false, &PLACES);
    for port in free.segments.get_mut(&vni(VNI)).unwrap().ports.values_mut() {
        port.sources = Sources::Any;
    }
    a.make(&free).await;
    b.make(&view(2, false, &PLACES)).await;
    let one = container(&lab, &a, '1', 2);
    let three = container(&lab, &b, '3', 4);
    must_ping(&one, 4);
    let far = listen(&three);
    give_strange_addresses(&one);
    for (source, to) in [("10.9.0.77", "10.9.0.4"), ("fd00::77", "fd00::4")] {
        say(&one, source, to);
        assert_eq!(heard(&far), Some(source.parse().unwrap()));
    }
    // An option that changes is followed, and a port that goes leaves nothing behind.
    a.make(&view(1, false, &PLACES)).await;
    say(&one, "10.9.0.77", "10.9.0.4");
    assert_eq!(heard(&far), None);
    a.make(&view(1, false, &PLACES[1..])).await;
    let rules = a.overlay().sh("nft list table bridge rs_overlay_sources");
    assert!(
        !rules.contains(&host_link(&endpoint('1'))) && rules.contains(&host_link(&endpoint('2'))),
        "{rules}"
    );
}

async fn link_local() {
    let lab = Lab::new();
    let host = lab.host("a").await;
    host.make(&view(1, false, &PLACES[..2])).await;
    let (one, two) = (container(&lab, &host, '1', 2), container(&lab, &host, '2', 3));
    must_ping(&one, 3);
    let own = |net: &Net| {
        let text = net.sh("ip -o -6 addr show dev eth0 scope link");
        text.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
    };
    let target = own(&two);
    one.ping(&format!("{target}%eth0"), 56).unwrap();
    // Who has no address yet may ask for one.
    one.sh("ip addr flush dev eth0 scope global");
    let socket = one.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap());
    socket.set_broadcast(true).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &"eth0".into()).unwrap();
    let ears = two.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap());
    ears.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"discover", (Ipv4Addr::BROADCAST, 67)).unwrap();
    assert_eq!(heard(&ears), Some(Ipv4Addr::UNSPECIFIED.into()));
    assert_eq!(forged(&host), Forged::default());
}

both_ways! {
    a_forged_source_is_dropped_and_counted => strangers();
    without_a_check_a_container_sends_from_any_address => anybody();
    addresses_of_the_link_and_none_at_all_are_free => link_local();
}
