//! Which addresses have moved to another MAC, so that containers that remember the old one must be told.
//!
//! An address has the same MAC for ever unless a user chooses one, so this is rare. It matters all the
//! same: a container that holds the old MAC as reachable would talk to nobody until its entry ages.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Op;
use crate::model::{MacAddr, Vni};

/// The MAC behind each address, as the containers of a segment last had reason to know it.
pub type Spoken = BTreeMap<(Vni, IpAddr), MacAddr>;

/// What has to be announced, and what is known from then on. An address that is gone is remembered while
/// its segment is here: its next holder may have another MAC.
pub fn moved(spoken: &Spoken, now: &Spoken) -> (Vec<Op>, Spoken) {
    let here: BTreeSet<Vni> = now.keys().map(|(vni, _)| *vni).collect();
    let mut known: Spoken =
        spoken.iter().filter(|((vni, _), _)| here.contains(vni)).map(|(k, v)| (*k, *v)).collect();
    let mut announcements = Vec::new();
    for (&(vni, ip), &mac) in now {
        if known.insert((vni, ip), mac).is_some_and(|old| old != mac) {
            announcements.push(Op::Announce { vni, ip, mac });
        }
    }
    (announcements, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(entries: &[(u32, u8, u8)]) -> Spoken {
        let entry = |&(vni, ip, mac): &(u32, u8, u8)| {
            (
                (Vni::new(vni).unwrap(), IpAddr::from([10, 9, 0, ip])),
                MacAddr::new([2, 0, 0, 0, 0, mac]).unwrap(),
            )
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn only_another_mac_is_news() {
        let (ops, known) = moved(&spoken(&[]), &spoken(&[(1, 2, 2), (1, 3, 3)]));
        assert_eq!((ops, known.len()), (vec![], 2));
        let (ops, _) = moved(&known, &spoken(&[(1, 2, 2), (1, 3, 9)]));
        assert_eq!(ops.len(), 1);
    }

    #[test]
    fn an_address_that_was_away_is_still_known_and_a_segment_that_left_is_not() {
        let (_, known) = moved(&spoken(&[(1, 2, 2), (1, 3, 3)]), &spoken(&[(1, 2, 2)]));
        let (ops, _) = moved(&known, &spoken(&[(1, 2, 2), (1, 3, 9)]));
        assert_eq!(ops.len(), 1);
        let (_, known) = moved(&known, &spoken(&[]));
        assert!(known.is_empty());
    }
}
