//! What is not ours, and what outlives us.

use rs_overlay::{
    dataplane::{
        Dataplane, DataplaneError,
        names::container_link,
        netlink::{Kernel, KernelConfig},
    },
    model::ForeignVxlan,
    plan::{Op, Overlay, diff},
};

use crate::lab::{Host, Lab, allowed, endpoint, open};
use crate::scene::{VNI, container, must_ping, view};

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
    let Host { kernel, config, net: _net, .. } = a;
    drop(kernel);
    must_ping(&one, 4);
    // The programs have ended with their daemon, and nothing else.
    let again = open(&config).await;
    let missing = diff(&again.observe().await.unwrap(), &wanted);
    let of_programs = |step: &Op| matches!(step, Op::SetPath { .. } | Op::SetPortPath { .. });
    assert!(missing.len() == 2 && missing.iter().all(of_programs), "{missing:?}");
    must_ping(&one, 4);
    assert!(again.apply(&missing).await.iter().all(Result::is_ok));
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
    // What was to come on top of it has failed as well.
    assert!(matches!(failures.as_slice(), [DataplaneError::Taken { .. }, ..]), "{failures:?}");
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

/// A device that takes all VNIs has the port to itself, and so has any program's socket.
#[tokio::test]
async fn a_port_of_another_program_is_named() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1)]);
    let refused = async || {
        let steps = diff(&host.kernel.observe().await.unwrap(), &wanted);
        let results = host.kernel.apply(&steps).await;
        let error = results.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(error, DataplaneError::Taken { .. }), "{error}");
        error.to_string()
    };
    host.net.sh("ip link add all0 type vxlan external dstport 4789 && ip link set all0 up");
    let told = refused().await;
    assert!(told.contains("all0") && told.contains("UDP port 4789"), "{told}");
    host.net.sh("ip link del all0");
    let socket = host.net.run(|| std::net::UdpSocket::bind("0.0.0.0:4789").unwrap());
    let told = refused().await;
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    drop(socket);
    host.make(&wanted).await;
}

#[tokio::test]
async fn vxlan_devices_of_other_programs_are_listed_and_ours_are_not() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    host.make(&view(1, false, &[('1', 2, 1)])).await;
    assert_eq!(host.facts.foreign_vxlans().await.unwrap(), []);
    host.net.sh("ip link add flannel.1 type vxlan id 5000 dstport 8472 local 192.0.2.1");
    let device = ForeignVxlan { vni: 5000, port: 8472, dev: "flannel.1".into() };
    assert_eq!(host.facts.foreign_vxlans().await.unwrap(), [device]);
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
    let wanted = Overlay { guards: std::collections::BTreeSet::from([guard]).into(), ..Overlay::default() };
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
