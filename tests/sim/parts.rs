//! What the checks have to know of parts of the design that leave something behind on purpose.

use rs_overlay::{model::AddressClaim, store::keys};

/// Whether an address is held ahead, for nobody yet.
pub(crate) fn is_reserve(_claim: &AddressClaim) -> bool {
    false
}

/// Whether a key may stay when no network is left.
pub(crate) fn may_stay(key: &str) -> bool {
    // Hosts are remembered, whether they come back or not.
    key.starts_with(keys::HOSTS)
}
