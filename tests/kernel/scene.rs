//! One network on two hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rs_overlay::plan::{Overlay, Port, Segment, Sources, Vxlan};

use crate::lab::{Host, Lab, Net, endpoint, is_fast, mac, network, vni};

pub(crate) const VNI: u32 = 4096;

/// The addresses of container `n`.
pub(crate) fn addresses(n: u8) -> [IpAddr; 2] {
    [IpAddr::from([10, 9, 0, n]), format!("fd00::{n}").parse().unwrap()]
}

/// One network with containers on two hosts, 1 and 2, seen from host `here`. Container `n` has the
/// addresses 10.9.0.n and `fd00::n`.
pub(crate) fn view(here: usize, six: bool, places: &[(char, u8, usize)]) -> Overlay {
    let underlay = |host: usize| -> IpAddr {
        if six {
            format!("2001:db8::{host}").parse().unwrap()
        } else {
            format!("192.0.2.{host}").parse().unwrap()
        }
    };
    let mtu = if six { 1430 } else { 1450 };
    let mut segment = Segment {
        network: network('a'),
        vxlan: Vxlan { local: underlay(here), port: 4789, mtu, flood: false },
        fast: is_fast(),
        ports: BTreeMap::new(),
        fdb: rs_overlay::model::Shared::default(),
        neighbours: rs_overlay::model::Shared::default(),
        flood: BTreeSet::new(),
    };
    for &(id, n, host) in places {
        if host == here {
            segment.ports.insert(
                endpoint(id),
                Port { mac: mac(n), mtu, sources: Sources::of(&addresses(n)), fast: is_fast() },
            );
        } else {
            segment.fdb.insert(mac(n), underlay(host));
            segment.neighbours.extend(addresses(n).map(|ip| (ip, mac(n))));
        }
    }
    Overlay { segments: [(vni(VNI), segment)].into(), ..Overlay::default() }
}

pub(crate) fn container(lab: &Lab, host: &Host, id: char, n: u8) -> Net {
    lab.container(host, &endpoint(id), &[&format!("10.9.0.{n}/24"), &format!("fd00::{n}/64")])
}

pub(crate) fn must_ping(from: &Net, n: u8) {
    for ip in [format!("10.9.0.{n}"), format!("fd00::{n}")] {
        from.ping(&ip, 56).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
}
