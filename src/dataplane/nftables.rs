//! Messages to `nf_tables` over netlink: just those that a table of filter rules needs. The numbers are
//! those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

pub(super) mod transaction;

use std::net::Ipv4Addr;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = (SUBSYSTEM << 8) | 2;
const NEW_CHAIN: u16 = (SUBSYSTEM << 8) | 3;
const NEW_RULE: u16 = (SUBSYSTEM << 8) | 6;
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `NFPROTO_BRIDGE`.
const BRIDGE: u8 = 7;
/// `NLMSG_ERROR`: a refusal, or with code 0 an acknowledgement.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// Length of a message's header.
const HEADER: usize = 16;
/// `NFT_REG_1`, the only register in use.
const REGISTER: u32 = 1;

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
        let (base, offset, length) = field.place();
        self.expression("payload", |data| {
            data.number(1, REGISTER).number(2, base).number(3, offset).number(4, length)
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

/// The codes of the acknowledgements in a datagram: 0, or the error number of a refusal.
fn acknowledgements(datagram: &[u8]) -> Vec<i32> {
    let mut codes = Vec::new();
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { break };
        let kind = message.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        let code = message.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
        if let (Some(ERROR), Some(code)) = (kind, code.map(i32::from_ne_bytes)) {
            codes.push(code.saturating_abs());
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    codes
}

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    family: u8,
    /// Messages that are acknowledged.
    wanted: usize,
}

impl Batch {
    fn begin(family: u8) -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, family, wanted: 0 };
        batch.edge(BATCH_BEGIN);
        batch
    }

    fn end(mut self) -> (Vec<u8>, usize) {
        self.edge(BATCH_END);
        (self.bytes, self.wanted)
    }

    /// A chain of a hook, and its rules.
    fn chain(&mut self, table: &str, chain: &str, hook: u32, priority: i32, rules: Vec<Rule>) {
        let base = Attributes::default()
            .text(1, table)
            .text(3, chain)
            .nest(4, |nest| nest.number(1, hook).bytes(2, &priority.to_be_bytes()))
            // `NF_ACCEPT`.
            .number(5, 1)
            .text(7, "filter");
        self.message(NEW_CHAIN, CREATE, &base);
        for rule in rules {
            let rule = Attributes::default().text(1, table).text(2, chain).nest(4, |list| list.join(rule.0));
            self.message(NEW_RULE, CREATE | APPEND, &rule);
        }
    }

    fn edge(&mut self, kind: u16) {
        self.write(kind, REQUEST, [0, 0], SUBSYSTEM, &[]);
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.wanted += 1;
        self.write(kind, REQUEST | ACKNOWLEDGE | flags, [self.family, 0], 0, &attributes.0);
    }

    fn write(&mut self, kind: u16, flags: u16, family_version: [u8; 2], resource: u16, body: &[u8]) {
        let length = u32::try_from(HEADER + 4 + body.len()).unwrap_or(u32::MAX);
        self.sequence += 1;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(family_version);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
    }
}

/// Attributes, each padded to four bytes.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Self::default());
        self.bytes(kind | NESTED, &inner.0)
    }

    fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
