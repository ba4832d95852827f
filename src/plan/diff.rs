//! The steps from one overlay to another, and what each step does to the description.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::Ipv4Net;

use super::{Overlay, Port, Segment, Vxlan};
use crate::model::{
    EndpointId, MacAddr, NetworkId, Shared, Vni,
    changes::{changed, gone},
};

/// One step. Each can be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are what their types say")]
pub enum Op {
    /// Creates the bridge and the VXLAN device of a network, both up.
    AddSegment { vni: Vni, network: NetworkId, vxlan: Vxlan },
    /// Replaces the VXLAN device under an existing bridge, whose own settings are repaired on the way; its
    /// forwarding entries are gone with it.
    ReplaceVxlan { vni: Vni, vxlan: Vxlan },
    /// Changes only the MTU of bridge and VXLAN device.
    SetMtu { vni: Vni, mtu: u32 },
    /// Opens the short way into the containers of a segment, for all that its device has entries for, or closes it.
    SetPath { vni: Vni, fast: bool },
    /// Deletes the bridge and the VXLAN device. All ports are gone before.
    DeleteSegment { vni: Vni },
    /// Creates a veth pair: one end in the bridge, the other waiting in the host's namespace. A pair that
    /// is there already is repaired in place.
    AddPort { vni: Vni, endpoint: EndpointId, port: Port },
    /// Opens the short way for what a port sends. It takes the kernel some milliseconds, so it comes last.
    SetPortPath { vni: Vni, endpoint: EndpointId, port: Port },
    /// Deletes a veth pair, wherever its other end is.
    DeletePort { vni: Vni, endpoint: EndpointId },
    /// Sends frames for `mac` to `vtep`, and to no other.
    SetFdb { vni: Vni, mac: MacAddr, vtep: IpAddr },
    /// Forgets `mac`.
    DeleteFdb { vni: Vni, mac: MacAddr },
    /// Copies frames for all to `vtep` as well.
    SetFlood { vni: Vni, vtep: IpAddr },
    /// Stops that; with the unspecified address, for all hosts.
    DeleteFlood { vni: Vni, vtep: IpAddr },
    /// Answers ARP or neighbour discovery for `ip` with `mac`.
    SetNeighbour { vni: Vni, ip: IpAddr, mac: MacAddr },
    /// Stops answering for `ip`.
    DeleteNeighbour { vni: Vni, ip: IpAddr },
    /// Tells the containers of a segment that `ip` is at `mac` now. Changes nothing that can be observed.
    Announce { vni: Vni, ip: IpAddr, mac: MacAddr },
    /// Shows the engine that a subnet is taken.
    AddGuard(Ipv4Net),
    /// Takes that back.
    DeleteGuard(Ipv4Net),
}

impl Op {
    /// The segment that it is about.
    pub fn vni(&self) -> Option<Vni> {
        match self {
            Op::AddSegment { vni, .. }
            | Op::ReplaceVxlan { vni, .. }
            | Op::SetMtu { vni, .. }
            | Op::SetPath { vni, .. }
            | Op::DeleteSegment { vni }
            | Op::AddPort { vni, .. }
            | Op::SetPortPath { vni, .. }
            | Op::DeletePort { vni, .. }
            | Op::SetFdb { vni, .. }
            | Op::DeleteFdb { vni, .. }
            | Op::SetFlood { vni, .. }
            | Op::DeleteFlood { vni, .. }
            | Op::SetNeighbour { vni, .. }
            | Op::DeleteNeighbour { vni, .. }
            | Op::Announce { vni, .. } => Some(*vni),
            Op::AddGuard(_) | Op::DeleteGuard(_) => None,
        }
    }

    /// Whether all goes on without it, if more slowly.
    pub fn can_wait(&self) -> bool {
        matches!(self, Op::SetPortPath { .. })
    }

    /// Whether it only takes something away.
    pub fn is_deletion(&self) -> bool {
        matches!(
            self,
            Op::DeleteSegment { .. }
                | Op::DeletePort { .. }
                | Op::DeleteFdb { .. }
                | Op::DeleteFlood { .. }
                | Op::DeleteNeighbour { .. }
                | Op::DeleteGuard(_)
        )
    }
}

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

fn path(fast: bool) -> &'static str {
    if fast { "programs" } else { "bridge" }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddSegment { vni, network, vxlan } => {
                write!(f, "add segment vni {vni} network {} {vxlan}", network.short())
            }
            Op::ReplaceVxlan { vni, vxlan } => {
                write!(f, "replace vxlan vni {vni} {vxlan}")
            }
            Op::SetMtu { vni, mtu } => write!(f, "set mtu vni {vni} to {mtu}"),
            Op::SetPath { vni, fast } => write!(f, "set path vni {vni} to {}", path(*fast)),
            Op::DeleteSegment { vni } => write!(f, "delete segment vni {vni}"),
            Op::AddPort { vni, endpoint, port } => {
                write!(
                    f,
                    "add port vni {vni} endpoint {} mac {} mtu {} from {} by {}",
                    endpoint.short(),
                    port.mac,
                    port.mtu,
                    port.sources,
                    path(port.fast)
                )
            }
            Op::SetPortPath { vni, endpoint, port } => {
                write!(f, "set path vni {vni} endpoint {} to {}", endpoint.short(), path(port.fast))
            }
            Op::DeletePort { vni, endpoint } => {
                write!(f, "delete port vni {vni} endpoint {}", endpoint.short())
            }
            Op::SetFdb { vni, mac, vtep } => write!(f, "set fdb vni {vni} mac {mac} vtep {vtep}"),
            Op::DeleteFdb { vni, mac } => write!(f, "delete fdb vni {vni} mac {mac}"),
            Op::SetFlood { vni, vtep } => write!(f, "set flood vni {vni} vtep {vtep}"),
            Op::DeleteFlood { vni, vtep } => write!(f, "delete flood vni {vni} vtep {vtep}"),
            Op::SetNeighbour { vni, ip, mac } => write!(f, "set neighbour vni {vni} ip {ip} mac {mac}"),
            Op::DeleteNeighbour { vni, ip } => write!(f, "delete neighbour vni {vni} ip {ip}"),
            Op::Announce { vni, ip, mac } => write!(f, "announce vni {vni} ip {ip} mac {mac}"),
            Op::AddGuard(cidr) => write!(f, "add guard {cidr}"),
            Op::DeleteGuard(cidr) => write!(f, "delete guard {cidr}"),
        }
    }
}
