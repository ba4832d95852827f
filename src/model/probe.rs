//! Addresses of the probe network: the segment on which hosts find out whether another one is still there.
//!
//! All of them follow from a host's VTEP, so that nothing has to be agreed on: whoever knows where a host
//! takes VXLAN packets knows whom to ask.

use std::net::{IpAddr, Ipv6Addr};

use super::MacAddr;

/// Length of the probe network's prefix.
pub const PROBE_PREFIX: u8 = 64;
/// MTU of the probe device: what every IPv6 link carries (RFC 8200, section 5), whatever the underlay is.
pub const PROBE_MTU: u32 = 1280;

/// The prefix: unique local (RFC 4193), `fd` and seven bytes that spell who uses it.
const PREFIX: [u8; 8] = [0xfd, b'r', b's', b'o', b'v', b'p', b'r', b'b'];

/// The address of a host's probe device: the prefix and 64 bits of the VTEP. Those of an IPv4 VTEP are the
/// address itself; of an IPv6 one a hash, since the interface identifiers of hosts that were numbered by
/// hand are the same in many subnets.
pub fn probe_address(vtep: IpAddr) -> Ipv6Addr {
    let identifier = match vtep {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => hash(&ip.octets()),
    };
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&PREFIX);
    octets[8..].copy_from_slice(&identifier.to_be_bytes());
    octets.into()
}

/// The Ethernet address of a host's probe device: locally administered, `02:70` and an IPv4 VTEP, or `06`
/// and 40 bits of the hash of an IPv6 one.
pub fn probe_mac(vtep: IpAddr) -> MacAddr {
    match vtep {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            MacAddr::local([0x02, 0x70, a, b, c, d])
        }
        IpAddr::V6(ip) => {
            let [_, _, _, tail @ ..] = hash(&ip.octets()).to_be_bytes();
            let mut bytes = [0x06; 6];
            bytes[1..].copy_from_slice(&tail);
            MacAddr::local(bytes)
        }
    }
}

/// FNV-1a and a final mix, since addresses of one subnet differ in their last bits only. The topmost bit
/// keeps a hash apart from all IPv4 addresses.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ (hash >> 33)) | 1 << 63
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_ipv4_vtep_can_be_read_in_its_probe_address() {
        let vtep = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(probe_address(vtep).to_string(), "fd72:736f:7670:7262::c000:201");
        assert_eq!(probe_mac(vtep).to_string(), "02:70:c0:00:02:01");
    }

    #[test]
    fn neighbouring_ipv6_vteps_differ_in_both() {
        let vteps = (0..5000_u16).map(|n| IpAddr::from([0x2001, 0xdb8, 0, n / 100, 0, 0, 0, n]));
        let (ips, macs): (BTreeSet<_>, BTreeSet<_>) =
            vteps.map(|vtep| (probe_address(vtep), probe_mac(vtep))).unzip();
        assert_eq!((ips.len(), macs.len()), (5000, 5000));
        assert!(ips.iter().all(|ip| ip.segments()[0] == 0xfd72));
        assert!(macs.iter().all(|mac| mac.octets()[0] & 0b11 == 0b10));
    }
}
