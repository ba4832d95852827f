//! Claims on addresses and on the pools they come from.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EndpointId, NetworkId, NodeId};

/// A subnet that one network holds. Two pools of the cluster never overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub cidr: IpNet,
    /// Address space in which it was asked for.
    pub space: Space,
    /// `--ip-range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<IpNet>,
    /// `--ipam-opt` options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The network that it belongs to; absent between `RequestPool` and `CreateNetwork`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkId>,
    /// The host that claimed it.
    pub node: NodeId,
    /// When, in seconds since 1970.
    pub since: u64,
    /// Since when the present manager of its swarm hands out its addresses, by the clock of `node` in
    /// milliseconds since 1970; absent where no manager does. Claims of before that moment, and claims of
    /// other hosts, were made for an earlier manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term_ms: Option<u64>,
    /// Its network is being removed: no address may be claimed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    /// Engines with a cluster store of their own share its network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Pool {
    /// Whether each host claims the addresses of its own containers here. In a swarm the manager claims them,
    /// for other hosts; and what engines share by their own IPAM nobody claims.
    pub fn is_claimed_by_users(&self) -> bool {
        match self.space {
            Space::Local => true,
            Space::Engine => !self.shared,
            Space::Global => self.shared,
        }
    }

    /// Whether the manager of a swarm hands out the addresses, and `claim` was made for an earlier one. A manager
    /// that begins asks again for all that is in use.
    pub fn is_of_an_earlier_term(&self, claim: &AddressClaim) -> bool {
        self.term_ms.is_some_and(|term| claim.node != self.node || claim.since_ms < term)
    }
}

/// An address space of libnetwork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Ours, for networks that one engine knows.
    Local,
    /// Ours, for networks that a swarm or a cluster store shares.
    Global,
    /// The engine's own IPAM chose the pool.
    Engine,
}

/// Something that one network holds: a VNI or a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkClaim {
    /// Who holds it.
    pub network: NetworkId,
}

/// One address, held by one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressClaim {
    /// The host that claimed it and alone gives it back.
    pub node: NodeId,
    /// What it is for.
    #[serde(flatten)]
    pub kind: ClaimKind,
    /// Name of the container, where the engine tells it (29 and newer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Counts takeovers.
    #[serde(default)]
    pub generation: u64,
    /// When, in milliseconds since 1970 by the claiming host's clock. Only that host compares it, to
    /// tell a claim from an earlier one on the same address that is still being given back.
    pub since_ms: u64,
}

/// Some host needs an address that others may hold in reserve: they give it back and keep it free for as
/// long as the record is there. Its key says which one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The host that asks.
    pub node: NodeId,
    /// Fields of a newer release, kept when this one rewrites the record.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What an address is claimed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ClaimKind {
    /// The subnet's gateway.
    Gateway,
    /// An auxiliary address, or one asked for before its pool had a network.
    Auxiliary,
    /// Claimed ahead by a host, which spends it on a container without asking anybody. It is no use of the
    /// network.
    Reserve,
    /// Handed out by our IPAM to a container of the claiming host; goes with `ReleaseAddress`.
    Container,
    /// Chosen by the engine's own IPAM and claimed for this endpoint; goes with `DeleteEndpoint`.
    Engine {
        /// The endpoint.
        endpoint: EndpointId,
    },
}

impl ClaimKind {
    /// Whether a container has, or is about to have, the address.
    pub fn is_use(&self) -> bool {
        matches!(self, Self::Container | Self::Engine { .. })
    }

    /// Whether nobody may have the address for as long as the network lives.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Self::Gateway | Self::Auxiliary)
    }
}
