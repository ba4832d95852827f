//! Batches of messages to `nf_tables`, and their attributes.

use super::Rule;

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
pub(super) const NEW_TABLE: u16 = SUBSYSTEM << 8;
pub(super) const DELETE_TABLE: u16 = (SUBSYSTEM << 8) | 0x2;
pub(super) const NEW_CHAIN: u16 = (SUBSYSTEM << 8) | 0x3;
pub(super) const NEW_RULE: u16 = (SUBSYSTEM << 8) | 0x6;
pub(super) const DELETE_RULE: u16 = (SUBSYSTEM << 8) | 0x8;
pub(super) const NEW_SET: u16 = (SUBSYSTEM << 8) | 0x9;
pub(super) const NEW_ELEMENT: u16 = (SUBSYSTEM << 8) | 0xc;
pub(super) const GET_ELEMENT: u16 = (SUBSYSTEM << 8) | 0xd;
pub(super) const DELETE_ELEMENT: u16 = (SUBSYSTEM << 8) | 0xe;
pub(super) const NEW_OBJECT: u16 = (SUBSYSTEM << 8) | 0x12;
pub(super) const GET_OBJECT: u16 = (SUBSYSTEM << 8) | 0x13;
/// `NFPROTO_IPV4`.
pub(super) const IPV4: u8 = 2;
/// `NFPROTO_BRIDGE`.
pub(super) const BRIDGE: u8 = 7;
/// `NLMSG_ERROR`: a refusal, or with code 0 an acknowledgement.
pub(super) const ERROR: u16 = 2;
pub(super) const REQUEST: u16 = 1;
pub(super) const ACKNOWLEDGE: u16 = 4;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
pub(super) const NESTED: u16 = 0x8000;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// Length of a message's header.
pub(super) const HEADER: usize = 16;
/// The codes of the acknowledgements in a datagram: 0, or the error number of a refusal.
pub(super) fn acknowledgements(datagram: &[u8]) -> Vec<i32> {
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
pub(super) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    family: u8,
    /// Messages that are acknowledged.
    wanted: usize,
}

impl Batch {
    pub(super) fn begin(family: u8) -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, family, wanted: 0 };
        batch.edge(BATCH_BEGIN);
        batch
    }

    pub(super) fn end(mut self) -> (Vec<u8>, usize) {
        self.edge(BATCH_END);
        (self.bytes, self.wanted)
    }

    /// A chain of a hook, and its rules.
    pub(super) fn chain(&mut self, table: &str, chain: &str, hook: u32, priority: i32, rules: Vec<Rule>) {
        let base = Attributes::default()
            .text(1, table)
            .text(3, chain)
            .nest(4, |nest| nest.number(1, hook).bytes(2, &priority.to_be_bytes()))
            // `NF_ACCEPT`.
            .number(5, 1)
            .text(7, "filter");
        self.message(NEW_CHAIN, CREATE, &base);
        self.rules(table, chain, rules);
    }

    /// Rules at the end of a chain.
    pub(super) fn rules(&mut self, table: &str, chain: &str, rules: Vec<Rule>) {
        for rule in rules {
            let rule = Attributes::default().text(1, table).text(2, chain).nest(4, |list| list.join(rule.0));
            self.message(NEW_RULE, CREATE | APPEND, &rule);
        }
    }

    /// A question outside of any transaction, which is answered by one message for each thing, and one that ends them.
    pub(super) fn dump(family: u8, kind: u16, attributes: &Attributes) -> Vec<u8> {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, family, wanted: 0 };
        batch.write(kind, REQUEST | DUMP, [family, 0], 0, &attributes.0);
        batch.bytes
    }

    fn edge(&mut self, kind: u16) {
        self.write(kind, REQUEST, [0, 0], SUBSYSTEM, &[]);
    }

    pub(super) fn message(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
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
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Self::default());
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(super) fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}
