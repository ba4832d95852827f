//! Choice of a VNI.

use std::collections::BTreeSet;

use crate::model::Vni;

/// The lowest free VNI that is left to automatic choice, after skipping `skip` free ones (a host that has
/// lost a race skips a few, so that hosts that create at once part ways). `None` when all are taken.
pub fn choose_vni(taken: &BTreeSet<Vni>, skip: u32) -> Option<Vni> {
    let mut free = (Vni::FIRST_AUTOMATIC..Vni::PROBE.get())
        .filter_map(|number| Vni::new(number).ok())
        .filter(|vni| !taken.contains(vni));
    let first = free.next()?;
    // `nth(0)` is the one behind the first.
    let later = skip.checked_sub(1).and_then(|n| free.nth(usize::try_from(n).ok()?));
    Some(later.unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lowest_free_one_or_skips() {
        let vni = |n| Vni::new(n).unwrap();
        let taken = BTreeSet::from([vni(4096), vni(4098)]);
        assert_eq!(choose_vni(&taken, 0), Some(vni(4097)));
        assert_eq!(choose_vni(&taken, 1), Some(vni(4099)));
        assert_eq!(choose_vni(&taken, 2), Some(vni(4100)));
    }
}
