//! A host of the cluster.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Mode, Network, NodeId, Vni};

/// The first release of Docker with networks without IPv4 (API 1.48).
const WITHOUT_IPV4: u32 = 28;

/// A host, as it describes itself. Its key in the store is leased: it vanishes when the host stops
/// renewing it, which by itself means nothing but "perhaps dead".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Identity, kept over restarts and reboots.
    pub id: NodeId,
    /// Name people know it by.
    pub hostname: String,
    /// Underlay address at which it takes VXLAN packets.
    pub vtep: IpAddr,
    /// UDP port of its VXLAN devices.
    pub vxlan_port: u16,
    /// Largest underlay packet, in bytes, that fits on its routes to all peers.
    pub underlay_mtu: u32,
    /// Release of the daemon.
    pub daemon_version: String,
    /// Release of the engine, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Scope that the driver answers there: `local` or `global`.
    pub scope: String,
    /// How its engine runs, once that has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The kernel's boot id: another one means that no kernel state of ours survived.
    pub boot_id: String,
    /// Start of the daemon, in seconds since 1970.
    pub since: u64,
    /// Networks that its routing table already leads to: no network of ours may overlap one.
    #[serde(default)]
    pub routes: Vec<HostRoute>,
    /// VXLAN devices of other programs: a network with the VNI of one cannot have its device there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vxlans: Vec<ForeignVxlan>,
    /// Counts its registrations, over restarts and reboots.
    #[serde(default)]
    pub incarnation: u64,
    /// Its probe device is there: it can ask for others and be asked for. One that cannot is never
    /// declared dead, and is on no jury.
    #[serde(default)]
    pub probe: bool,
    /// Hosts without a lease that did not answer it, each with the incarnation that it asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unreachable: BTreeMap<NodeId, u64>,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A host that has once been here, as its lease leaves it behind: who has to be asked for when the other
/// record vanishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHost {
    /// Identity.
    pub id: NodeId,
    /// Name people know it by.
    pub hostname: String,
    /// Underlay address.
    pub vtep: IpAddr,
    /// Its last registration.
    pub incarnation: u64,
    /// Its probe device is there.
    #[serde(default)]
    pub probe: bool,
    /// What ran there, for when the host itself can no longer tell.
    #[serde(default)]
    pub about: About,
    /// When its lease was seen to end, in seconds since 1970 by the clock of the host that saw it; absent while
    /// it has one, and where nobody was there to see. The only field that another host writes; only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<u64>,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What runs on a host, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Release of the daemon.
    #[serde(default)]
    pub daemon_version: String,
    /// Release of the engine, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Scope that the driver answers there; empty: an earlier release did not say.
    #[serde(default)]
    pub scope: String,
    /// How the engine runs, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Start of the daemon, in seconds since 1970; 0: an earlier release did not say.
    #[serde(default)]
    pub since: u64,
}

/// A host that was declared dead: its lease had ended, and none of its jury had an answer from it. It takes
/// this back itself when it returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Identity.
    pub id: NodeId,
    /// Name people know it by.
    pub hostname: String,
    /// The registration that ended so.
    pub incarnation: u64,
    /// The host that wrote this.
    pub by: NodeId,
    /// When, in seconds since 1970 by that host's clock; only shown.
    pub since: u64,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Node {
    /// What runs there.
    pub fn about(&self) -> About {
        About {
            daemon_version: self.daemon_version.clone(),
            engine_version: self.engine_version.clone(),
            scope: self.scope.clone(),
            mode: self.mode,
            since: self.since,
        }
    }

    /// Why this host's engine cannot have `network`; `None`: it can, or nobody knows its release.
    pub fn unable_to_have(&self, network: &Network) -> Option<&'static str> {
        let major = self.engine_version.as_deref()?.split('.').next()?.parse::<u32>().ok()?;
        (!network.has_ipv4() && major < WITHOUT_IPV4).then_some("a network without IPv4 takes Docker 28")
    }

    /// The device of another program that takes packets of `vni` on the port that this host uses.
    pub fn holder_of(&self, vni: Vni) -> Option<&ForeignVxlan> {
        self.vxlans.iter().find(|device| device.port == self.vxlan_port && device.vni == vni.get())
    }
}

/// A VXLAN device of another program. The kernel has one device for each pair of VNI and UDP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ForeignVxlan {
    /// Its VNI; 0 for one that takes all.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its name, and where it is unless in the host's own namespace.
    pub dev: String,
}

/// A destination in a host's routing table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostRoute {
    /// Destination; never a default route.
    pub cidr: IpNet,
    /// Name of the outgoing interface.
    pub dev: String,
}
