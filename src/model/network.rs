//! A network of the cluster.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Mode, NetworkId, NodeId, Vni};

/// The IPAM option that says: this is no new network, but that one of the cluster (its id or name).
pub const JOIN_OPTION: &str = "rs-overlay.network";

/// The option that has broadcast and multicast carried to all hosts with endpoints: `on`, or `off`.
pub const FLOOD_OPTION: &str = "flood";

/// The option that lets containers of a network send from addresses that are not theirs (routers, shared
/// addresses): `off`, or `on`.
pub const SOURCE_CHECK_OPTION: &str = "source-check";

/// One layer 2 segment that spans hosts: one VNI, one or more subnets.
#[expect(clippy::struct_excessive_bools, reason = "the flags that `docker network create` has, one by one")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Identity in the cluster.
    pub id: NetworkId,
    /// The name people gave it. No driver call carries it, so it is absent until the creating host has
    /// read it from its engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its subnets, IPv4 first, in the order in which the user gave them.
    pub subnets: Vec<Subnet>,
    /// Its VXLAN identifier.
    pub vni: Vni,
    /// MTU that the user asked for, in bytes of an inner IP packet; absent: what the underlay carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Largest inner IP packet, in bytes, that the underlays of all hosts carry; absent: an earlier release
    /// made it, and nobody has written it yet. Containers get the lesser of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<u32>,
    /// `--internal`: no way out of the network.
    #[serde(default)]
    pub internal: bool,
    /// `--attachable`, kept so that the other hosts show the same.
    #[serde(default)]
    pub attachable: bool,
    /// `--ipv6`.
    #[serde(default)]
    pub ipv6: bool,
    /// Who hands out addresses on the host that created it.
    pub ipam: IpamMode,
    /// The user's `-o` options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The user's `--ipam-opt` options.
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host that created it.
    pub created_by: NodeId,
    /// When, in seconds since 1970.
    pub created_at: u64,
    /// A swarm's manager holds it: hosts come and go, only the manager removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allocated: bool,
    /// Engines with a cluster store of their own share it, with its addresses and names: it is known on all
    /// of them by this id, and nobody creates it anywhere else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Network address and prefix length.
    pub cidr: IpNet,
    /// Gateway, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The engine where it was created does not list the gateway (it lists what the user gave, and the
    /// user gave a subnet alone); so the others shall not either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway_unlisted: bool,
    /// `--ip-range`: the part from which addresses are handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<IpNet>,
    /// `--aux-address`: name to address, never handed out.
    #[serde(default)]
    pub aux: BTreeMap<String, IpAddr>,
}

/// A host's word that its engine has a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Docker's id there.
    pub docker_id: NetworkId,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Who chooses addresses on the host that created a network. All other hosts use our IPAM in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpamMode {
    /// `--ipam-driver rs-overlay`.
    Ours,
    /// Docker's built-in IPAM chooses, lowest first; the driver claims its choice.
    Engine,
}

/// Where a network says in which incarnation of the store it was created.
const CREATED_IN: &str = "incarnation";

impl Network {
    /// The incarnation of the store in which it was created; empty: its creator knew of none; absent: an
    /// earlier release did not say.
    pub fn created_in(&self) -> Option<&str> {
        self.extra.get(CREATED_IN)?.as_str()
    }

    /// The same network, created in `incarnation`.
    #[must_use]
    pub fn in_incarnation(mut self, incarnation: Option<&str>) -> Self {
        self.extra.insert(CREATED_IN.to_owned(), incarnation.unwrap_or_default().into());
        self
    }

    /// How the engines run whose network it is. Networks of different modes may lie in one store; what is
    /// done about one follows from this, and not from how the engine of some host runs.
    pub fn mode(&self) -> Mode {
        match (self.allocated, self.shared) {
            (true, _) => Mode::Swarm,
            (false, true) => Mode::Classic,
            (false, false) => Mode::Plain,
        }
    }

    /// What people call it: its name, or the beginning of its id while that is not known.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.short())
    }

    /// Whether containers get IPv4 addresses in it: engines give a network with IPv4 a subnet in any case.
    pub fn has_ipv4(&self) -> bool {
        self.subnets.iter().any(|subnet| matches!(subnet.cidr, IpNet::V4(_)))
    }

    /// Whether broadcast and multicast leave a host.
    pub fn floods(&self) -> bool {
        self.options.get(FLOOD_OPTION).is_some_and(|value| value == "on")
    }

    /// Containers send from their own addresses alone.
    pub fn checks_sources(&self) -> bool {
        self.options.get(SOURCE_CHECK_OPTION).is_none_or(|value| value != "off")
    }

    /// The subnet that holds `ip`.
    pub fn subnet_of(&self, ip: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.cidr.contains(&ip))
    }
}

#[cfg(test)]
impl Network {
    /// A network named `blue` with one subnet and nothing special, for tests.
    pub(crate) fn plain(id: &str, cidr: &str) -> Self {
        Self {
            id: NetworkId::new(id).unwrap(),
            name: Some("blue".into()),
            subnets: vec![Subnet {
                cidr: cidr.parse().unwrap(),
                gateway: None,
                gateway_unlisted: false,
                ip_range: None,
                aux: BTreeMap::new(),
            }],
            vni: Vni::new(4096).unwrap(),
            mtu: None,
            carried: None,
            internal: false,
            attachable: false,
            ipv6: false,
            ipam: IpamMode::Ours,
            options: BTreeMap::new(),
            ipam_options: BTreeMap::new(),
            labels: BTreeMap::new(),
            created_by: NodeId::new("a").unwrap(),
            created_at: 1,
            allocated: false,
            shared: false,
            extra: BTreeMap::new(),
        }
    }
}
