//! What stands in the maps of the fast path, byte for byte as `program.c` has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    model::{MacAddr, Vni},
    plan::Sources,
};

const HAS_IPV4: u16 = 1;
const HAS_IPV6: u16 = 2;
const CHECKED: u16 = 4;
const TO_TUNNEL: u32 = 1;
const TO_PORT: u32 = 2;

/// A link's index.
pub(super) type LinkKey = [u8; 4];
/// `struct port`.
pub(super) type PortValue = [u8; 40];
/// `struct station`.
pub(super) type StationKey = [u8; 12];
/// `struct target`.
pub(super) type PlaceValue = [u8; 8];

/// What the program on a container's port knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataplane) struct PortEntry {
    /// Its network.
    pub(in crate::dataplane) vni: Vni,
    /// Index of the network's VXLAN device; 0: what goes elsewhere goes by the bridge.
    pub(in crate::dataplane) tunnel: u32,
    /// Largest packet that the network carries, in bytes.
    pub(in crate::dataplane) mtu: u32,
    /// The only Ethernet address that may speak through it.
    pub(in crate::dataplane) mac: MacAddr,
    /// The only addresses.
    pub(in crate::dataplane) sources: Sources,
}

/// Where a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataplane) enum Target {
    /// On another host.
    Tunnel,
    /// Behind the port with this index.
    Port(u32),
}

impl PortEntry {
    pub(super) fn encode(&self) -> PortValue {
        let (flags, v4, v6) = match self.sources {
            Sources::Any => (0, None, None),
            Sources::Only { v4, v6 } => {
                let four = if v4.is_some() { HAS_IPV4 } else { 0 };
                let six = if v6.is_some() { HAS_IPV6 } else { 0 };
                (CHECKED | four | six, v4, v6)
            }
        };
        let mut value = [0; 40];
        put(&mut value, 0, &self.vni.get().to_ne_bytes());
        put(&mut value, 4, &self.tunnel.to_ne_bytes());
        put(&mut value, 8, &self.mtu.to_ne_bytes());
        put(&mut value, 12, &flags.to_ne_bytes());
        put(&mut value, 14, &self.mac.octets());
        put(&mut value, 20, &v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        put(&mut value, 24, &v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
        value
    }

    /// `None`: it is none of ours.
    pub(super) fn decode(value: &PortValue) -> Option<Self> {
        let flags = u16::from_ne_bytes(*value.get(12..)?.first_chunk()?);
        let v4 = Ipv4Addr::from(*value.get(20..)?.first_chunk::<4>()?);
        let v6 = Ipv6Addr::from(*value.get(24..)?.first_chunk::<16>()?);
        let sources = if flags & CHECKED == 0 {
            Sources::Any
        } else {
            Sources::Only {
                v4: (flags & HAS_IPV4 != 0).then_some(v4),
                v6: (flags & HAS_IPV6 != 0).then_some(v6),
            }
        };
        Some(Self {
            vni: Vni::new(number(value, 0)?).ok()?,
            tunnel: number(value, 4)?,
            mtu: number(value, 8)?,
            mac: MacAddr::new(*value.get(14..)?.first_chunk()?).ok()?,
            sources,
        })
    }
}

impl Target {
    pub(super) fn encode(self) -> PlaceValue {
        let (kind, index) = match self {
            Self::Tunnel => (TO_TUNNEL, 0),
            Self::Port(index) => (TO_PORT, index),
        };
        let mut value = [0; 8];
        put(&mut value, 0, &kind.to_ne_bytes());
        put(&mut value, 4, &index.to_ne_bytes());
        value
    }

    pub(super) fn decode(value: PlaceValue) -> Option<Self> {
        match number(&value, 0)? {
            TO_TUNNEL => Some(Self::Tunnel),
            TO_PORT => Some(Self::Port(number(&value, 4)?)),
            _ => None,
        }
    }
}

pub(super) fn station(vni: Vni, mac: MacAddr) -> StationKey {
    let mut key = [0; 12];
    put(&mut key, 0, &vni.get().to_ne_bytes());
    put(&mut key, 4, &mac.octets());
    key
}

pub(super) fn read_station(key: &StationKey) -> Option<(Vni, MacAddr)> {
    let mac = MacAddr::new(*key.get(4..)?.first_chunk()?).ok()?;
    Some((Vni::new(number(key, 0)?).ok()?, mac))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mac = MacAddr::from_ip([10, 9, 0, 2].into());
        let (v4, v6) = (Some(Ipv4Addr::new(10, 9, 0, 2)), Some("fd00::2".parse().unwrap()));
        let vni = Vni::new(0x0012_3456).unwrap();
        for sources in [
            Sources::Any,
            Sources::Only { v4, v6 },
            Sources::Only { v4, v6: None },
            Sources::Only { v4: None, v6 },
            Sources::Only { v4: None, v6: None },
        ] {
            let entry = PortEntry { vni, tunnel: 7, mtu: 1450, mac, sources };
            assert_eq!(PortEntry::decode(&entry.encode()), Some(entry));
        }
        for target in [Target::Tunnel, Target::Port(9)] {
            assert_eq!(Target::decode(target.encode()), Some(target));
        }
        assert_eq!(Target::decode([2; 8]), None);
        assert_eq!(read_station(&station(vni, mac)), Some((vni, mac)));
        assert_eq!((PortEntry::decode(&[0; 40]), read_station(&[0; 12])), (None, None));
    }

    #[test]
    fn the_bytes_are_those_of_the_program() {
        let entry = PortEntry {
            vni: Vni::new(1).unwrap(),
            tunnel: 2,
            mtu: 3,
            mac: MacAddr::new([2, 0x11, 0x12, 0x13, 0x14, 0x15]).unwrap(),
            sources: Sources::Only { v4: Some([10, 9, 0, 2].into()), v6: Some("fd00::2".parse().unwrap()) },
        };
        let mut want = Vec::new();
        for number in [1_u32, 2, 3] {
            want.extend(number.to_ne_bytes());
        }
        want.extend(7_u16.to_ne_bytes());
        want.extend([2, 0x11, 0x12, 0x13, 0x14, 0x15, 10, 9, 0, 2, 0xfd]);
        want.extend([0; 14]);
        want.push(2);
        // Their lengths are compared with those of the object when that is loaded.
        assert_eq!(entry.encode().to_vec(), want);
    }
}
