//! Notices of changes, failures and times.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use rs_overlay::{
    dataplane::{
        Dataplane,
        names::{bridge_link, container_link},
    },
    model::MacAddr,
    plan::Op,
};

use crate::lab::{Lab, allowed, endpoint, mac, vni};
use crate::scene::{VNI, view};

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

/// Also prints how long it takes (`--nocapture`).
#[tokio::test]
async fn large_networks_go_in_and_out_whole() {
    if !allowed() {
        return;
    }
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

#[tokio::test]
async fn failures_are_told_of_the_right_step_in_the_kernels_own_words() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    host.make(&view(1, false, &[('1', 2, 1)])).await;
    let wrong = 150;
    let steps: Vec<_> = (0..300_u16)
        .map(|n| {
            let [a, b] = n.to_be_bytes();
            let mac = MacAddr::new([2, 0, 0, 0, a, b]).unwrap();
            // The device has an IPv4 address and takes no IPv6 destination.
            let vtep = if n == wrong { "2001:db8::2".parse().unwrap() } else { IpAddr::from([192, 0, 2, 2]) };
            Op::SetFdb { vni: vni(VNI), mac, vtep }
        })
        .collect();
    for (n, result) in host.kernel.apply(&steps).await.into_iter().enumerate() {
        assert_eq!(result.is_err(), n == usize::from(wrong), "step {n}: {result:?}");
    }
    let found = host.kernel.observe().await.unwrap();
    assert_eq!(found.segments[&vni(VNI)].fdb.len(), 300, "the half of the wrong one shows as well");

    let results = host.kernel.apply(&[Op::SetMtu { vni: vni(VNI), mtu: 1_000_000 }]).await;
    let text = results[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("mtu greater than device maximum") && text.contains("4096"), "{text}");
    let missing = Op::SetFdb { vni: vni(VNI + 1), mac: mac(9), vtep: IpAddr::from([192, 0, 2, 2]) };
    let gone = Op::DeleteFdb { vni: vni(VNI + 1), mac: mac(9) };
    let results = host.kernel.apply(&[missing, gone, Op::DeleteSegment { vni: vni(VNI + 1) }]).await;
    assert!(results[0].is_err() && results[1].is_ok() && results[2].is_ok(), "{results:?}");
}

#[tokio::test]
async fn a_request_given_up_half_way_spoils_none_after_it() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[('1', 2, 1), ('3', 4, 2)]);
    host.make(&wanted).await;
    for polls in 0..12 {
        {
            let mut observing = pin!(host.kernel.observe());
            for _ in 0..polls {
                let done = poll_fn(|context| Poll::Ready(observing.as_mut().poll(context).is_ready()));
                if done.await {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(host.kernel.observe().await.unwrap(), wanted, "after {polls} polls");
    }
}

#[tokio::test]
async fn lost_notices_are_a_notice_and_not_the_last_one() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("a").await;
    let wanted = view(1, false, &[]);
    host.make(&wanted).await;
    let mut events = host.kernel.events().unwrap();
    let bridge = bridge_link(vni(VNI));
    // This thread is the listener's as well: while it waits for the command, nobody reads.
    host.overlay().sh(&format!(
        "for i in $(seq 5000); do \
           echo neigh replace 10.1.$((i / 250)).$((i % 250)) lladdr 02:00:00:00:00:01 dev {bridge} nud permanent; \
         done | ip -batch -"
    ));
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, events.recv()).await.unwrap().unwrap();
    while tokio::time::timeout(Duration::from_millis(500), events.recv()).await.is_ok() {}
    host.overlay().sh(&format!("ip link set {bridge} down"));
    tokio::time::timeout(patience, events.recv()).await.unwrap().unwrap();
    // Neighbours without our tag are not ours.
    host.overlay()
        .sh(&format!("ip neigh replace 10.9.0.9 lladdr 02:00:00:00:00:01 dev {bridge} nud permanent"));
    host.make(&wanted).await;
    assert!(host.overlay().sh(&format!("ip neigh show 10.9.0.9 dev {bridge}")).contains("PERMANENT"));
}
