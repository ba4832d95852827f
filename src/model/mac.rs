//! Ethernet addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A unicast Ethernet address, written `02:42:0a:09:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

/// Why a text is no unicast Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a unicast MAC address such as 02:42:0a:09:00:02")]
pub struct MacError(String);

impl MacAddr {
    /// Checks and wraps six bytes; a zero or a group address is refused.
    pub fn new(bytes: [u8; 6]) -> Result<Self, MacError> {
        let mac = Self(bytes);
        if bytes == [0; 6] || bytes[0] & 1 == 1 { Err(MacError(mac.to_string())) } else { Ok(mac) }
    }

    /// The address that belongs to `ip` when the user gave none: `02:42` and the four bytes of an IPv4
    /// address, as Docker's own overlay does it, so that an address keeps its MAC for ever and no ARP
    /// cache goes stale. An IPv6 address gives `02:43` and a hash of its 16 bytes.
    pub fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0x02, 0x42, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d] = fnv1a(&v6.octets()).to_be_bytes();
                Self([0x02, 0x43, a, b, c, d])
            }
        }
    }

    /// The locally administered address of the bridge of a network: fixed at its creation, because a
    /// bridge without one takes the lowest of its ports' and drops its neighbours when that changes.
    pub fn of_bridge(vni: super::Vni) -> Self {
        let [_, a, b, c] = vni.get().to_be_bytes();
        Self([0x02, 0x72, 0x73, a, b, c])
    }

    /// A locally administered unicast address that is none of those above.
    pub(super) const fn local(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes in network order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl FromStr for MacAddr {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Self::new(bytes) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_address() {
        assert_eq!(MacAddr::from_ip(IpAddr::from([10, 9, 0, 2])).to_string(), "02:42:0a:09:00:02");
        let six = MacAddr::from_ip("fd00::1".parse().unwrap());
        assert_eq!(six.octets()[..2], [0x02, 0x43]);
        assert_ne!(six, MacAddr::from_ip("fd00::2".parse().unwrap()));
    }

    #[test]
    fn refuses_what_no_container_may_have() {
        for bad in [
            "",
            "02:42",
            "02:42:0a:09:00:02:03",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02:42:0a:09:0:002",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
    }
}
