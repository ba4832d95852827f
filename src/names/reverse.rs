//! Names of addresses (RFC 1035, section 3.5; RFC 3596, section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for; `None` for parts of one.
pub(super) fn address(name: &str) -> Option<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        fill(&mut bytes, labels, decimal)?;
        return Some(Ipv4Addr::from(bytes).into());
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let mut digits = [0; 32];
    fill(&mut digits, labels, nibble)?;
    Some(Ipv6Addr::from(digits.iter().fold(0_u128, |value, digit| value << 4 | u128::from(*digit))).into())
}

/// The name below `in-addr.arpa` or `ip6.arpa` that stands for an address.
pub fn question(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits = format!("{:032x}", u128::from(ip));
            digits.chars().rev().flat_map(|digit| [digit, '.']).chain("ip6.arpa".chars()).collect()
        }
    }
}

/// The labels from the last to the first, as many as there is room for.
fn fill(room: &mut [u8], labels: &str, read: impl Fn(&str) -> Option<u8>) -> Option<()> {
    let mut labels = labels.rsplit('.');
    for byte in room {
        *byte = read(labels.next()?)?;
    }
    labels.next().is_none().then_some(())
}

fn decimal(label: &str) -> Option<u8> {
    let plain = label.bytes().all(|b| b.is_ascii_digit()) && (label == "0" || !label.starts_with('0'));
    plain.then(|| label.parse().ok())?
}

fn nibble(label: &str) -> Option<u8> {
    (label.len() == 1).then(|| u8::from_str_radix(label, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_address_comes_back(four: u32, six: u128, six_please: bool) {
            let ip: IpAddr = if six_please { Ipv6Addr::from(six).into() } else { Ipv4Addr::from(four).into() };
            prop_assert_eq!(address(&question(ip)), Some(ip));
            prop_assert_eq!(address(&question(ip).to_ascii_uppercase()), Some(ip));
        }

        #[test]
        fn no_text_is_too_odd(text in ".*", tail in "(\\.in-addr|\\.ip6)?(\\.arpa)?\\.?") {
            // Anything may come; it is only asked to answer.
            let _ = address(&format!("{text}{tail}"));
        }
    }

    #[test]
    fn parts_of_an_address_are_none() {
        for name in [
            "9.10.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "01.2.3.4.in-addr.arpa",
            "256.2.3.4.in-addr.arpa",
            "+1.2.3.4.in-addr.arpa",
            "1.2.3.4.ip6.arpa",
            "in-addr.arpa",
            "1.2.3.4.in-addr.arpa.example",
        ] {
            assert_eq!(address(name), None, "{name}");
        }
    }
}
