//! Messages to `nf_tables` over netlink: just those that a table of filter rules needs. The numbers are
//! those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

mod batch;
pub(super) mod sets;
pub(super) mod transaction;

use std::net::Ipv4Addr;

use batch::{
    Attributes, BRIDGE, Batch, CREATE, DELETE_RULE, DELETE_TABLE, EXCLUSIVE, IPV4, NEW_OBJECT, NEW_SET,
    NEW_TABLE,
};

/// `NFT_REG_1`: 16 bytes, in which a rule looks at one thing after the other.
const REGISTER: u32 = 1;
/// `NFT_REG32_04`, right behind it: the second part of a key.
const SECOND: u32 = 12;
/// `NFT_REG32_06`: the third part, behind an Ethernet address.
const THIRD: u32 = 14;
/// `NFT_REG_4`, out of every key's way.
const ASIDE: u32 = 4;

/// Where in a packet something stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
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
    fn place(self) -> (u32, u32, u32) {
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
pub(super) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    /// Where its header has the checksum.
    fn checksum(self) -> u32 {
        match self {
            Self::Udp => 6,
            Self::Tcp => 16,
        }
    }
}

/// The expressions of a rule, one after the other.
#[derive(Debug, Default)]
pub(super) struct Rule(Attributes);

impl Rule {
    /// Goes on if the packet is of `transport`.
    pub(super) fn transport(self, transport: Transport) -> Self {
        self.meta(16).compare(true, &[transport.number()])
    }

    /// Goes on if the packet's mark is another one.
    pub(super) fn not_marked(self, mark: u32) -> Self {
        // A mark is a number of the host; all else stands in the packet as it does on the wire.
        self.meta(3).compare(false, &mark.to_ne_bytes())
    }

    /// Goes on if the address field is `ip`.
    pub(super) fn address(self, field: Field, ip: Ipv4Addr) -> Self {
        self.load(field).compare(true, &ip.octets())
    }

    /// Goes on if the port field is `port`.
    pub(super) fn port(self, field: Field, port: u16) -> Self {
        self.load(field).compare(true, &port.to_be_bytes())
    }

    /// Goes on if the field has this value, as it stands in the packet.
    pub(super) fn holds(self, field: Field, value: &[u8]) -> Self {
        self.load(field).compare(true, value)
    }

    /// Goes on if the packet came in by a link whose name begins so.
    pub(super) fn came_by(self, beginning: &str) -> Self {
        self.meta(6).compare(true, beginning.as_bytes())
    }

    /// Goes on if the packet came in by a link whose name begins otherwise.
    pub(super) fn came_not_by(self, beginning: &str) -> Self {
        self.meta(6).compare(false, beginning.as_bytes())
    }

    /// Goes on if the protocol behind the Ethernet header, and behind one VLAN tag, is this one.
    pub(super) fn protocol(self, ethertype: u16) -> Self {
        self.meta(1).compare(true, &ethertype.to_be_bytes())
    }

    /// Goes on if the link by which the packet came, its source station and the field stand in the set together.
    pub(super) fn speaker_in(self, field: Field, set: &str) -> Self {
        let rule = self.meta(6).load_to(SECOND, Field::SourceStation).load_to(THIRD, field);
        rule.expression("lookup", |data| data.text(1, set).number(2, REGISTER))
    }

    /// Goes on if the field has another value, as it stands in the packet.
    pub(super) fn differs(self, field: Field, value: &[u8]) -> Self {
        self.load(field).compare(false, value)
    }

    /// Goes on if the beginning of the field, masked, is another one.
    pub(super) fn begins_not(self, field: Field, mask: [u8; 2], value: [u8; 2]) -> Self {
        let (base, offset, _) = field.place();
        self.expression("payload", |data| {
            data.number(1, ASIDE).number(2, base).number(3, offset).number(4, 2)
        })
        .expression("bitwise", |data| {
            data.number(1, ASIDE)
                .number(2, ASIDE)
                .number(3, 2)
                .nest(4, |nest| nest.bytes(1, &mask))
                .nest(5, |nest| nest.bytes(1, &[0; 2]))
        })
        .expression("cmp", |data| data.number(1, ASIDE).number(2, 1).nest(3, |nest| nest.bytes(1, &value)))
    }

