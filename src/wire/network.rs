//! Calls of the network driver (`/NetworkDriver.*`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::or_default;

/// The answer to `GetCapabilities`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Capabilities {
    /// `local` or `global`: who shares the network's record.
    pub scope: &'static str,
    /// How far its packets go.
    pub connectivity_scope: &'static str,
    /// Whether to ask `GwAllocCheck` (engines from 28.0).
    pub gw_alloc_checker: bool,
}

/// `GwAllocCheck`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GwAllocCheck {
    /// As in `CreateNetwork`.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, Value>,
}

/// The answer to `GwAllocCheck`.
#[derive(Debug, Serialize)]
pub struct GwAllocAnswer {
    /// No IPv4 gateway is needed.
    #[serde(rename = "SkipIPv4")]
    pub skip_ipv4: bool,
    /// No IPv6 gateway is needed.
    #[serde(rename = "SkipIPv6")]
    pub skip_ipv6: bool,
}

/// `CreateNetwork` and `AllocateNetwork`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateNetwork {
    /// Docker's id.
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub network_id: String,
    /// Flags, and under `com.docker.network.generic` the user's `-o` options. In `AllocateNetwork` the
    /// user's options stand here directly.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, Value>,
    /// One entry per IPv4 subnet.
    #[serde(rename = "IPv4Data", deserialize_with = "or_default")]
    pub ipv4_data: Vec<IpamData>,
    /// One entry per IPv6 subnet.
    #[serde(rename = "IPv6Data", deserialize_with = "or_default")]
    pub ipv6_data: Vec<IpamData>,
}

/// A subnet, as IPAM has chosen it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamData {
    /// Of the IPAM driver that chose it.
    #[serde(deserialize_with = "or_default")]
    pub address_space: String,
    /// Subnet with prefix length.
    #[serde(deserialize_with = "or_default")]
    pub pool: String,
    /// Gateway with prefix length; absent where none was asked for.
    #[serde(deserialize_with = "or_default")]
    pub gateway: String,
    /// Name to address with prefix length.
    #[serde(deserialize_with = "or_default")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// The answer to `AllocateNetwork`: these options, and no others, reach the nodes' `CreateNetwork`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllocateAnswer {
    /// Options for the nodes.
    pub options: BTreeMap<String, String>,
}

/// Calls that name a network only: `DeleteNetwork`, `FreeNetwork`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetworkRef {
    /// Docker's id.
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub network_id: String,
}

/// Calls that name an endpoint only: `DeleteEndpoint`, `EndpointOperInfo`, `Leave`, and the two for
/// external connectivity, whose options are not needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointRef {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "or_default")]
    pub endpoint_id: String,
}

/// `CreateEndpoint`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateEndpoint {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "or_default")]
    pub endpoint_id: String,
    /// What IPAM and the user have fixed.
    #[serde(deserialize_with = "or_default")]
    pub interface: Interface,
    /// Published ports, user options. Of no use here, and of a shape that changes: kept as it is.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, Value>,
}

/// An interface: in a request the fixed fields, in an answer only those that were empty in the request.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Interface {
    /// IPv4 address with prefix length.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// IPv6 address with prefix length.
    #[serde(
        rename = "AddressIPv6",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub address_ipv6: String,
    /// Ethernet address.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
}

/// The answer to `CreateEndpoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateEndpointAnswer {
    /// What the driver adds.
    pub interface: Interface,
}

/// The answer to `EndpointOperInfo`; nothing a remote driver puts there is used.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OperInfoAnswer {
    /// Empty.
    pub value: super::Empty,
}

/// `Join`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Join {
    /// Docker's id of the network.
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub network_id: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID", deserialize_with = "or_default")]
    pub endpoint_id: String,
    /// Path of the container's network namespace, which may not exist yet (engines before 28).
    #[serde(deserialize_with = "or_default")]
    pub sandbox_key: String,
}

/// The answer to `Join`. It names no gateway: the engine then adds `docker_gwbridge` for the way out and
/// for published ports, except on internal networks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinAnswer {
    /// The link to move into the container.
    pub interface_name: InterfaceName,
}

/// A link in the host's namespace, and what its name inside begins with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Name in the host's namespace, at most 15 characters.
    pub src_name: String,
    /// Beginning of the name inside; the engine appends the first free number.
    pub dst_prefix: &'static str,
}

/// `DiscoverNew` and `DiscoverDelete`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Discover {
    /// 1 for a node; nothing else reaches remote drivers.
    #[serde(deserialize_with = "or_default")]
    pub discovery_type: i64,
    /// The node's addresses. This driver keeps its own register of hosts.
    #[serde(deserialize_with = "or_default")]
    pub discovery_data: Value,
}
