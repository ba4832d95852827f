//! The steps from one overlay to another, and what each step does to the description.

use std::collections::{BTreeMap, BTreeSet};

use super::{Op, Overlay, Port, Segment, Vxlan};
use crate::model::{
    Shared, Vni,
    changes::{changed, gone},
};

/// The steps that lead from `from` to `to`, in an order in which each finds what it stands on:
/// deletions from the leaves, then creations from the roots.
pub fn diff(from: &Overlay, to: &Overlay) -> Vec<Op> {
    let mut ops = Vec::new();
    let same_guards = from.guards.is(&to.guards);
    if !same_guards {
        ops.extend(from.guards.difference(&to.guards).copied().map(Op::DeleteGuard));
    }
    for (&vni, old) in &from.segments {
        match to.segments.get(&vni) {
            Some(new) if new.network == old.network => delete_entries(vni, old, new, &mut ops),
            _ => delete_segment(vni, old, &mut ops),
        }
    }
    if !same_guards {
        ops.extend(to.guards.difference(&from.guards).copied().map(Op::AddGuard));
    }
    for (&vni, new) in &to.segments {
        if let Some(old) = from.segments.get(&vni).filter(|old| old.network == new.network) {
            change_segment(vni, old, new, &mut ops);
        } else {
            ops.push(Op::AddSegment { vni, network: new.network.clone(), vxlan: new.vxlan });
            fill_segment(vni, None, new, &mut ops);
        }
    }
    ops
}

/// The segment keeps its tunnel device, or at least its forwarding entries do not die with it.
fn keeps_device(old: &Segment, new: &Segment) -> bool {
    let fixed = |vxlan: &Vxlan| (vxlan.local, vxlan.port, vxlan.flood);
    fixed(&old.vxlan) == fixed(&new.vxlan)
}

/// A container keeps its interface over repairs and changes of the MTU; only another MAC needs another
/// pair. Of an unfinished port (MTU 0) the MAC is not known for sure, and adding it again sets it.
fn needs_new_pair(old: &Port, new: &Port) -> bool {
    old.mtu != 0 && old.mac != new.mac
}

fn delete_entries(vni: Vni, old: &Segment, new: &Segment, ops: &mut Vec<Op>) {
    if !old.neighbours.is(&new.neighbours) {
        let gone = gone(&old.neighbours, &new.neighbours);
        ops.extend(gone.map(|(ip, _)| Op::DeleteNeighbour { vni, ip: *ip }));
    }
    if keeps_device(old, new) {
        if !old.fdb.is(&new.fdb) {
            ops.extend(gone(&old.fdb, &new.fdb).map(|(mac, _)| Op::DeleteFdb { vni, mac: *mac }));
        }
        ops.extend(old.flood.difference(&new.flood).map(|vtep| Op::DeleteFlood { vni, vtep: *vtep }));
    }
    for (endpoint, port) in &old.ports {
        if new.ports.get(endpoint).is_none_or(|wanted| needs_new_pair(port, wanted)) {
            ops.push(Op::DeletePort { vni, endpoint: endpoint.clone() });
        }
    }
}

fn delete_segment(vni: Vni, old: &Segment, ops: &mut Vec<Op>) {
    for endpoint in old.ports.keys() {
        ops.push(Op::DeletePort { vni, endpoint: endpoint.clone() });
    }
    ops.push(Op::DeleteSegment { vni });
}

fn change_segment(vni: Vni, old: &Segment, new: &Segment, ops: &mut Vec<Op>) {
    if !keeps_device(old, new) {
        ops.push(Op::ReplaceVxlan { vni, vxlan: new.vxlan });
        fill_segment(
            vni,
            Some(&Segment { fdb: Shared::default(), flood: BTreeSet::new(), fast: false, ..old.clone() }),
            new,
            ops,
        );
        return;
    }
    if old.vxlan.mtu != new.vxlan.mtu {
        ops.push(Op::SetMtu { vni, mtu: new.vxlan.mtu });
    }
    fill_segment(vni, Some(old), new, ops);
}

