//! How packets go through a host, as `status` tells it.

use serde::{Deserialize, Serialize};

/// The way that containers' packets take on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPathStatus {
    /// Known unicast goes past the bridges.
    pub fast: bool,
    /// Why that is so, or not.
    pub because: String,
    /// Frames that were dropped because they came from another Ethernet address than their container's.
    pub forged_macs: u64,
    /// Frames that were dropped because they came from, or spoke for, an IP address that is not their container's.
    pub forged_addresses: u64,
    /// Why these are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
