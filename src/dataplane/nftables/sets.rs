//! Sets of a table: what is in them, and how that is changed. And what its counters say.

use super::batch::{
    Attributes, BRIDGE, Batch, CREATE, DELETE_ELEMENT, GET_ELEMENT, GET_OBJECT, HEADER, NEW_ELEMENT,
    NEW_OBJECT,
};

/// `NFT_OBJECT_COUNTER`.
pub(super) const COUNTER: u32 = 1;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// `nfgenmsg`, between a message's header and its attributes.
const FAMILY_HEADER: usize = 4;
/// The upper bits of an attribute's type are flags.
const KIND: u16 = 0x3fff;

/// A set of keys.
#[derive(Debug, Clone, Copy)]
pub(in crate::dataplane) struct Set {
    /// Its name in its table.
    pub(in crate::dataplane) name: &'static str,
    /// What its keys are, as `nft list` shows them: the numbers of nft's data types, six bits for each part.
    pub(in crate::dataplane) kind: u32,
    /// Length of a key in bytes, each part padded to four.
    pub(in crate::dataplane) length: u32,
}

/// One key in one set.
pub(in crate::dataplane) type Element = (&'static str, Vec<u8>);

/// One transaction that takes elements out of a bridge table's sets and puts others in. One that is taken out has to
/// be there; one that is put in may be.
pub(in crate::dataplane) fn change(table: &str, less: &[Element], more: &[Element]) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(BRIDGE);
    for (kind, flags, elements) in [(DELETE_ELEMENT, 0, less), (NEW_ELEMENT, CREATE, more)] {
        for (set, key) in elements {
            let list = Attributes::default()
                .text(1, table)
                .text(2, set)
                .nest(3, |list| list.nest(1, |element| element.nest(1, |data| data.bytes(1, key))));
            batch.message(kind, flags, &list);
        }
    }
    batch.end()
}

/// Asks for all that is in a set.
pub(in crate::dataplane) fn list(table: &str, set: &str) -> Vec<u8> {
    Batch::dump(BRIDGE, GET_ELEMENT, &Attributes::default().text(1, table).text(2, set))
}

/// Asks for all counters of a table.
pub(in crate::dataplane) fn list_counters(table: &str) -> Vec<u8> {
    Batch::dump(BRIDGE, GET_OBJECT, &Attributes::default().text(1, table).number(3, COUNTER))
}

/// What a datagram of an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::dataplane) struct Answer {
    /// Keys of elements.
    pub(in crate::dataplane) keys: Vec<Vec<u8>>,
    /// Names of counters, and the packets that each has counted.
    pub(in crate::dataplane) counters: Vec<(String, u64)>,
    /// No more will come; or the error number of a refusal.
    pub(in crate::dataplane) ended: Option<i32>,
}

/// Reads a datagram of an answer; what cannot be read is passed over.
pub(in crate::dataplane) fn read(datagram: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { break };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let body = message.get(HEADER + FAMILY_HEADER..).unwrap_or_default();
        match kind {
            super::batch::ERROR | DONE => {
                let code = message.get(HEADER..).and_then(|body| body.first_chunk::<4>());
                answer.ended = Some(code.map_or(0, |code| i32::from_ne_bytes(*code).saturating_abs()));
            }
            NEW_ELEMENT => {
                let elements = attribute(body, 3).map(|list| attributes(list).map(|(_, element)| element));
                answer.keys.extend(
                    elements
                        .into_iter()
                        .flatten()
                        .filter_map(|element| Some(attribute(attribute(element, 1)?, 1)?.to_vec())),
                );
            }
            NEW_OBJECT => {
                let name = attribute(body, 2).and_then(|name| std::str::from_utf8(name).ok());
                let packets = attribute(body, 4).and_then(|data| attribute(data, 2)?.first_chunk::<8>());
                if let (Some(name), Some(packets)) = (name, packets) {
                    let name = name.trim_end_matches('\0').to_owned();
                    answer.counters.push((name, u64::from_be_bytes(*packets)));
                }
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answer
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l, m, k, n] = *rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l, m]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k, n]) & KIND, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_answer_is_read_and_rubbish_is_not() {
        let element = |key: &[u8]| Attributes::default().nest(1, |data| data.bytes(1, key));
        let list = Attributes::default().text(1, "t").nest(3, |list| {
            let both = |list: Attributes, key: &[u8]| list.nest(1, |nest| nest.join(element(key)));
            both(both(list, b"abcd"), b"efgh")
        });
        let counter = Attributes::default().text(2, "c").nest(4, |data| data.bytes(2, &7_u64.to_be_bytes()));
        let mut datagram = message(NEW_ELEMENT, &[&[0; 4], list.0.as_slice()].concat());
        datagram.extend(message(NEW_OBJECT, &[&[0; 4], counter.0.as_slice()].concat()));
        datagram.extend(message(DONE, &[0; 4]));
        let keys = vec![b"abcd".to_vec(), b"efgh".to_vec()];
        let whole = Answer { keys, counters: vec![("c".into(), 7)], ended: Some(0) };
        assert_eq!(read(&datagram), whole);
        for cut in 0..datagram.len() {
            assert_ne!(read(&datagram[..cut]), whole);
        }
        for byte in 0..datagram.len() {
            let mut rubbish = datagram.clone();
            rubbish[byte] ^= 0xff;
            drop(read(&rubbish));
        }
        assert_eq!(read(&message(super::super::batch::ERROR, &(-2_i32).to_ne_bytes())).ended, Some(2));
    }
}
