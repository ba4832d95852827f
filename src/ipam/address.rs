//! Choice of an address in a subnet.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// From which end addresses are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Lowest first.
    Up,
    /// Highest first: in networks where one engine's own IPAM takes the lowest, the two meet only when
    /// the subnet is nearly full.
    Down,
}

/// The question: which address of a subnet to claim next.
#[derive(Debug, Clone)]
pub struct AddressChoice<'a> {
    /// The subnet.
    pub cidr: IpNet,
    /// The part of it to choose from (`--ip-range`).
    pub range: Option<IpNet>,
    /// Addresses that are claimed.
    pub taken: &'a BTreeSet<IpAddr>,
    /// The address handed out before; the search goes on behind it, so that a freed address rests as
    /// long as others are free and no stale ARP entry elsewhere meets a new owner.
    pub last: Option<IpAddr>,
    /// From which end.
    pub direction: Direction,
    /// Free addresses to pass over, drawn by a host that has just lost a race for one.
    pub skip: u32,
}

/// Whether a container may have `ip` in `cidr`: not the network's own address nor the broadcast address.
/// A /31 and a /127 use both their addresses (RFC 3021, RFC 6164), a /32 and a /128 their only one.
pub fn usable(cidr: &IpNet, ip: IpAddr) -> bool {
    if !cidr.contains(&ip) {
        return false;
    }
    match cidr {
        IpNet::V4(net) => net.prefix_len() >= 31 || (ip != net.network() && ip != net.broadcast()),
        // The all-zero host part is the subnet-router anycast address (RFC 4291, section 2.6.1).
        IpNet::V6(net) => net.prefix_len() >= 127 || ip != net.network(),
    }
}

/// The address to claim, or `None` when none is free. Costs one step per claimed address, never one per
/// address of the subnet.
pub fn choose_address(choice: &AddressChoice<'_>) -> Option<IpAddr> {
    let range = choice.range.unwrap_or(choice.cidr);
    let (low, high) = bounds(&choice.cidr, &range)?;
    let after = choice.last.map(to_number).filter(|last| (low..=high).contains(last));
    let spans = match (choice.direction, after) {
        (Direction::Up, Some(last)) if last < high => vec![(last + 1, high), (low, last)],
        (Direction::Down, Some(last)) if last > low => vec![(low, last - 1), (last, high)],
        _ => vec![(low, high)],
    };
    let mut skip = choice.skip;
    let mut passed = None;
    for (from, to) in spans {
        let mut at = Some(if choice.direction == Direction::Up { from } else { to });
        while let Some(number) = at.filter(|n| (from..=to).contains(n)) {
            let ip = from_number(number, &choice.cidr);
            if !choice.taken.contains(&ip) {
                if skip == 0 {
                    return Some(ip);
                }
                skip -= 1;
                passed.get_or_insert(ip);
            }
            at = match choice.direction {
                Direction::Up => number.checked_add(1),
                Direction::Down => number.checked_sub(1),
            };
        }
    }
    passed
}

/// How many addresses of `range`, a part of `cidr`, containers may have.
pub(super) fn capacity(cidr: &IpNet, range: &IpNet) -> u128 {
    bounds(cidr, range).map_or(0, |(low, high)| (high - low).saturating_add(1))
}

