//! What differs between two maps, in one walk along both.

use std::collections::BTreeMap;

/// The entries of `new` that are not the same in `old`.
pub(crate) fn changed<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let mut rest = old.iter().peekable();
    new.iter().filter(move |entry| {
        while rest.next_if(|(key, _)| *key < entry.0).is_some() {}
        rest.peek() != Some(entry)
    })
}

/// The entries of `old` whose keys are not in `new`.
pub(crate) fn gone<'a, K: Ord, V, W>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, W>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let mut rest = new.keys().peekable();
    old.iter().filter(move |(key, _)| {
        while rest.next_if(|next| next < key).is_some() {}
        rest.peek() != Some(key)
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_walk_along_both_finds_what_lookups_find(
            old in btree_map(0..12_u8, 0..3_u8, 0..10),
            new in btree_map(0..12_u8, 0..3_u8, 0..10),
        ) {
            let by_lookup: Vec<_> = new.iter().filter(|(key, value)| old.get(key) != Some(value)).collect();
            prop_assert_eq!(changed(&old, &new).collect::<Vec<_>>(), by_lookup);
            let by_lookup: Vec<_> = old.iter().filter(|(key, _)| !new.contains_key(key)).collect();
            prop_assert_eq!(gone(&old, &new).collect::<Vec<_>>(), by_lookup);
        }
    }
}
