//! How many addresses, and which, a host claims ahead, so that it can start containers without asking
//! anybody.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{AddressChoice, Direction, address::capacity, choose_address, usable};

/// Most addresses that a host claims ahead in one subnet.
const MOST: u128 = 8;

/// The question: what to change about the addresses that a host holds in reserve in one subnet.
#[derive(Debug, Clone)]
pub struct ReserveQuestion<'a> {
    /// The subnet.
    pub cidr: IpNet,
    /// The part of it to choose from (`--ip-range`).
    pub range: Option<IpNet>,
    /// Hosts that live, this one among them.
    pub hosts: usize,
    /// Addresses that this host must not claim: held by others, in use here, gateway, auxiliary ones, those
    /// that another host calls for. None of `held`.
    pub taken: &'a BTreeSet<IpAddr>,
    /// What this host holds in reserve, in the order in which it is spent.
    pub held: &'a [IpAddr],
    /// The address handed out before; see [`AddressChoice`].
    pub last: Option<IpAddr>,
    /// From which end.
    pub direction: Direction,
    /// An engine's own IPAM chooses on this host: the reserve has to be what it chooses next, the lowest
    /// free ones.
    pub lowest: bool,
    /// Some host finds the subnet full: hold nothing.
    pub called_for: bool,
}

/// What to change about a reserve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReserveChange {
    /// Addresses to claim.
    pub claim: Vec<IpAddr>,
    /// Addresses to give back, the ones longest out of use first. Whether now or after some rest is the
    /// caller's choice.
    pub give_back: Vec<IpAddr>,
}

/// What makes the reserve of a subnet what it should be.
pub fn plan_reserve(question: &ReserveQuestion<'_>) -> ReserveChange {
    let held = question.held;
    if question.called_for {
        return ReserveChange { claim: Vec::new(), give_back: held.to_vec() };
    }
    let target = target(question);
    if question.lowest {
        let wanted = next_ones(question, question.taken, target, None);
        return ReserveChange {
            claim: wanted.iter().filter(|ip| !held.contains(ip)).copied().collect(),
            give_back: held.iter().filter(|ip| !wanted.contains(ip)).copied().collect(),
        };
    }
    // Some room between the two, or each restart of a container would claim one and give one back.
    let surplus = held.len().saturating_sub(target + target / 2);
    let missing = target.saturating_sub(held.len());
    let mut taken = question.taken.clone();
    taken.extend(held);
    ReserveChange {
        claim: next_ones(question, &taken, missing, question.last),
        give_back: held.iter().take(surplus).copied().collect(),
    }
}

/// A quarter of the subnet for the reserves of all hosts together, and never more than half of what nobody
/// uses: a subnet that fills up must not end in reserves.
fn target(question: &ReserveQuestion<'_>) -> usize {
    let range = question.range.unwrap_or(question.cidr);
    let inside = |ip: &&IpAddr| range.contains(*ip) && usable(&question.cidr, **ip);
    let all = capacity(&question.cidr, &range);
    let free = all.saturating_sub(question.taken.iter().filter(inside).count() as u128);
    let hosts = question.hosts.max(1) as u128;
    usize::try_from(MOST.min(all / (4 * hosts)).min(free / (2 * hosts))).unwrap_or(0)
}

