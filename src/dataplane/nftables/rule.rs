//! Rules, put together from expressions.

use std::net::Ipv4Addr;

use super::{
    batch::Attributes,
    field::{Field, Transport},
    sets,
};

/// `NFT_REG_1`: 16 bytes, in which a rule looks at one thing after the other.
const REGISTER: u32 = 1;
/// `NFT_REG32_04`, right behind it: the second part of a key.
const SECOND: u32 = 12;
/// `NFT_REG32_06`: the third part, behind an Ethernet address.
const THIRD: u32 = 14;
/// `NFT_REG_4`, out of every key's way.
const ASIDE: u32 = 4;

/// The expressions of a rule, one after the other.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Rule(pub(super) Attributes);

impl Rule {
    /// Goes on if the packet is of `transport`.
    pub(in crate::dataplane) fn transport(self, transport: Transport) -> Self {
        self.meta(16).compare(true, &[transport.number()])
    }

    /// Goes on if the packet's mark is another one.
    pub(in crate::dataplane) fn not_marked(self, mark: u32) -> Self {
        // A mark is a number of the host; all else stands in the packet as it does on the wire.
        self.meta(3).compare(false, &mark.to_ne_bytes())
    }

    /// Goes on if the address field is `ip`.
    pub(in crate::dataplane) fn address(self, field: Field, ip: Ipv4Addr) -> Self {
        self.load(field).compare(true, &ip.octets())
    }

    /// Goes on if the port field is `port`.
    pub(in crate::dataplane) fn port(self, field: Field, port: u16) -> Self {
        self.load(field).compare(true, &port.to_be_bytes())
    }

    /// Goes on if the field has this value, as it stands in the packet.
    pub(in crate::dataplane) fn holds(self, field: Field, value: &[u8]) -> Self {
        self.load(field).compare(true, value)
    }

    /// Goes on if the packet came in by a link whose name begins so.
    pub(in crate::dataplane) fn came_by(self, beginning: &str) -> Self {
        self.meta(6).compare(true, beginning.as_bytes())
    }

    /// Goes on if the packet came in by a link whose name begins otherwise.
    pub(in crate::dataplane) fn came_not_by(self, beginning: &str) -> Self {
        self.meta(6).compare(false, beginning.as_bytes())
    }

    /// Goes on if the protocol behind the Ethernet header, and behind one VLAN tag, is this one.
    pub(in crate::dataplane) fn protocol(self, ethertype: u16) -> Self {
        self.meta(1).compare(true, &ethertype.to_be_bytes())
    }

    /// Goes on if the packet leaves by another link than the loopback, which has number 1 in every namespace.
    pub(in crate::dataplane) fn leaves(self) -> Self {
        // `NFT_META_OIF`.
        self.meta(5).compare(false, &1u32.to_ne_bytes())
    }

    /// Goes on if the link by which the packet came, its source station and the field stand in the set together.
    pub(in crate::dataplane) fn speaker_in(self, field: Field, set: &str) -> Self {
        let rule = self.meta(6).load_to(SECOND, Field::SourceStation).load_to(THIRD, field);
        rule.expression("lookup", |data| data.text(1, set).number(2, REGISTER))
    }

    /// Goes on if the field has another value, as it stands in the packet.
    pub(in crate::dataplane) fn differs(self, field: Field, value: &[u8]) -> Self {
        self.load(field).compare(false, value)
    }

    /// Goes on if the beginning of the field, masked, is another one.
    pub(in crate::dataplane) fn begins_not(self, field: Field, mask: [u8; 2], value: [u8; 2]) -> Self {
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
    pub(in crate::dataplane) fn link_not_in(self, set: &str) -> Self {
        self.meta(6).lookup_not(set)
    }

    /// Goes on if the pair of that link and the field is not in the set.
    pub(in crate::dataplane) fn pair_not_in(self, field: Field, set: &str) -> Self {
        self.meta(6).load_to(SECOND, field).lookup_not(set)
    }

    /// Adds the packet to a counter of the table.
    pub(in crate::dataplane) fn counted(self, counter: &str) -> Self {
        self.expression("objref", |data| data.number(1, sets::COUNTER).text(2, counter))
    }

    /// The packet goes no further (`NF_DROP`).
    pub(in crate::dataplane) fn dropped(self) -> Self {
        self.verdict(0)
    }

    /// The packet has passed this chain (`NF_ACCEPT`).
    pub(in crate::dataplane) fn passed(self) -> Self {
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
    pub(in crate::dataplane) fn for_one(self) -> Self {
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
    pub(in crate::dataplane) fn set_station(self, station: [u8; 6]) -> Self {
        self.expression("immediate", |data| {
            data.number(1, REGISTER).nest(2, |value| value.bytes(1, &station))
        })
        .expression("payload", |data| data.number(5, REGISTER).number(2, 0).number(3, 0).number(4, 6))
    }

    /// Keeps the packet out of connection tracking, and so of address translation.
    pub(in crate::dataplane) fn untracked(self) -> Self {
        self.expression("notrack", |data| data)
    }

    /// Writes another port into the packet and mends its checksum.
    pub(in crate::dataplane) fn set_port(self, transport: Transport, field: Field, port: u16) -> Self {
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
