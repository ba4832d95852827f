//! Random overlays from universes so small that they collide all the time.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use proptest::{
    collection::{btree_map, btree_set},
    prelude::*,
    sample::select,
};
use rs_overlay::{
    model::{EndpointId, MacAddr, NetworkId, Vni},
    plan::{Overlay, Port, Segment, Sources, Vxlan},
};

fn endpoint() -> impl Strategy<Value = EndpointId> {
    (0..4_u8).prop_map(|n| EndpointId::new(format!("{n:x}").repeat(64)).unwrap())
}

fn mac() -> impl Strategy<Value = MacAddr> {
    (1..6_u8).prop_map(|n| MacAddr::new([2, 0x42, 10, 9, 0, n]).unwrap())
}

fn vxlan() -> impl Strategy<Value = Vxlan> {
    let local: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into();
    (select(local), select(vec![4789_u16, 4790]), select(vec![1400_u32, 1450]), any::<bool>())
        .prop_map(|(local, port, mtu, flood)| Vxlan { local, port, mtu, flood })
}

fn segment() -> impl Strategy<Value = Segment> {
    let network = (0..2_u8).prop_map(|n| NetworkId::new(format!("{n}a").repeat(32)).unwrap());
    let own = Ipv4Addr::new(10, 9, 0, 7);
    let sources = vec![
        Sources::Any,
        Sources::Only { v4: Some(own), v6: None },
        Sources::Only { v4: Some(own), v6: Some("fd00::7".parse().unwrap()) },
        Sources::Only { v4: None, v6: Some("fd00::8".parse().unwrap()) },
    ];
    let port = (mac(), select(vec![1400_u32, 1450]), select(sources), any::<bool>())
        .prop_map(|(mac, mtu, sources, fast)| Port { mac, mtu, sources, fast });
    let vtep = || (11..14_u8).prop_map(|n| IpAddr::from([192, 0, 2, n]));
    let ips: Vec<IpAddr> =
        ["10.9.0.2", "10.9.0.3", "10.9.0.4", "fd00::2", "fd00::3"].map(|ip| ip.parse().unwrap()).into();
    (
        network,
        vxlan(),
        btree_map(endpoint(), port, 0..3),
        btree_map(mac(), vtep(), 0..4),
        btree_map(select(ips), mac(), 0..4),
        btree_set(vtep(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(network, vxlan, ports, fdb, neighbours, flood, fast)| Segment {
            network,
            vxlan,
            fast,
            ports,
            fdb: fdb.into(),
            neighbours: neighbours.into(),
            flood,
        })
}

/// Any overlay, also ones that no kernel can hold.
pub(crate) fn overlay() -> impl Strategy<Value = Overlay> {
    let vni = (4096..4099_u32).prop_map(|n| Vni::new(n).unwrap());
    let guards: Vec<_> =
        ["198.51.100.0/24", "198.51.100.0/25", "203.0.113.0/24"].map(|net| net.parse().unwrap()).into();
    (btree_map(vni, segment(), 0..3), btree_set(select(guards), 0..3))
        .prop_map(|(segments, guards)| Overlay { segments, guards: guards.into() })
}

/// The nearest overlay that a kernel can hold: an endpoint is in one segment, a MAC behind one thing, VTEPs are
/// of the family of the local address, and the short way is open to all of a segment's ports or to none.
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) fn possible(mut overlay: Overlay) -> Overlay {
    let mut endpoints = BTreeSet::new();
    for segment in overlay.segments.values_mut() {
        segment.ports.retain(|endpoint, _| endpoints.insert(endpoint.clone()));
        let fast = segment.fast;
        segment.ports.values_mut().for_each(|port| port.fast = fast);
        let mut macs = BTreeSet::new();
        segment.ports.retain(|_, port| macs.insert(port.mac));
        let six = segment.vxlan.local.is_ipv6();
        if six {
            segment.flood = std::mem::take(&mut segment.flood)
                .into_iter()
                .map(|_| "2001:db8::c".parse().unwrap())
                .collect();
        }
        segment.fdb.retain(|mac, _| !macs.contains(mac));
        if six {
            segment.fdb.values_mut().for_each(|vtep| *vtep = "2001:db8::b".parse().unwrap());
        }
    }
    overlay
}
