//! Calls of the IPAM driver (`/IpamDriver.*`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::or_default;

/// The answer to `GetCapabilities`.
#[derive(Debug, Serialize)]
pub struct Capabilities {
    /// Whether the engine must draw a MAC before it asks for an address.
    #[serde(rename = "RequiresMACAddress")]
    pub requires_mac_address: bool,
    /// Whether the engine must repeat all requests at its start.
    #[serde(rename = "RequiresRequestReplay")]
    pub requires_request_replay: bool,
}

/// The answer to `GetDefaultAddressSpaces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressSpaces {
    /// For networks of one engine.
    pub local_default_address_space: &'static str,
    /// For networks that engines share.
    pub global_default_address_space: &'static str,
}

/// `RequestPool`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPool {
    /// One of the two spaces.
    #[serde(deserialize_with = "or_default")]
    pub address_space: String,
    /// `--subnet`; empty: the driver chooses.
    #[serde(deserialize_with = "or_default")]
    pub pool: String,
    /// `--ip-range`.
    #[serde(deserialize_with = "or_default")]
    pub sub_pool: String,
    /// `--ipam-opt`.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, String>,
    /// An IPv6 subnet is wanted.
    #[serde(deserialize_with = "or_default")]
    pub v6: bool,
}

/// The answer to `RequestPool`.
#[derive(Debug, Serialize)]
pub struct PoolAnswer {
    /// The engine's handle.
    #[serde(rename = "PoolID")]
    pub pool_id: String,
    /// The subnet with prefix length.
    #[serde(rename = "Pool")]
    pub pool: String,
    /// Further facts; none.
    #[serde(rename = "Data")]
    pub data: BTreeMap<String, String>,
}

/// `ReleasePool`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReleasePool {
    /// The engine's handle.
    #[serde(rename = "PoolID", deserialize_with = "or_default")]
    pub pool_id: String,
}

/// `RequestAddress`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestAddress {
    /// The engine's handle.
    #[serde(rename = "PoolID", deserialize_with = "or_default")]
    pub pool_id: String,
    /// `--ip`, `--gateway`, `--aux-address`; empty: the driver chooses.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
    /// What the address is for.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, String>,
}

/// The answer to `RequestAddress`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressAnswer {
    /// Address with prefix length.
    pub address: String,
    /// Further facts; none.
    pub data: BTreeMap<String, String>,
}

/// `ReleaseAddress`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReleaseAddress {
    /// The engine's handle.
    #[serde(rename = "PoolID", deserialize_with = "or_default")]
    pub pool_id: String,
    /// The address, without prefix length.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
}
