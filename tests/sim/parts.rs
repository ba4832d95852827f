//! What the checks have to know of parts of the design that leave something behind on purpose.

use rs_overlay::{
    model::{AddressClaim, ClaimKind},
    store::keys,
};

/// Whether an address is held ahead, for nobody yet.
pub(crate) fn is_reserve(claim: &AddressClaim) -> bool {
    claim.kind == ClaimKind::Reserve
}

/// Whether a key may stay when no network is left: hosts are remembered, and so is what was removed.
pub(crate) fn may_stay(key: &str) -> bool {
    [keys::CLUSTER, keys::HOSTS, keys::REMOVED].iter().any(|part| key.starts_with(part))
}
