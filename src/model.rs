//! The vocabulary of the overlay: identifiers and records. Pure data.

pub(crate) mod changes;
mod claim;
mod cluster;
mod endpoint;
mod fast_path;
mod ids;
mod mac;
mod mode;
mod network;
mod node;
mod probe;
mod shared;
mod snapshot;
mod underlay;
mod vni;

pub use claim::{AddressClaim, ClaimKind, NetworkClaim, Pool, Space, Wanted};
pub use cluster::{GaveWay, Mark, Meta, Removed};
pub use endpoint::Endpoint;
pub use fast_path::FastPathMode;
pub use ids::{EndpointId, IdError, NetworkId, NodeId};
pub use mac::{MacAddr, MacError};
pub use mode::{EngineMode, Mode, Role, Scope, ScopeChoice};
pub use network::{FLOOD_OPTION, IpamMode, JOIN_OPTION, Network, Presence, SOURCE_CHECK_OPTION, Subnet};
pub use node::{About, Death, ForeignVxlan, HostRoute, KnownHost, Node};
pub use probe::{PROBE_MTU, PROBE_PREFIX, probe_address, probe_mac};
pub use shared::Shared;
pub use snapshot::{Endpoints, Snapshot};
pub use underlay::{Before, Underlay};
pub use vni::{Vni, VniError};
