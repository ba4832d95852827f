//! The probe network: who is there is told by its kernel alone.

use std::{net::IpAddr, time::Duration};

use rs_overlay::{
    dataplane::{Dataplane, Prober, names::vxlan_link, prober::NeighbourProber},
    model::{NetworkId, NodeId, PROBE_MTU, Snapshot, Underlay, Vni, probe_address, probe_mac},
    plan::{Overlay, Situation, desired},
};
use serde_json::json;
use tokio::sync::watch;

use crate::lab::{Host, Lab, allowed};

fn vtep(host: usize, six: bool) -> IpAddr {
    if six {
        format!("2001:db8::{host}").parse().unwrap()
    } else {
        IpAddr::from([192, 0, 2, u8::try_from(host).unwrap()])
    }
}

/// What host `here` should have, as it knows the hosts `known`.
fn wanted(here: usize, known: &[usize], six: bool) -> Overlay {
    let node = |n: usize| {
        json!({"id": n.to_string(), "hostname": "h", "vtep": vtep(n, six), "vxlan_port": 4789, "underlay_mtu": 1500,
               "daemon_version": "", "scope": "local", "boot_id": "", "since": 0})
    };
    let mut snapshot = Snapshot::default();
    for n in known {
        snapshot.nodes.insert(NodeId::new(n.to_string()).unwrap(), serde_json::from_value(node(*n)).unwrap());
    }
    let situation = Situation {
        node: &NodeId::new(here.to_string()).unwrap(),
        vtep: vtep(here, six),
        vxlan_port: 4789,
        underlay_mtu: 1500,
        ports: &std::collections::BTreeMap::new(),
        networks: &std::collections::BTreeMap::new(),
        refused: &std::collections::BTreeSet::new(),
        fast_path: true,
    };
    desired(&snapshot, &situation)
}

fn prober(host: &Host, n: usize, six: bool) -> NeighbourProber {
    let (_, underlay) = watch::channel(Underlay::new(vtep(n, six), 1500));
    NeighbourProber { namespace: host.config.namespace.clone(), underlay }
}

async fn answers(prober: &NeighbourProber, host: usize, six: bool) -> bool {
    prober.answers(vtep(host, six)).await.unwrap()
}

async fn hosts_find_each_other(six: bool) {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let (view_a, view_b) = (wanted(1, &[1, 2], six), wanted(2, &[1, 2], six));
    assert_eq!(view_a.segments[&Vni::PROBE].vxlan.mtu, PROBE_MTU);
    a.make(&view_a).await;
    assert_eq!(a.make(&view_a).await, vec![], "the second look finds a difference");
    let ask = prober(&a, 1, six);
    assert!(!answers(&ask, 2, six).await, "a host without a probe device has answered");
    b.make(&view_b).await;
    assert!(answers(&ask, 2, six).await);
    assert!(answers(&prober(&b, 2, six), 1, six).await);
    // Learning and being asked has left nothing that looks like a difference.
    assert_eq!(a.kernel.observe().await.unwrap(), view_a);
    assert_eq!(b.kernel.observe().await.unwrap(), view_b);

    // Nobody works on host b any more, and it has never heard of whoever asks.
    let stranger = wanted(2, &[2], six);
    b.make(&stranger).await;
    b.overlay().sh(&format!("ip -6 neigh flush dev {0}; bridge fdb show dev {0}", vxlan_link(Vni::PROBE)));
    let Host { kernel, .. } = b;
    drop(kernel);
    assert!(answers(&ask, 2, six).await, "a host whose daemon is dead does not answer a stranger");

    a.net.sh("ip link set wire down");
    assert!(!answers(&ask, 2, six).await, "an answer came over a wire that is cut");
    a.net.sh("ip link set wire up");
    if six {
        a.net.sh("ip addr replace 2001:db8::1/64 dev wire nodad");
    }
    let mut back = false;
    for _ in 0..20 {
        back = back || answers(&ask, 2, six).await;
    }
    assert!(back, "no answer after the wire was mended");
    let left = a.make(&Overlay::default()).await;
    assert!(!a.overlay().sh("ip -o link").contains(&vxlan_link(Vni::PROBE)), "{left:?}");
    assert!(ask.answers(vtep(2, six)).await.is_err(), "a host without a probe device cannot ask");
}

#[tokio::test]
async fn hosts_find_each_other_over_ipv4() {
    if allowed() {
        hosts_find_each_other(false).await;
    }
}

#[tokio::test]
async fn hosts_find_each_other_over_ipv6() {
    if allowed() {
        hosts_find_each_other(true).await;
    }
}

#[tokio::test]
async fn what_others_change_on_the_probe_device_is_repaired() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let wish = wanted(1, &[1, 2, 3], false);
    a.make(&wish).await;
    b.make(&wanted(2, &[1, 2], false)).await;
    let ask = prober(&a, 1, false);
    let device = vxlan_link(Vni::PROBE);
    let (mac, own, peer) =
        (probe_mac(vtep(2, false)), probe_address(vtep(1, false)), probe_address(vtep(2, false)));
    let inside = a.overlay();
    let mut events = a.kernel.events().unwrap();
    for meddling in [
        format!("bridge fdb replace {mac} dev {device} dst 192.0.2.99 self"),
        format!("bridge fdb del {mac} dev {device} self"),
        format!("bridge fdb add 02:70:c0:00:02:63 dev {device} dst 192.0.2.99 self"),
        format!("ip neigh del {peer} dev {device}"),
        format!("ip neigh replace {peer} lladdr 02:00:00:00:00:01 dev {device} nud permanent proto 82"),
        format!("ip neigh replace {peer} lladdr {mac} dev {device} nud stale proto 82"),
        format!("ip addr del {own}/64 dev {device}"),
        format!("ip link set {device} down"),
        format!("ip link set {device} mtu 1300"),
        format!("ip link set {device} address 02:00:00:00:00:01"),
        format!("ip link set {device} alias ''"),
        format!("ip link set {device} type vxlan nolearning"),
        format!("ip link del {device}"),
    ] {
        while events.try_recv().is_ok() {}
        inside.sh(&meddling);
        let told = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
        assert!(matches!(told, Ok(Some(_))), "no event: {meddling}");
        assert_ne!(a.kernel.observe().await.unwrap(), wish, "unnoticed: {meddling}");
        let steps = a.make(&wish).await;
        assert!(answers(&ask, 2, false).await, "after {meddling}, {steps:?}");
    }
    // Its name in somebody else's hands is told, and the networks go on.
    inside.sh(&format!("ip link del {device} && ip link add {device} type bridge"));
    let steps = rs_overlay::plan::diff(&a.kernel.observe().await.unwrap(), &wish);
    let first = a.kernel.apply(&steps).await.remove(0).unwrap_err().to_string();
    assert!(first.contains(&device) && first.contains("not ours"), "{first}");
    assert_eq!(NetworkId::of_probes().as_str().parse::<u32>().ok(), None);
}

#[tokio::test]
async fn a_namespace_without_ipv6_says_why_it_cannot_be_asked() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    a.overlay().sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let wish = wanted(1, &[1, 2], false);
    let steps = rs_overlay::plan::diff(&a.kernel.observe().await.unwrap(), &wish);
    let first = a.kernel.apply(&steps).await.remove(0).unwrap_err().to_string();
    assert!(first.contains("IPv6"), "{first}");
    let found = a.kernel.observe().await.unwrap();
    assert_eq!(found.segments[&Vni::PROBE].vxlan.port, 0, "{found:?}");
}