    /// Goes on if the link by which the packet came is not in the set.
    pub(super) fn link_not_in(self, set: &str) -> Self {
        self.meta(6).lookup_not(set)
    }

    /// Goes on if the pair of that link and the field is not in the set.
    pub(super) fn pair_not_in(self, field: Field, set: &str) -> Self {
        self.meta(6).load_to(SECOND, field).lookup_not(set)
    }

    /// Adds the packet to a counter of the table.
    pub(super) fn counted(self, counter: &str) -> Self {
        self.expression("objref", |data| data.number(1, sets::COUNTER).text(2, counter))
    }

    /// The packet goes no further (`NF_DROP`).
    pub(super) fn dropped(self) -> Self {
        self.verdict(0)
    }

    /// The packet has passed this chain (`NF_ACCEPT`).
    pub(super) fn passed(self) -> Self {
        self.verdict(1)
    }

    /// `NFT_LOOKUP_F_INV`, with what is in the registers from the first one on.
    fn lookup_not(self, set: &str) -> Self {
        self.expression("lookup", |data| data.text(1, set).number(2, REGISTER).number(5, 1))
    }

    fn verdict(self, code: u32) -> Self {
        // `NFT_REG_VERDICT`.
        self.expression("immediate", |data| {
            data.number(1, 0).nest(2, |value| value.nest(2, |verdict| verdict.number(1, code)))
        })
    }

    /// Goes on if the frame is for one station alone: the lowest bit of its destination's first byte says
    /// otherwise (IEEE 802).
    pub(super) fn for_one(self) -> Self {
        self.expression("payload", |data| data.number(1, REGISTER).number(2, 0).number(3, 0).number(4, 1))
            .expression("bitwise", |data| {
                data.number(1, REGISTER)
                    .number(2, REGISTER)
                    .number(3, 1)
                    .nest(4, |mask| mask.bytes(1, &[1]))
                    .nest(5, |flip| flip.bytes(1, &[0]))
            })
            .compare(true, &[0])
    }

    /// Writes another destination into the Ethernet header.
    pub(super) fn set_station(self, station: [u8; 6]) -> Self {
        self.expression("immediate", |data| {
            data.number(1, REGISTER).nest(2, |value| value.bytes(1, &station))
        })
        .expression("payload", |data| data.number(5, REGISTER).number(2, 0).number(3, 0).number(4, 6))
    }

    /// Keeps the packet out of connection tracking, and so of address translation.
    pub(super) fn untracked(self) -> Self {
        self.expression("notrack", |data| data)
    }

    /// Writes another port into the packet and mends its checksum.
    pub(super) fn set_port(self, transport: Transport, field: Field, port: u16) -> Self {
        let (base, offset, length) = field.place();
        self.expression("immediate", |data| {
            data.number(1, REGISTER).nest(2, |value| value.bytes(1, &port.to_be_bytes()))
        })
        .expression("payload", |data| {
            data.number(5, REGISTER)
                .number(2, base)
                .number(3, offset)
                .number(4, length)
                .number(6, 1)
                .number(7, transport.checksum())
        })
    }

    fn meta(self, key: u32) -> Self {
        self.expression("meta", |data| data.number(1, REGISTER).number(2, key))
    }

    fn load(self, field: Field) -> Self {
        self.load_to(REGISTER, field)
    }

    fn load_to(self, register: u32, field: Field) -> Self {
        let (base, offset, length) = field.place();
        self.expression("payload", |data| {
            data.number(1, register).number(2, base).number(3, offset).number(4, length)
        })
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            data.number(1, REGISTER).number(2, u32::from(!equal)).nest(3, |nest| nest.bytes(1, value))
        })
    }

    fn expression(self, name: &str, data: impl FnOnce(Attributes) -> Attributes) -> Self {
        Self(self.0.nest(1, |element| element.text(1, name).nest(2, data)))
    }
}

