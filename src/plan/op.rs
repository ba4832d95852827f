//! Single steps.

use std::{fmt, net::IpAddr};

use ipnet::Ipv4Net;

use super::{Port, Vxlan};
use crate::model::{EndpointId, MacAddr, NetworkId, Vni};

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
