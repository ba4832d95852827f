//! Frames as a container might send them, good ones and others. Each has an end of its own by which it is known
//! again.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::model::MacAddr;

/// Length of the end.
pub(super) const MARK: usize = 8;

static NUMBER: AtomicU64 = AtomicU64::new(0x7273_6f00_0000_0000);

pub(super) const EVERYBODY: [u8; 6] = [0xff; 6];
const HOP_BY_HOP: u8 = 0;
const ICMP6: u8 = 58;
/// For experiments (RFC 3692).
const EXPERIMENT: u8 = 253;

fn mark() -> [u8; MARK] {
    NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes()
}

pub(super) fn ethernet(to: impl Into<[u8; 6]>, from: MacAddr, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.into(), from.octets()].concat();
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame.extend(mark());
    frame
}

/// An IP packet with `length` bytes behind its header.
pub(super) fn ip(
    to: impl Into<[u8; 6]>,
    from: MacAddr,
    source: IpAddr,
    target: IpAddr,
    length: u16,
) -> Vec<u8> {
    let mut frame = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 0, 0, 0, 64, EXPERIMENT, 0, 0]);
            packet.extend(source.octets());
            packet.extend(target.octets());
            ethernet(to, from, 0x0800, &packet)
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            ethernet(to, from, 0x86dd, &ip6(source, target, EXPERIMENT, length))
        }
        _ => panic!("two families"),
    };
    let end = frame.split_off(frame.len() - MARK);
    frame.resize(frame.len() + usize::from(length).saturating_sub(MARK), 0);
    frame.extend(end);
    frame
}

fn ip6(source: Ipv6Addr, target: Ipv6Addr, next: u8, length: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet
}

/// RFC 826; `sender` is what the packet itself says.
pub(super) fn arp(from: MacAddr, sender: MacAddr, ip: IpAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = ip else { panic!("ARP is for IPv4") };
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(sender.octets());
    packet.extend(ip.octets());
    packet.extend([0; 6]);
    packet.extend([10, 9, 0, 200]);
    ethernet(EVERYBODY, from, 0x0806, &packet)
}

/// A message of neighbour discovery behind as many extension headers as one likes; `length` is theirs, in units
/// of eight bytes after the first.
pub(super) fn discovery(
    from: MacAddr,
    source: IpAddr,
    kind: u8,
    about: IpAddr,
    headers: usize,
    length: u8,
) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(about)) = (source, about) else { panic!("ND is for IPv6") };
    let target = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut rest = Vec::new();
    for left in (0..headers).rev() {
        rest.extend([if left == 0 { ICMP6 } else { HOP_BY_HOP }, length]);
        rest.resize(rest.len() + 6 + 8 * usize::from(length), 0);
    }
    rest.extend([kind, 0, 0, 0, 0x20, 0, 0, 0]);
    rest.extend(about.octets());
    let next = if headers == 0 { ICMP6 } else { HOP_BY_HOP };
    let mut packet = ip6(source, target, next, u16::try_from(rest.len() + MARK).unwrap());
    packet.extend(rest);
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, 0x86dd, &packet)
}

/// The same frame with a VLAN tag (IEEE 802.1Q).
pub(super) fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let tag = [[0x81, 0x00], vlan.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}
