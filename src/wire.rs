//! Docker's JSON, as its engines send and expect it. No logic; only `http` sees these types.
//!
//! Keys are Go field names. Engines leave keys out, send `null` for empty maps and lists, and add keys
//! with each release: everything is optional and unknown keys are passed over.

pub mod ipam;
pub mod network;

use serde::{Deserialize, Deserializer, Serialize};

/// The answer to `/Plugin.Activate`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// Kinds of plugin on this socket.
    pub implements: &'static [&'static str],
}

/// An empty answer, `{}`.
#[derive(Debug, Default, Serialize)]
pub struct Empty {}

/// An error. Network drivers read `Err`, IPAM drivers read `Error`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// For network drivers.
    pub err: String,
    /// For IPAM drivers.
    pub error: String,
}

/// Reads `null` as the default value.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