/// One transaction that makes a table which belongs to the socket that sends it and dies with that
/// socket, with one chain that sees what leaves before connection tracking does. Answers the datagram and
/// how many acknowledgements it calls for.
pub(super) fn owned_table(table: &str, rules: Vec<Rule>) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(IPV4);
    // `NFT_TABLE_F_OWNER`.
    let owned = Attributes::default().text(1, table).number(2, 2);
    batch.message(NEW_TABLE, EXCLUSIVE | CREATE, &owned);
    // `NF_INET_LOCAL_OUT`, `NF_IP_PRI_RAW`.
    batch.chain(table, "output", 3, -300, rules);
    batch.end()
}

/// One transaction that makes a table for bridges, in place of one of that name, with one chain that sees
/// what comes in by a bridge's ports before the bridge does. It stays until somebody deletes it.
pub(super) fn bridge_table(table: &str, rules: Vec<Rule>) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(BRIDGE);
    let name = Attributes::default().text(1, table);
    // A table that is not there cannot be deleted.
    batch.message(NEW_TABLE, CREATE, &name);
    batch.message(DELETE_TABLE, 0, &name);
    batch.message(NEW_TABLE, CREATE, &name);
    // `NF_BR_PRE_ROUTING`, `NF_BR_PRI_NAT_DST_BRIDGED`.
    batch.chain(table, "prerouting", 0, -300, rules);
    batch.end()
}

/// One transaction that makes a table for bridges with sets, counters and one chain, or gives the one that is there
/// these rules: what its sets hold, and what was counted, stays. It outlives its maker.
pub(super) fn bridge_table_with_sets(
    table: &str,
    sets: &[sets::Set],
    counters: &[&str],
    rules: Vec<Rule>,
) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(BRIDGE);
    batch.message(NEW_TABLE, CREATE, &Attributes::default().text(1, table));
    for (set, id) in sets.iter().zip(1..) {
        let set = Attributes::default()
            .text(1, table)
            .text(2, set.name)
            .number(3, 0)
            .number(4, set.kind)
            .number(5, set.length)
            .number(10, id);
        batch.message(NEW_SET, CREATE, &set);
    }
    for counter in counters {
        let counter = Attributes::default()
            .text(1, table)
            .text(2, counter)
            .number(3, sets::COUNTER)
            .nest(4, |data| data);
        batch.message(NEW_OBJECT, CREATE, &counter);
    }
    // Before the rules that rewrite destinations.
    batch.chain(table, "prerouting", 0, -310, Vec::new());
    batch.message(DELETE_RULE, 0, &Attributes::default().text(1, table).text(2, "prerouting"));
    batch.rules(table, "prerouting", rules);
    batch.end()
}

#[cfg(test)]
mod tests {
    use super::{batch::*, *};

    #[test]
    fn attributes_are_padded_and_messages_say_their_length() {
        let (bytes, wanted) = owned_table("t", vec![Rule::default().untracked()]);
        assert_eq!(wanted, 3);
        let mut rest = bytes.as_slice();
        let mut kinds = Vec::new();
        while let Some(length) = rest.first_chunk::<4>() {
            kinds.push(u16::from_ne_bytes([rest[4], rest[5]]));
            let length = u32::from_ne_bytes(*length) as usize;
            assert_eq!(length % 4, 0);
            rest = &rest[length..];
        }
        assert_eq!(kinds, [BATCH_BEGIN, NEW_TABLE, NEW_CHAIN, NEW_RULE, BATCH_END]);
    }

    #[test]
    fn refusals_are_read_and_rubbish_is_not() {
        let mut datagram = Vec::new();
        for code in [0_i32, -17] {
            datagram.extend(20_u32.to_ne_bytes());
            datagram.extend(ERROR.to_ne_bytes());
            datagram.extend([0; 10]);
            datagram.extend(code.to_ne_bytes());
        }
        assert_eq!(acknowledgements(&datagram), [0, 17]);
        for cut in 0..datagram.len() {
            assert!(acknowledgements(&datagram[..cut]).len() <= 1);
        }
        assert!(acknowledgements(&[0; 64]).is_empty());
    }
}