/// First and last address, as numbers, that may be handed out.
fn bounds(cidr: &IpNet, range: &IpNet) -> Option<(u128, u128)> {
    let (mut low, mut high) = (to_number(range.network()), to_number(range.broadcast()));
    if !usable(cidr, from_number(low, cidr)) {
        low += 1;
    }
    if !usable(cidr, from_number(high, cidr)) {
        high = high.checked_sub(1)?;
    }
    (low <= high).then_some((low, high))
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, family: &IpNet) -> IpAddr {
    match family {
        IpNet::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choice<'a>(cidr: &str, taken: &'a BTreeSet<IpAddr>) -> AddressChoice<'a> {
        let cidr = cidr.parse().unwrap();
        AddressChoice { cidr, range: None, taken, last: None, direction: Direction::Up, skip: 0 }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn edges_of_every_prefix_length() {
        let none = BTreeSet::new();
        assert_eq!(choose_address(&choice("10.9.0.0/24", &none)), Some(ip("10.9.0.1")));
        assert_eq!(choose_address(&choice("10.9.0.0/31", &none)), Some(ip("10.9.0.0")));
        assert_eq!(choose_address(&choice("10.9.0.7/32", &none)), Some(ip("10.9.0.7")));
        assert_eq!(choose_address(&choice("fd00::/64", &none)), Some(ip("fd00::1")));
        let down = AddressChoice { direction: Direction::Down, ..choice("10.9.0.0/24", &none) };
        assert_eq!(choose_address(&down), Some(ip("10.9.0.254")));
        let top = AddressChoice { direction: Direction::Down, ..choice("255.255.255.0/24", &none) };
        assert_eq!(choose_address(&top), Some(ip("255.255.255.254")));
    }

    #[test]
    fn a_freed_address_rests() {
        let taken = BTreeSet::from([ip("10.9.0.1")]);
        let next = AddressChoice { last: Some(ip("10.9.0.5")), ..choice("10.9.0.0/29", &taken) };
        assert_eq!(choose_address(&next), Some(ip("10.9.0.6")));
        let wrapped = AddressChoice { last: Some(ip("10.9.0.6")), ..choice("10.9.0.0/29", &taken) };
        assert_eq!(choose_address(&wrapped), Some(ip("10.9.0.2")));
    }

    #[test]
    fn the_range_holds() {
        let none = BTreeSet::new();
        let range = AddressChoice { range: "10.9.0.128/30".parse().ok(), ..choice("10.9.0.0/24", &none) };
        assert_eq!(choose_address(&range), Some(ip("10.9.0.128")));
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|n| IpAddr::V4(n.into())),
            any::<u128>().prop_map(|n| IpAddr::V6(n.into()))
        ]
    }

    proptest! {
        /// Claiming one by one hands out every usable address once, then none.
        #[test]
        fn never_twice_and_never_short(host_bits in 0u8..=8, six in any::<bool>(), down in any::<bool>(), skips in prop::collection::vec(0u32..5, 1..8)) {
            let nth = |n: u8| if six { IpAddr::from([0xfd00, 9, 0, 0, 0, 0, 0, n.into()]) } else { IpAddr::from([10, 9, 0, n]) };
            let cidr = IpNet::new(nth(0), if six { 128 } else { 32 } - host_bits).unwrap();
            let all: BTreeSet<IpAddr> = (0..=255u8).map(nth).filter(|a| usable(&cidr, *a)).collect();
            let direction = if down { Direction::Down } else { Direction::Up };
            let mut taken = BTreeSet::new();
            let mut last = None;
            for step in 0..all.len() {
                let got = choose_address(&AddressChoice { cidr, range: None, taken: &taken, last, direction, skip: skips[step % skips.len()] });
                let got = got.ok_or_else(|| TestCaseError::fail(format!("none left after {step} of {}", all.len())))?;
                prop_assert!(all.contains(&got) && taken.insert(got));
                last = Some(got);
            }
            prop_assert_eq!(choose_address(&AddressChoice { cidr, range: None, taken: &taken, last, direction, skip: 0 }), None);
        }

        /// No input makes it panic, and what it answers is free and usable.
        #[test]
        fn any_question(net in any_ip(), len in 0u8..=128, rlen in 0u8..=128, last in any::<Option<u128>>(), down in any::<bool>(), skip in 0u32..9, taken in prop::collection::btree_set(any::<u128>(), 0..20)) {
            let most = if net.is_ipv4() { 32 } else { 128 };
            let len = len.min(most);
            let cidr = IpNet::new(net, len).unwrap().trunc();
            let range = IpNet::new(net, rlen.clamp(len, most)).unwrap().trunc();
            let ip = |number: u128| if net.is_ipv4() { IpAddr::V4(u32::try_from(number % (1 << 32)).unwrap().into()) } else { IpAddr::V6(number.into()) };
            let near = to_number(range.network());
            // Numbers that lie anywhere, and such that lie near the first ones of the range.
            let taken: BTreeSet<_> = taken.into_iter().flat_map(|n| [ip(n), ip(near.wrapping_add(n % 8))]).collect();
            let direction = if down { Direction::Down } else { Direction::Up };
            let question = AddressChoice { cidr, range: Some(range), taken: &taken, last: last.map(ip), direction, skip };
            if let Some(got) = choose_address(&question) {
                prop_assert!(usable(&cidr, got) && range.contains(&got) && !taken.contains(&got));
            }
        }
    }
}
