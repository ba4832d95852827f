//! Nobody speaks in another's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    frames::{EVERYBODY, arp, discovery, ethernet, ip, tagged},
    scene::{Scene, ip4, ip6, mac},
};
use crate::{
    dataplane::fast_path::{FastPath, PortEntry},
    plan::Sources,
};

const ZERO4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ZERO6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Dropped,
}
use Fate::{Arrives, Dropped};

fn refused(path: &FastPath) -> u64 {
    let forged = path.forged().unwrap();
    forged.mac + forged.address
}

#[test]
fn what_a_container_sends_in_anothers_name_is_dropped_and_counted() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(2, 9000);
    let mut path = scene.fast();
    let [one, two] = &scene.containers[..] else { panic!("two") };
    let (own, peer) = (mac(1), mac(2).octets());
    let local: IpAddr = "fe80::9".parse().unwrap();
    let v4 = |source, length| ip(peer, own, source, ip4(2), length);
    let v6 = |source, length| ip(peer, own, source, ip6(2), length);
    let nd = |kind, about, headers| discovery(own, ip6(1), kind, about, headers, 0);
    let cases: [(&str, Vec<u8>, Fate); 38] = [
        ("IPv4", v4(ip4(1), 100), Arrives),
        ("another MAC", ip(peer, mac(9), ip4(1), ip4(2), 100), Dropped),
        ("the MAC of who is asked", ip(peer, mac(2), ip4(1), ip4(2), 100), Dropped),
        ("another MAC to everybody", ip(EVERYBODY, mac(9), ip4(1), ip4(2), 100), Dropped),
        ("another MAC on a frame of another kind", ethernet(peer, mac(9), 0x88b5, &[0; 50]), Dropped),
        ("another IPv4 address", v4(ip4(3), 100), Dropped),
        ("another IPv4 address to everybody", ip(EVERYBODY, own, ip4(3), ip4(2), 100), Dropped),
        ("another IPv4 address in a frame in pieces", v4(ip4(3), 8000), Dropped),
        ("IPv4 in a frame in pieces", v4(ip4(1), 8000), Arrives),
        ("no IPv4 address, to everybody", ip(EVERYBODY, own, ZERO4, ip4(2), 100), Arrives),
        ("no IPv4 address, to one", v4(ZERO4, 100), Dropped),
        ("IPv4 that ends too soon", ethernet(peer, own, 0x0800, &[0x45]), Arrives),
        ("IPv6", v6(ip6(1), 100), Arrives),
        ("another IPv6 address", v6(ip6(3), 100), Dropped),
        ("another IPv6 address in a frame in pieces", v6(ip6(3), 8000), Dropped),
        ("an IPv6 address of the link", v6(local, 100), Arrives),
        ("no IPv6 address", v6(ZERO6, 100), Arrives),
        ("IPv6 that ends too soon", ethernet(peer, own, 0x86dd, &[0x60]), Arrives),
        ("ARP", arp(own, own, ip4(1)), Arrives),
        ("ARP by who has no address yet", arp(own, own, ZERO4), Arrives),
        ("ARP for another address", arp(own, own, ip4(3)), Dropped),
        ("ARP for another MAC", arp(own, mac(9), ip4(1)), Dropped),
        ("ARP that ends too soon", ethernet(peer, own, 0x0806, &[0, 1, 8, 0, 6]), Arrives),
        ("an advertisement", nd(136, ip6(1), 0), Arrives),
        ("an advertisement of an address of the link", nd(136, local, 0), Arrives),
        ("an advertisement of another address", nd(136, ip6(3), 0), Dropped),
        ("the same behind a header", nd(136, ip6(3), 1), Dropped),
        ("the same behind four headers", nd(136, ip6(3), 4), Dropped),
        ("the same behind a long header", discovery(own, ip6(1), 136, ip6(3), 1, 255), Dropped),
        ("a good one behind four headers", nd(136, ip6(1), 4), Arrives),
        ("a good one behind more headers than anybody follows", nd(136, ip6(1), 5), Dropped),
        ("a question for another address", nd(135, ip6(3), 0), Arrives),
        ("a question by another", discovery(own, ip6(3), 135, ip6(2), 0, 0), Dropped),
        ("a question for a router", nd(133, ip6(1), 0), Arrives),
        ("a frame of another kind", ethernet(peer, own, 0x88b5, &[0; 50]), Arrives),
        ("another address in a VLAN", tagged(&v4(ip4(3), 100), 7), Arrives),
        ("another address behind a tag of no VLAN", tagged(&v4(ip4(3), 100), 0), Dropped),
        ("another address behind two such tags", tagged(&tagged(&v4(ip4(3), 100), 0), 0), Dropped),
    ];
    for (name, frame, fate) in cases {
        let before = refused(&path);
        one.send(&frame);
        match fate {
            Arrives => assert!(two.hears(&frame), "{name}: did not arrive"),
            Dropped => assert!(!two.hears_within(&frame, 30), "{name}: arrived"),
        }
        // What the container's own kernel says besides is good.
        assert_eq!(refused(&path) - before, u64::from(fate == Dropped), "{name}");
    }

    // Of an endpoint without a known address only the MAC is checked.
    path.set_port(one.port, PortEntry { sources: Sources::Any, ..one.entry(4096) }).unwrap();
    let before = refused(&path);
    for frame in [v4(ip4(3), 100), v6(ip6(3), 100), arp(own, mac(9), ip4(3)), nd(136, ip6(3), 0)] {
        one.send(&frame);
        assert!(two.hears(&frame), "{frame:x?}");
    }
    assert_eq!(refused(&path), before);
    one.send(&ip(peer, mac(9), ip4(1), ip4(2), 100));
    assert_eq!(refused(&path), before + 1);

    // One with IPv4 alone has no IPv6 address to speak with.
    let mut entry = one.entry(4096);
    entry.sources = Sources::of(&[ip4(1)]);
    path.set_port(one.port, entry).unwrap();
    one.send(&v6(ip6(1), 100));
    one.send(&v6(local, 100));
    assert_eq!(refused(&path), before + 2);

    // A port that is not known is left to the bridge altogether.
    path.forget_port(one.port).unwrap();
    path.forget_port(one.port).unwrap();
    let frame = ip(peer, mac(9), ip4(3), ip4(2), 100);
    one.send(&frame);
    assert!(two.hears(&frame));
    assert_eq!(refused(&path), before + 2);
}
