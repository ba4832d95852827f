//! Tells the containers of a bridge that an address has moved to another MAC: a gratuitous ARP request
//! (RFC 5227, section 3) or an unsolicited neighbour advertisement (RFC 4861, section 7.2.6).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use pnet_base::MacAddr as PnetMac;
use pnet_packet::{
    arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket},
    ethernet::{EtherType, EtherTypes, MutableEthernetPacket},
    icmpv6::{
        Icmpv6Packet, Icmpv6Types, checksum,
        ndp::{MutableNeighborAdvertPacket, NdpOption, NdpOptionTypes, NeighborAdvertFlags},
    },
    ip::IpNextHeaderProtocols,
    ipv6::MutableIpv6Packet,
};

use super::{namespace::Namespace, raw::packet_address};
use crate::model::MacAddr;

const ETHERNET: usize = 14;
const ARP: usize = 28;
const IPV6: usize = 40;
/// A neighbour advertisement with one link-layer address option.
const ADVERTISEMENT: u16 = 24 + 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `ip` is at `mac` now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Index of the bridge whose containers are told.
    pub(crate) bridge: u32,
    /// The address that has moved.
    pub(crate) ip: IpAddr,
    /// Its new MAC.
    pub(crate) mac: MacAddr,
}

/// Sends one frame for each into its bridge. It reaches the containers there; the tunnel's port floods
/// nothing.
pub(crate) fn announce(namespace: &Namespace, announcements: &[Announcement]) -> io::Result<()> {
    let sender =
        namespace.run(|| socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None))??;
    for announcement in announcements {
        let (kind, frame) = frame(announcement.ip, announcement.mac);
        let target = packet_address(announcement.bridge, kind.0)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such interface index"))?;
        sendto(sender.as_raw_fd(), &frame, &target, MsgFlags::MSG_DONTWAIT)?;
    }
    Ok(())
}

fn frame(ip: IpAddr, mac: MacAddr) -> (EtherType, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (EtherTypes::Arp, gratuitous_arp(ip, mac)),
        IpAddr::V6(ip) => (EtherTypes::Ipv6, unsolicited_advertisement(ip, mac)),
    }
}

fn gratuitous_arp(ip: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    let mac = PnetMac::from(mac.octets());
    let mut frame = vec![0; ETHERNET + ARP];
    ethernet(&mut frame, mac, PnetMac::broadcast(), EtherTypes::Arp);
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        // Linux takes a gratuitous request at once; a reply within a second of the last change it ignores.
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(mac);
        arp.set_sender_proto_addr(ip);
        arp.set_target_proto_addr(ip);
    }
    frame
}

fn unsolicited_advertisement(ip: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let hardware = PnetMac::from(mac.octets());
    let mut frame = vec![0; ETHERNET + IPV6 + usize::from(ADVERTISEMENT)];
    // RFC 2464, section 7: a multicast group's MAC is 33:33 and the last four bytes of its address.
    ethernet(&mut frame, hardware, PnetMac::new(0x33, 0x33, 0, 0, 0, 1), EtherTypes::Ipv6);
    if let Some(mut packet) = MutableIpv6Packet::new(&mut frame[ETHERNET..]) {
        packet.set_version(6);
        packet.set_payload_length(ADVERTISEMENT);
        packet.set_next_header(IpNextHeaderProtocols::Icmpv6);
        // Any other hop limit makes it invalid (RFC 4861, section 7.1.2).
        packet.set_hop_limit(255);
        packet.set_source(ip);
        packet.set_destination(ALL_NODES);
    }
    let message = &mut frame[ETHERNET + IPV6..];
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(message) {
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(NeighborAdvertFlags::Override);
        advertisement.set_target_addr(ip);
        advertisement.set_options(&[NdpOption {
            option_type: NdpOptionTypes::TargetLLAddr,
            length: 1,
            data: mac.octets().to_vec(),
        }]);
    }
    let sum = Icmpv6Packet::new(message).map(|packet| checksum(&packet, &ip, &ALL_NODES));
    if let (Some(sum), Some(mut advertisement)) = (sum, MutableNeighborAdvertPacket::new(message)) {
        advertisement.set_checksum(sum);
    }
    frame
}

fn ethernet(frame: &mut [u8], source: PnetMac, destination: PnetMac, kind: EtherType) {
    if let Some(mut header) = MutableEthernetPacket::new(frame) {
        header.set_source(source);
        header.set_destination(destination);
        header.set_ethertype(kind);
    }
}

#[cfg(test)]
mod tests {
    use pnet_packet::{
        arp::ArpPacket, ethernet::EthernetPacket, icmpv6::ndp::NeighborAdvertPacket, ipv6::Ipv6Packet,
    };

    use pnet_packet::Packet;

    use super::*;

    fn mac() -> MacAddr {
        MacAddr::new([2, 0x42, 10, 9, 0, 2]).unwrap()
    }

    #[test]
    fn a_gratuitous_request_asks_for_its_own_address() {
        let ip = Ipv4Addr::new(10, 9, 0, 2);
        let frame = gratuitous_arp(ip, mac());
        let header = EthernetPacket::new(&frame).unwrap();
        assert_eq!(header.get_destination(), PnetMac::broadcast());
        assert_eq!(header.get_source().octets(), mac().octets());
        let arp = ArpPacket::new(header.payload()).unwrap();
        assert_eq!((arp.get_sender_proto_addr(), arp.get_target_proto_addr()), (ip, ip));
        assert_eq!(arp.get_sender_hw_addr().octets(), mac().octets());
        assert_eq!(arp.get_operation(), ArpOperations::Request);
    }

    #[test]
    fn an_advertisement_overrides_and_its_checksum_holds() {
        let ip: Ipv6Addr = "fd00::2".parse().unwrap();
        let frame = unsolicited_advertisement(ip, mac());
        let header = EthernetPacket::new(&frame).unwrap();
        let packet = Ipv6Packet::new(header.payload()).unwrap();
        assert_eq!((packet.get_hop_limit(), packet.get_source()), (255, ip));
        let icmp = Icmpv6Packet::new(packet.payload()).unwrap();
        assert_eq!(checksum(&icmp, &ip, &ALL_NODES), icmp.get_checksum());
        let advertisement = NeighborAdvertPacket::new(packet.payload()).unwrap();
        assert_eq!(advertisement.get_flags(), NeighborAdvertFlags::Override);
        assert_eq!(advertisement.get_options()[0].data, mac().octets());
    }
}