fn next_ones(
    question: &ReserveQuestion<'_>,
    taken: &BTreeSet<IpAddr>,
    count: usize,
    mut last: Option<IpAddr>,
) -> Vec<IpAddr> {
    let mut taken = taken.clone();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let direction = if question.lowest { Direction::Up } else { question.direction };
        let choice = AddressChoice {
            cidr: question.cidr,
            range: question.range,
            taken: &taken,
            last,
            direction,
            skip: 0,
        };
        let Some(ip) = choose_address(&choice) else { break };
        taken.insert(ip);
        chosen.push(ip);
        last = last.map(|_| ip);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 9, 0, last].into()
    }

    fn question<'a>(cidr: &str, taken: &'a BTreeSet<IpAddr>, held: &'a [IpAddr]) -> ReserveQuestion<'a> {
        ReserveQuestion {
            cidr: cidr.parse().unwrap(),
            range: None,
            hosts: 2,
            taken,
            held,
            last: None,
            direction: Direction::Up,
            lowest: false,
            called_for: false,
        }
    }

    #[test]
    fn eight_in_a_usual_subnet_and_none_in_a_tiny_one() {
        let none = BTreeSet::new();
        let count = |cidr: &str, hosts: usize| {
            plan_reserve(&ReserveQuestion { hosts, ..question(cidr, &none, &[]) }).claim.len()
        };
        assert_eq!(count("10.9.0.0/24", 2), 8);
        assert_eq!(count("10.9.0.0/24", 20), 3);
        assert_eq!(count("10.9.0.0/27", 2), 3);
        assert_eq!(count("10.9.0.0/29", 2), 0);
        assert_eq!(count("10.9.0.0/32", 1), 0);
        assert_eq!(count("fd00::/64", 1000), 8);
    }

    #[test]
    fn a_reserve_is_filled_behind_the_last_address_and_gives_back_what_rested_longest() {
        let taken = BTreeSet::from([ip(1), ip(9)]);
        let held = [ip(4), ip(5)];
        let next = ReserveQuestion { last: Some(ip(7)), ..question("10.9.0.0/24", &taken, &held) };
        let claim = [8, 10, 11, 12, 13, 14].map(ip).to_vec();
        assert_eq!(plan_reserve(&next), ReserveChange { claim, give_back: vec![] });
        let held: Vec<_> = (20..34).map(ip).collect();
        let change = plan_reserve(&question("10.9.0.0/24", &taken, &held));
        assert_eq!(change, ReserveChange { claim: vec![], give_back: vec![ip(20), ip(21)] });
        let called = ReserveQuestion { called_for: true, ..question("10.9.0.0/24", &taken, &held) };
        assert_eq!(plan_reserve(&called), ReserveChange { claim: vec![], give_back: held.clone() });
    }

    #[test]
    fn for_an_engine_s_own_ipam_it_is_the_lowest_free_ones() {
        let taken = BTreeSet::from([ip(1), ip(3)]);
        let held = [ip(4), ip(30), ip(2)];
        let change =
            plan_reserve(&ReserveQuestion { lowest: true, ..question("10.9.0.0/27", &taken, &held) });
        assert_eq!(change, ReserveChange { claim: vec![ip(5)], give_back: vec![ip(30)] });
    }

    #[test]
    fn a_subnet_that_fills_up_does_not_end_in_reserves() {
        let taken: BTreeSet<_> = (1..=250).map(ip).collect();
        let held: Vec<_> = (251..255).map(ip).collect();
        let change = plan_reserve(&question("10.9.0.0/24", &taken, &held));
        assert_eq!(change.give_back.len(), 3);
        assert_eq!(plan_reserve(&question("10.9.0.0/24", &taken, &[])).claim.len(), 1);
    }

    proptest! {
        /// What is claimed is free, and carrying the change out twice changes nothing more.
        #[test]
        fn settles(six in any::<bool>(), host_bits in 0u8..=8, hosts in 0usize..30, lowest in any::<bool>(), called_for in any::<bool>(), taken in prop::collection::btree_set(any::<u8>(), 0..200), held in prop::collection::btree_set(any::<u8>(), 0..20), last in any::<Option<u8>>()) {
            let ip = |n: u8| if six { IpAddr::from([0xfd00, 9, 0, 0, 0, 0, 0, n.into()]) } else { ip(n) };
            let cidr = IpNet::new(ip(0), if six { 128 } else { 32 } - host_bits).unwrap();
            let held: Vec<_> = held.difference(&taken).map(|n| ip(*n)).filter(|a| usable(&cidr, *a)).collect();
            let taken: BTreeSet<_> = taken.into_iter().map(ip).collect();
            let ask = |held: &[IpAddr]| plan_reserve(&ReserveQuestion {
                cidr, range: None, hosts, taken: &taken, held, last: last.map(ip), direction: Direction::Up, lowest, called_for,
            });
            let change = ask(&held);
            prop_assert!(change.claim.iter().all(|a| usable(&cidr, *a) && !taken.contains(a) && !held.contains(a)));
            let mut after: Vec<_> = held.iter().filter(|a| !change.give_back.contains(a)).copied().collect();
            after.extend(&change.claim);
            prop_assert_eq!(ask(&after), ReserveChange::default());
        }
    }
}
