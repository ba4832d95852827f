//! Which addresses have moved to another MAC, so that containers that remember the old one must be told.
//!
//! An address has the same MAC for ever unless a user chooses one, so this is rare. It matters all the
//! same: a container that holds the old MAC as reachable would talk to nobody until its entry ages.

use std::{collections::BTreeMap, net::IpAddr};

use crate::model::{
    MacAddr, Shared,
    changes::{changed, gone},
};

/// The MAC behind each address, as the containers of a segment last had reason to know it.
#[derive(Debug, Clone, Default)]
pub struct Spoken {
    /// Of containers elsewhere: the segment's own table, not a copy of it.
    others: Shared<BTreeMap<IpAddr, MacAddr>>,
    /// Of containers here, and of those that are gone. These count where `others` says something else.
    rest: BTreeMap<IpAddr, MacAddr>,
}

impl Spoken {
    /// Takes in what is so now: the addresses of containers elsewhere, and those of containers `here`, which count
    /// where both have one. Answers those that have moved. An address that is gone is remembered: its next holder may
    /// have another MAC.
    pub fn hear(
        &mut self,
        others: &Shared<BTreeMap<IpAddr, MacAddr>>,
        here: BTreeMap<IpAddr, MacAddr>,
    ) -> Vec<(IpAddr, MacAddr)> {
        let mut moved: Vec<_> = here
            .iter()
            .filter(|(ip, mac)| self.mac(ip).is_some_and(|old| old != **mac))
            .map(|(ip, mac)| (*ip, *mac))
            .collect();
        let elsewhere = |(ip, _): &(&IpAddr, &MacAddr)| !here.contains_key(ip);
        if !self.others.is(others) {
            let news = changed(&self.others, others).filter(elsewhere);
            let known = |ip| self.others.contains_key(ip) && !self.rest.contains_key(ip);
            moved.extend(news.filter(|(ip, _)| known(*ip)).map(|(ip, mac)| (*ip, *mac)));
        }
        let back =
            self.rest.iter().filter_map(|(ip, old)| Some((ip, others.get(ip).filter(|mac| *mac != old)?)));
        moved.extend(back.filter(elsewhere).map(|(ip, mac)| (*ip, *mac)));
        if !self.others.is(others) {
            for (ip, mac) in gone(&self.others, others) {
                self.rest.entry(*ip).or_insert(*mac);
            }
            self.others = others.clone();
        }
        self.rest.retain(|ip, _| !others.contains_key(ip));
        self.rest.extend(here);
        moved
    }

    fn mac(&self, ip: &IpAddr) -> Option<MacAddr> {
        self.rest.get(ip).or_else(|| self.others.get(ip)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    type Table = BTreeMap<IpAddr, MacAddr>;

    fn table(entries: &[(u8, u8)]) -> Table {
        let entry = |&(ip, mac): &(u8, u8)| {
            (IpAddr::from([10, 9, 0, ip]), MacAddr::new([2, 0, 0, 0, 0, mac]).unwrap())
        };
        entries.iter().map(entry).collect()
    }

    fn hear(spoken: &mut Spoken, others: &[(u8, u8)], here: &[(u8, u8)]) -> Table {
        spoken.hear(&table(others).into(), table(here)).into_iter().collect()
    }

    #[test]
    fn only_another_mac_is_news() {
        let mut spoken = Spoken::default();
        assert_eq!(hear(&mut spoken, &[(2, 2), (3, 3)], &[(4, 4)]), table(&[]));
        assert_eq!(hear(&mut spoken, &[(2, 2), (3, 9)], &[(4, 4)]), table(&[(3, 9)]));
        assert_eq!(hear(&mut spoken, &[(2, 2)], &[(3, 9), (4, 5)]), table(&[(4, 5)]));
        assert_eq!(hear(&mut spoken, &[(2, 2)], &[(3, 9), (4, 5)]), table(&[]));
    }

    #[test]
    fn an_address_that_was_away_is_still_known() {
        let mut spoken = Spoken::default();
        hear(&mut spoken, &[(2, 2), (3, 3)], &[]);
        assert_eq!(hear(&mut spoken, &[(2, 2)], &[]), table(&[]));
        assert_eq!(hear(&mut spoken, &[(2, 2), (3, 9)], &[]), table(&[(3, 9)]));
    }

    proptest! {
        /// The law: one table of all that was ever heard.
        #[test]
        fn what_is_remembered_in_parts_is_what_one_table_would_hold(
            rounds in vec((vec((0..5_u8, 0..3_u8), 0..5), vec((0..5_u8, 0..3_u8), 0..3)), 1..8),
        ) {
            let (mut spoken, mut all) = (Spoken::default(), Table::new());
            for (others, here) in rounds {
                let mut now = table(&others);
                now.extend(table(&here));
                let moved: Table =
                    now.iter().filter(|(ip, mac)| all.get(ip).is_some_and(|old| old != *mac)).map(|(ip, mac)| (*ip, *mac)).collect();
                prop_assert_eq!(hear(&mut spoken, &others, &here), moved);
                all.extend(now);
            }
        }
    }
}
