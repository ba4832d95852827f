//! What the daemon learns of a host's addresses and routes, on a host that is a network namespace.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail")]

mod common {
    pub(crate) mod lab;
}

use std::net::IpAddr;

use common::lab::{Lab, allowed};
use rs_overlay::{dataplane::Dataplane, plan::Overlay};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_host_without_routes_has_no_answers() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let lab_host = lab.host("a").await;
    let kernel = &lab_host.facts;
    assert_eq!(kernel.default_source().await.unwrap(), None);
    assert_eq!(kernel.host_routes().await.unwrap(), vec![]);
    assert_eq!(kernel.interface_address("none").await.unwrap(), Vec::<IpAddr>::new());
    assert_eq!(kernel.path_mtu(ip("192.0.2.7"), ip("192.0.2.1")).await.unwrap(), None);
    assert_eq!(kernel.link_mtu_of(ip("192.0.2.1")).await.unwrap(), None);
    assert!(!kernel.has_address(ip("192.0.2.1")).await.unwrap());
    assert_eq!(lab_host.kernel.observe().await.unwrap(), Overlay::default());
}

#[tokio::test]
async fn addresses_routes_and_mtus_are_read() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (host, other) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&host, &other);
    let kernel = &host.facts;
    host.net.sh("ip link set wire mtu 1400");
    host.net.sh("ip addr add 192.0.2.77/24 dev wire");
    assert_eq!(kernel.default_source().await.unwrap(), None);
    host.net.sh("ip -6 route add default via 2001:db8::2");
    assert_eq!(kernel.default_source().await.unwrap(), Some(ip("2001:db8::1")));
    host.net.sh("ip route add default via 192.0.2.2 metric 100");
    assert_eq!(kernel.default_source().await.unwrap(), Some(ip("192.0.2.1")));
    host.net.sh("ip route add default via 192.0.2.2 src 192.0.2.77 metric 50");
    assert_eq!(kernel.default_source().await.unwrap(), Some(ip("192.0.2.77")));

    let addresses = kernel.interface_address("wire").await.unwrap();
    assert_eq!(addresses, [ip("192.0.2.1"), ip("192.0.2.77"), ip("2001:db8::1")]);
    assert!(kernel.has_address(ip("2001:db8::1")).await.unwrap());
    assert!(!kernel.has_address(ip("192.0.2.2")).await.unwrap());

    host.net.sh(
        "ip route add 198.51.100.0/24 via 192.0.2.2 && ip route add 198.51.100.0/24 via 192.0.2.2 metric 9",
    );
    host.make(&Overlay {
        guards: std::collections::BTreeSet::from(["203.0.113.0/24".parse().unwrap()]).into(),
        ..Overlay::default()
    })
    .await;
    let routes: Vec<_> = kernel
        .host_routes()
        .await
        .unwrap()
        .into_iter()
        .map(|route| format!("{} {}", route.cidr, route.dev))
        .collect();
    assert_eq!(routes, ["192.0.2.0/24 wire", "198.51.100.0/24 wire", "2001:db8::/64 wire"]);

    assert_eq!(kernel.link_mtu_of(ip("192.0.2.1")).await.unwrap(), Some(1400));
    assert_eq!(kernel.path_mtu(ip("192.0.2.2"), ip("192.0.2.1")).await.unwrap(), Some(1400));
    assert_eq!(kernel.path_mtu(ip("2001:db8::2"), ip("2001:db8::1")).await.unwrap(), Some(1400));
    host.net.sh("ip route add 198.51.100.7 via 192.0.2.2 mtu 1300");
    assert_eq!(kernel.path_mtu(ip("198.51.100.7"), ip("192.0.2.1")).await.unwrap(), Some(1300));
    // A source that is not ours has no way anywhere.
    assert_eq!(kernel.path_mtu(ip("192.0.2.2"), ip("192.0.2.99")).await.unwrap(), None);
}

#[tokio::test]
async fn changes_of_an_underlay_are_noticed_and_other_things_are_not() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (host, other) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&host, &other);
    let mut notices = host.facts.notices().unwrap();
    let patience = std::time::Duration::from_secs(10);
    let rest = std::time::Duration::from_millis(300);
    for change in [
        "ip addr add 192.0.2.9/24 dev wire",
        "ip addr del 192.0.2.9/24 dev wire",
        "ip link set wire mtu 1400",
        "ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1300",
        "ip rule add from 192.0.2.1 lookup 100",
        "ip -6 route add 2001:db8:9::/48 via 2001:db8::2",
    ] {
        // What an earlier change brings about comes in its own time.
        while tokio::time::timeout(rest, notices.changed()).await.is_ok() {}
        host.net.sh(change);
        assert!(tokio::time::timeout(patience, notices.changed()).await.is_ok(), "unnoticed: {change}");
    }
    while tokio::time::timeout(rest, notices.changed()).await.is_ok() {}
    host.make(&Overlay {
        guards: std::collections::BTreeSet::from(["203.0.113.0/24".parse().unwrap()]).into(),
        ..Overlay::default()
    })
    .await;
    assert!(tokio::time::timeout(rest, notices.changed()).await.is_err(), "a guard route is no news");
}
