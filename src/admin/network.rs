//! Networks: what is ordered, what came of it, and how they are listed.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network to be created, in the terms of `docker network create`.
#[expect(clippy::struct_excessive_bools, reason = "the flags of `docker network create`")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOrder {
    /// Its name.
    pub name: String,
    /// Its subnets; none: one that the daemon chooses.
    #[serde(default)]
    pub subnets: Vec<SubnetOrder>,
    /// `--internal`.
    #[serde(default)]
    pub internal: bool,
    /// `--attachable`.
    #[serde(default)]
    pub attachable: bool,
    /// `--ipv4=false`.
    #[serde(default)]
    pub without_ipv4: bool,
    /// `--ipv6`.
    #[serde(default)]
    pub ipv6: bool,
    /// `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Let the engine's own IPAM choose addresses on this host.
    #[serde(default)]
    pub default_ipam: bool,
}

/// One subnet of a network to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetOrder {
    /// `--subnet`.
    pub subnet: IpNet,
    /// `--gateway`.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// `--ip-range`.
    #[serde(default)]
    pub ip_range: Option<IpNet>,
    /// `--aux-address`: name to address.
    #[serde(default)]
    pub aux: BTreeMap<String, IpAddr>,
}

/// A network that the engine has created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkMade {
    /// Docker's id on this host.
    pub docker_id: String,
    /// Identity in the cluster.
    pub id: String,
    /// The cluster had it already, and this host takes part again.
    pub joined: bool,
}

/// A network to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEnd {
    /// Name, id in the cluster, or Docker's id on this host.
    pub name: String,
}

/// What has become of a network that this host's engine has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkEnded {
    /// Identity in the cluster.
    pub id: String,
    /// Names of the hosts on which it lives on; empty: it is gone from the cluster.
    pub lives_on: Vec<String>,
    /// Names of the hosts whose engine still has it although it is gone.
    pub still_on: Vec<String>,
}

/// One network of the cluster.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that Docker has, too")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// Identity in the cluster.
    pub id: String,
    /// Name, once it is known.
    pub name: Option<String>,
    /// Subnets, IPv4 first.
    pub subnets: Vec<IpNet>,
    /// Gateways, in the order of their subnets; a subnet may have none.
    pub gateways: Vec<IpAddr>,
    /// VXLAN identifier.
    pub vni: u32,
    /// Largest inner IP packet, in bytes.
    pub mtu: u32,
    /// Why it is not what somebody may expect.
    #[serde(default)]
    pub mtu_because: Option<String>,
    /// Broadcast and multicast reach all hosts.
    #[serde(default)]
    pub flood: bool,
    /// Names of the hosts that have endpoints in it.
    pub hosts: Vec<String>,
    /// Names of the hosts whose engine has it.
    #[serde(default)]
    pub present: Vec<String>,
    /// Names of the hosts that have removed it while others went on.
    #[serde(default)]
    pub departed: Vec<String>,
    /// Names of the live hosts that have neither: it is still coming there, or cannot.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Names of the live hosts whose engine cannot have it, each with the reason.
    #[serde(default)]
    pub unable: Vec<String>,
    /// Endpoints on all hosts.
    pub endpoints: u32,
    /// No way out of the network.
    pub internal: bool,
    /// Has IPv6.
    pub ipv6: bool,
    /// Containers may be attached by hand in swarm mode.
    pub attachable: bool,
}
