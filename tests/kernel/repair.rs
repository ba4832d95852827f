//! Every state leads to the wanted one.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use rs_overlay::{
    dataplane::{
        Attachment, Dataplane,
        names::{bridge_link, container_link, host_link, vxlan_link},
        namespace::Namespace,
        netlink::Kernel,
    },
    model::EndpointId,
    plan::{Op, Overlay},
};

use crate::both_ways;
use crate::scene::{VNI, container, must_ping, view};
use crate::{
    lab::{Host, Lab, allowed, endpoint, mac, open, vni},
    overlays::{overlay, possible},
};

both_ways! {
    any_overlay_can_be_made_from_any_other => any_from_any();
    what_others_change_is_seen_and_repaired_without_touching_the_container => meddling();
    a_container_that_has_lost_its_link_gets_it_back => lost_link();
}

async fn any_from_any() {
    let lab = Lab::new();
    let host = lab.host("a").await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let wanted = host.can(&possible(overlay().new_tree(&mut runner).unwrap().current()));
        host.make(&wanted).await;
        assert_eq!(host.make(&wanted).await, vec![]);
    }
    host.make(&Overlay::default()).await;
    let left = host.overlay().sh("ip -o link");
    assert_eq!(left.lines().count(), 1, "{left}");
    let left = host.net.sh("ip -o link; ip route show table all proto 82");
    assert_eq!(left.lines().count(), 1, "{left}");
}

async fn meddling() {
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

/// A pair dies as a whole: the port is made again by the plan, its other end then waits for its container.
async fn lost_link() {
    let lab = Lab::new();
    let (a, b) = (lab.host("a").await, lab.host("b").await);
    lab.wire(&a, &b);
    let places = [('1', 2, 1), ('3', 4, 2)];
    let wanted = view(1, false, &places);
    a.make(&wanted).await;
    b.make(&view(2, false, &places)).await;
    let one = container(&lab, &a, '1', 2);
    let _three = container(&lab, &b, '3', 4);
    one.sh("ip link add eth1 type bridge && ip link set eth1 up");
    must_ping(&one, 4);
    let attachment = Attachment {
        endpoint: endpoint('1'),
        sandbox: one.path(),
        addresses: ["10.9.0.2/24", "fd00::2/64"].map(|net| net.parse().unwrap()).into(),
    };
    assert!(a.kernel.waiting().await.unwrap().is_empty());
    let outside = format!("ip link del {}", host_link(&endpoint('1')));
    for (place, meddling) in [(&a.overlay(), outside.as_str()), (&one, "ip link del eth0")] {
        place.sh(meddling);
        assert_ne!(a.kernel.observe().await.unwrap(), wanted, "unnoticed: {meddling}");
        a.make(&wanted).await;
        assert_eq!(a.kernel.waiting().await.unwrap(), [endpoint('1')].into());
        assert_eq!(a.kernel.attach(&attachment).await.unwrap(), "eth0");
        assert!(a.kernel.waiting().await.unwrap().is_empty());
        assert_eq!(a.kernel.observe().await.unwrap(), wanted);
        must_ping(&one, 4);
        let gone = a.kernel.attach(&attachment).await.unwrap_err().to_string();
        assert!(gone.contains("no longer waits"), "{gone}");
    }
    let nowhere = Attachment { sandbox: "/nowhere".into(), ..attachment };
    let told = a.kernel.attach(&nowhere).await.unwrap_err().to_string();
    assert!(told.contains("/nowhere"), "{told}");
}

#[tokio::test]
async fn a_pin_that_was_taken_away_is_put_back() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1)]);
    host.make(&wanted).await;
    assert!(host.kernel.is_pinned() && !host.kernel.keep().await.unwrap());
    Namespace::unpin(&host.config.namespace).unwrap();
    assert!(!host.kernel.is_pinned());
    assert!(host.kernel.keep().await.unwrap() && host.kernel.is_pinned());
    // What lies there and is not ours stays, and is told.
    Namespace::unpin(&host.config.namespace).unwrap();
    std::fs::write(&host.config.namespace, "precious").unwrap();
    let told = host.kernel.keep().await.unwrap_err().to_string();
    assert!(told.contains("something else lies there"), "{told}");
    std::fs::remove_file(&host.config.namespace).unwrap();
    assert!(host.kernel.keep().await.unwrap());
    let Host { kernel, config, .. } = host;
    drop(kernel);
    let mut without_programs = wanted.clone();
    for segment in without_programs.segments.values_mut() {
        segment.fast = false;
        segment.ports.values_mut().for_each(|port| port.fast = false);
    }
    assert_eq!(open(&config).await.observe().await.unwrap(), without_programs);
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
    let overlay = host.overlay();
    let Host { kernel, config, .. } = host;
    drop(kernel);
    let again = open(&config).await;
    assert_eq!(overlay.sh("ip -o link").lines().count(), 3);
    let second = Kernel::open(config).await.map(drop).unwrap_err().to_string();
    assert!(second.contains("another rs-overlay daemon"), "{second}");
    drop(again);
}
