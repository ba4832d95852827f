//! The kernel against the plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Area, row, unequal};
use crate::{
    admin::DifferenceRow,
    model::{EndpointId, NetworkId, Vni},
    plan::{Overlay, Port, Segment},
};

/// What is compared, and what people call it.
#[derive(Debug, Clone, Copy)]
pub struct KernelView<'a> {
    /// What is there.
    pub found: &'a Overlay,
    /// What should be there.
    pub wanted: &'a Overlay,
    /// Names of networks.
    pub networks: &'a BTreeMap<NetworkId, String>,
    /// Names of this host's containers, by endpoint.
    pub containers: &'a BTreeMap<EndpointId, String>,
    /// Endpoints whose container's end still waits in the host's namespace although a container has joined.
    pub loose: &'a BTreeSet<EndpointId>,
}

/// All differences.
pub fn compare_kernel(view: &KernelView<'_>) -> Vec<DifferenceRow> {
    let mut rows = Vec::new();
    unequal(&view.wanted.segments, &view.found.segments, |vni, wanted, found| match (wanted, found) {
        (Some(wanted), Some(found)) => view.segment(*vni, wanted, found, &mut rows),
        (Some(wanted), None) => {
            rows.push(row(Area::Kernel, view.title(*vni, wanted), devices(wanted), "nothing"));
        }
        (None, Some(found)) => {
            rows.push(row(Area::Kernel, view.title(*vni, found), "nothing", "some device of it"));
        }
        (None, None) => {}
    });
    for guard in view.wanted.guards.difference(&view.found.guards) {
        rows.push(row(Area::Kernel, format!("guard route {guard}"), "there", "missing"));
    }
    for guard in view.found.guards.difference(&view.wanted.guards) {
        rows.push(row(Area::Kernel, format!("guard route {guard}"), "not there", "there"));
    }
    for endpoint in view.loose {
        let object = format!("link of {}", view.container(endpoint));
        rows.push(row(Area::Container, object, "inside the container", "outside of it"));
    }
    rows
}

impl KernelView<'_> {
    fn segment(&self, vni: Vni, wanted: &Segment, found: &Segment, rows: &mut Vec<DifferenceRow>) {
        let title = self.title(vni, wanted);
        let mut tell = |what: String, expected: String, found: String| {
            rows.push(row(Area::Kernel, format!("{title}, {what}"), expected, found));
        };
        if wanted.network != found.network {
            tell("owner".into(), wanted.network.short().into(), found.network.short().into());
        }
        let (w, f) = (&wanted.vxlan, &found.vxlan);
        if f.port == 0 {
            tell(devices(wanted).into(), "whole".into(), "missing, down or changed".into());
        } else if (w.local, w.port) != (f.local, f.port) {
            let from = |ip: IpAddr, port| format!("from {ip} to port {port}");
            tell("VXLAN device".into(), from(w.local, w.port), from(f.local, f.port));
        } else if w.flood != f.flood {
            let does = |flood| if flood { "carried" } else { "not carried" };
            tell("broadcast and multicast".into(), does(w.flood).into(), does(f.flood).into());
        } else if w.mtu != f.mtu {
            tell("MTU".into(), w.mtu.to_string(), known(f.mtu != 0, &f.mtu, "differs between its links"));
        }
        if f.port != 0 && wanted.fast != found.fast {
            tell("way into containers".into(), way(wanted.fast).into(), way(found.fast).into());
        }
        unequal(&wanted.ports, &found.ports, |endpoint, wanted, found| {
            tell(format!("port of {}", self.container(endpoint)), port(wanted), port(found));
        });
        unequal(&wanted.fdb, &found.fdb, |mac, wanted, found| {
            let vtep = |ip: Option<&IpAddr>| match ip {
                None => "none".to_owned(),
                Some(ip) => known(!ip.is_unspecified(), &format!("to {ip}"), "half of it, or changed"),
            };
            tell(format!("forwarding entry {mac}"), vtep(wanted), vtep(found));
        });
        for vtep in wanted.flood.symmetric_difference(&found.flood) {
            let told = |set: &BTreeSet<IpAddr>| if set.contains(vtep) { "there" } else { "not there" };
            tell(format!("flood entry to {vtep}"), told(&wanted.flood).into(), told(&found.flood).into());
        }
        unequal(&wanted.neighbours, &found.neighbours, |ip, wanted, found| {
            let mac = |mac: Option<&crate::model::MacAddr>| {
                mac.map_or("none".to_owned(), |mac| format!("at {mac}"))
            };
            tell(format!("neighbour {ip}"), mac(wanted), mac(found));
        });
    }

    fn title(&self, vni: Vni, segment: &Segment) -> String {
        if segment.network == NetworkId::of_probes() {
            return format!("network of the hosts' probes (VNI {vni})");
        }
        let name = self.networks.get(&segment.network).map_or(segment.network.short(), String::as_str);
        format!("network {name} (VNI {vni})")
    }

    fn container(&self, endpoint: &EndpointId) -> String {
        match self.containers.get(endpoint) {
            Some(name) => format!("container {name}"),
            None => format!("endpoint {}", endpoint.short()),
        }
    }
}

/// What a segment consists of: hosts ask for each other without a bridge.
fn devices(segment: &Segment) -> &'static str {
    if segment.network == NetworkId::of_probes() { "VXLAN device" } else { "bridge and VXLAN device" }
}