fn fill_segment(vni: Vni, old: Option<&Segment>, new: &Segment, ops: &mut Vec<Op>) {
    if old.is_some_and(|old| old.fast) != new.fast {
        ops.push(Op::SetPath { vni, fast: new.fast });
    }
    let mut paths = Vec::new();
    for (endpoint, &port) in &new.ports {
        let old = old.and_then(|old| old.ports.get(endpoint));
        // A container need not wait for its short way.
        let first = Port { fast: port.fast && old.is_some_and(|old| old.fast), ..port };
        if old != Some(&first) {
            ops.push(Op::AddPort { vni, endpoint: endpoint.clone(), port: first });
        }
        if first != port {
            paths.push(Op::SetPortPath { vni, endpoint: endpoint.clone(), port });
        }
    }
    let none = Shared::default();
    let fdb = old.map_or(&none, |old| &old.fdb);
    if !fdb.is(&new.fdb) {
        ops.extend(changed(fdb, &new.fdb).map(|(&mac, &vtep)| Op::SetFdb { vni, mac, vtep }));
    }
    for &vtep in new.flood.iter().filter(|vtep| old.is_none_or(|old| !old.flood.contains(vtep))) {
        ops.push(Op::SetFlood { vni, vtep });
    }
    let none = Shared::default();
    let neighbours = old.map_or(&none, |old| &old.neighbours);
    if !neighbours.is(&new.neighbours) {
        let changed = changed(neighbours, &new.neighbours);
        ops.extend(changed.map(|(&ip, &mac)| Op::SetNeighbour { vni, ip, mac }));
    }
    ops.append(&mut paths);
}

/// What is there once `ops` have been carried out on `from`: the law that the kernel has to follow,
/// and what the fake kernel of the tests does. A step on a segment that is not there changes nothing.
pub fn apply(ops: &[Op], mut from: Overlay) -> Overlay {
    for op in ops {
        step(op, &mut from);
    }
    from
}

fn step(op: &Op, overlay: &mut Overlay) {
    match op {
        Op::AddGuard(cidr) => {
            overlay.guards.insert(*cidr);
        }
        Op::DeleteGuard(cidr) => {
            overlay.guards.remove(cidr);
        }
        Op::AddSegment { vni, network, vxlan } => {
            let segment = Segment {
                network: network.clone(),
                vxlan: *vxlan,
                fast: false,
                ports: BTreeMap::new(),
                fdb: Shared::default(),
                neighbours: Shared::default(),
                flood: BTreeSet::new(),
            };
            overlay.segments.entry(*vni).or_insert(segment);
        }
        Op::DeleteSegment { vni } => {
            overlay.segments.remove(vni);
        }
        Op::Announce { .. } => {}
        _ => {
            if let Some(segment) = op.vni().and_then(|vni| overlay.segments.get_mut(&vni)) {
                step_inside(op, segment);
            }
        }
    }
}

fn step_inside(op: &Op, segment: &mut Segment) {
    match op {
        Op::ReplaceVxlan { vxlan, .. } => {
            segment.vxlan = *vxlan;
            segment.fast = false;
            segment.fdb.clear();
            segment.flood.clear();
        }
        Op::SetMtu { mtu, .. } => segment.vxlan.mtu = *mtu,
        Op::SetPath { fast, .. } => segment.fast = *fast,
        Op::AddPort { endpoint, port, .. } => {
            segment.ports.insert(endpoint.clone(), *port);
        }
        Op::SetPortPath { endpoint, port, .. } => {
            if let Some(there) = segment.ports.get_mut(endpoint) {
                there.fast = port.fast;
            }
        }
        Op::DeletePort { endpoint, .. } => {
            segment.ports.remove(endpoint);
        }
        Op::SetFdb { mac, vtep, .. } => {
            segment.fdb.insert(*mac, *vtep);
        }
        Op::DeleteFdb { mac, .. } => {
            segment.fdb.remove(mac);
        }
        Op::SetFlood { vtep, .. } => {
            segment.flood.insert(*vtep);
        }
        Op::DeleteFlood { vtep, .. } => {
            segment.flood.remove(vtep);
        }
        Op::SetNeighbour { ip, mac, .. } => {
            segment.neighbours.insert(*ip, *mac);
        }
        Op::DeleteNeighbour { ip, .. } => {
            segment.neighbours.remove(ip);
        }
        Op::AddSegment { .. }
        | Op::DeleteSegment { .. }
        | Op::Announce { .. }
        | Op::AddGuard(_)
        | Op::DeleteGuard(_) => {}
    }
}
