//! What rules look at in a packet.

/// Where in a packet something stands.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataplane) enum Field {
    /// Source address of the IP header.
    SourceAddress,
    /// Destination address of the IP header.
    DestinationAddress,
    /// Source port of the transport header.
    SourcePort,
    /// Destination port of the transport header.
    DestinationPort,
    /// Type of the Ethernet header.
    EtherType,
    /// Operation of an ARP message.
    ArpOperation,
    /// Next header of the IPv6 header.
    NextHeader,
    /// Type of an `ICMPv6` message that comes right behind the IPv6 header.
    Icmpv6Type,
    /// Target of a neighbour advertisement that does (RFC 4861, section 4.4).
    Icmpv6Target,
    /// Source address of the IPv6 header.
    SourceAddress6,
    /// Source of the Ethernet header.
    SourceStation,
    /// The station that an ARP message says it is from (RFC 826).
    ArpSenderStation,
    /// The IPv4 address that it says it is from.
    ArpSenderAddress,
}

impl Field {
    /// Base (`NFT_PAYLOAD_*_HEADER`), offset and length in bytes.
    pub(super) fn place(self) -> (u32, u32, u32) {
        match self {
            Self::SourceAddress => (1, 12, 4),
            Self::DestinationAddress => (1, 16, 4),
            Self::SourcePort => (2, 0, 2),
            Self::DestinationPort => (2, 2, 2),
            Self::EtherType => (0, 12, 2),
            Self::ArpOperation => (1, 6, 2),
            Self::NextHeader => (1, 6, 1),
            Self::Icmpv6Type => (1, 40, 1),
            Self::Icmpv6Target => (1, 48, 16),
            Self::SourceAddress6 => (1, 8, 16),
            Self::SourceStation => (0, 6, 6),
            Self::ArpSenderStation => (1, 8, 6),
            Self::ArpSenderAddress => (1, 14, 4),
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataplane) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// Where its header has the checksum.
    pub(super) fn checksum(self) -> u32 {
        match self {
            Self::Udp => 6,
            Self::Tcp => 16,
        }
    }
}