fn port(port: Option<&Port>) -> String {
    match port {
        None => "none".to_owned(),
        Some(port) if port.mtu == 0 => "down, unlocked or changed".to_owned(),
        Some(port) => {
            let Port { mac, mtu, sources, fast } = port;
            format!("for {mac} with MTU {mtu}, from {sources}, by {}", way(*fast))
        }
    }
}

fn way(fast: bool) -> &'static str {
    if fast { "the fast path" } else { "the bridge" }
}

fn known(known: bool, value: &impl ToString, otherwise: &str) -> String {
    if known { value.to_string() } else { otherwise.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::MacAddr,
        plan::{Sources, Vxlan},
    };

    fn overlay() -> Overlay {
        let mac = MacAddr::from_ip([10, 9, 0, 3].into());
        let port = Port { mac, mtu: 1450, sources: Sources::of(&[[10, 9, 0, 3].into()]), fast: true };
        let segment = Segment {
            fast: true,
            network: NetworkId::new("n1").unwrap(),
            vxlan: Vxlan { local: [192, 0, 2, 1].into(), port: 4789, mtu: 1450, flood: false },
            ports: BTreeMap::from([(EndpointId::new("e1").unwrap(), port)]),
            fdb: BTreeMap::from([(mac, [192, 0, 2, 2].into())]).into(),
            neighbours: BTreeMap::from([([10, 9, 0, 3].into(), mac)]).into(),
            flood: BTreeSet::new(),
        };
        let segments = BTreeMap::from([(Vni::new(4096).unwrap(), segment)]);
        let mut overlay = Overlay { segments, ..Overlay::default() };
        overlay.guards.insert("10.9.0.0/24".parse().unwrap());
        overlay
    }

    fn told(found: &Overlay, loose: &[&str]) -> Vec<String> {
        let loose = loose.iter().map(|id| EndpointId::new(*id).unwrap()).collect();
        let view = KernelView {
            found,
            wanted: &overlay(),
            networks: &BTreeMap::from([(NetworkId::new("n1").unwrap(), "blue".to_owned())]),
            containers: &BTreeMap::from([(EndpointId::new("e1").unwrap(), "c1".to_owned())]),
            loose: &loose,
        };
        let line = |row: DifferenceRow| format!("{}: {} / {}", row.object, row.expected, row.found);
        compare_kernel(&view).into_iter().map(line).collect()
    }

    fn meddled(change: impl FnOnce(&mut Segment)) -> Vec<String> {
        let mut found = overlay();
        change(found.segments.values_mut().next().unwrap());
        told(&found, &[])
    }

    #[test]
    fn what_is_equal_is_not_told() {
        assert!(told(&overlay(), &[]).is_empty());
    }

    #[test]
    fn every_part_is_told_by_its_name() {
        let start = "network blue (VNI 4096)";
        let mac = MacAddr::from_ip([10, 9, 0, 3].into());
        for (rows, want) in [
            (meddled(|s| s.fdb.clear()), format!("{start}, forwarding entry {mac}: to 192.0.2.2 / none")),
            (
                meddled(|s| *s.fdb.get_mut(&mac).unwrap() = [0, 0, 0, 0].into()),
                format!("{start}, forwarding entry {mac}: to 192.0.2.2 / half of it, or changed"),
            ),
            (meddled(|s| s.neighbours.clear()), format!("{start}, neighbour 10.9.0.3: at {mac} / none")),
            (
                meddled(|s| s.ports.values_mut().next().unwrap().mtu = 0),
                format!(
                    "{start}, port of container c1: for {mac} with MTU 1450, from 10.9.0.3, by the fast path / down, unlocked or changed"
                ),
            ),
            (
                meddled(|s| s.fast = false),
                format!("{start}, way into containers: the fast path / the bridge"),
            ),
            (
                meddled(|s| s.vxlan.flood = true),
                format!("{start}, broadcast and multicast: not carried / carried"),
            ),
            (
                meddled(|s| s.flood.extend([IpAddr::from([192, 0, 2, 2])])),
                format!("{start}, flood entry to 192.0.2.2: not there / there"),
            ),
            (meddled(|s| s.vxlan.mtu = 0), format!("{start}, MTU: 1450 / differs between its links")),
            (
                meddled(|s| s.vxlan = Vxlan { local: [0, 0, 0, 0].into(), port: 0, mtu: 0, flood: false }),
                format!("{start}, bridge and VXLAN device: whole / missing, down or changed"),
            ),
            (told(&overlay(), &["e1"]), "link of container c1: inside the container / outside of it".into()),
        ] {
            assert_eq!(rows, [want]);
        }
        let mut guards = overlay();
        guards.guards = BTreeSet::from(["10.8.0.0/24".parse().unwrap()]).into();
        assert_eq!(told(&guards, &[]).len(), 2);
        assert_eq!(told(&Overlay::default(), &[]).len(), 2);
        let mut probes = overlay();
        let mut segment = probes.segments.values().next().unwrap().clone();
        segment.network = NetworkId::of_probes();
        probes.segments.insert(Vni::new(16_777_215).unwrap(), segment);
        assert_eq!(
            told(&probes, &[]),
            ["network of the hosts' probes (VNI 16777215): nothing / some device of it"]
        );
    }
}
