//! From the bytes of a query to those of an answer, or to the decision that Docker's resolver answers.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};

use super::{interceptor::Names, wire};
use crate::names::{Answer, Kind, could_come, life, lookup};

/// What a UDP answer may take if the question does not say (RFC 1035, section 4.2.1).
const PLAIN: u16 = 512;
/// What we say that we take in one datagram.
const PAYLOAD: u16 = 1232;

/// How a query travels, which limits its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Udp,
    Tcp,
}

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The answer.
    Reply(Vec<u8>),
    /// It is Docker's to answer.
    Forward {
        /// Seconds for which that answer may be kept at most, as a container may take the name any moment;
        /// a negative one not at all. `None`: as long as it says.
        keep: Option<u32>,
    },
}

/// Decides about a query. What cannot be read is Docker's to refuse.
pub(super) fn decide(query: &[u8], names: &Names, way: Way, seed: u64) -> Decision {
    let foreign = Decision::Forward { keep: None };
    let Ok(read) = Message::from_vec(query) else { return foreign };
    let Some((question, name)) = question(&read) else { return foreign };
    let (zone, networks, now) = names.now();
    let kind = kind(question.query_type());
    let answer = lookup(&zone, &networks, &name, kind, seed);
    let ttl = life(&zone, &networks, &name, kind, now);
    let data = match &answer {
        Answer::NotOurs => {
            let ours_at_times = ttl == 0 || could_come(&zone, &networks, &name);
            return Decision::Forward { keep: ours_at_times.then_some(ttl) };
        }
        Answer::Addresses(ips) => Some(ips.iter().map(|ip| address(*ip)).collect()),
        Answer::Name(name) => wire::name(name).map(|name| vec![name]),
        // Without a record that says how long, nobody may keep "there is none" (RFC 2308, section 5).
        Answer::NoData => Some(Vec::new()),
    };
    let room = match way {
        Way::Udp => read.edns.as_ref().map_or(PLAIN, |edns| edns.max_payload().max(PLAIN)),
        Way::Tcp => u16::MAX,
    };
    // A container may be called what no DNS message can hold; nor can Docker's resolver answer it then.
    data.and_then(|data: Vec<_>| {
        let records = Records { kind: question.query_type(), ttl, data: &data };
        reply(query, read.edns.is_some(), 0, &records, usize::from(room))
    })
    .map_or(foreign, Decision::Reply)
}

/// Says that an answer could not be had, in words of the DNS; `None` for what is no query.
pub(super) fn failure(query: &[u8], busy: bool) -> Option<Vec<u8>> {
    let read = Message::from_vec(query).ok()?;
    // As Docker's resolver puts it.
    let code = if busy { ResponseCode::Refused } else { ResponseCode::ServFail };
    if read.metadata.message_type != MessageType::Query || read.queries.len() != 1 {
        return None;
    }
    let none = Records { kind: RecordType::A, ttl: 0, data: &[] };
    reply(query, read.edns.is_some(), code.low(), &none, usize::from(PLAIN))
}

/// The one question of a plain query in the Internet class, and its name as text.
fn question(query: &Message) -> Option<(&Query, String)> {
    let plain = query.metadata.message_type == MessageType::Query
        && query.metadata.op_code == OpCode::Query
        && query.answers.is_empty()
        && query.authorities.is_empty()
        && query.edns.as_ref().is_none_or(|edns| edns.version() == 0);
    let [question] = query.queries.as_slice() else { return None };
    (plain && question.query_class() == DNSClass::IN).then(|| Some((question, text(question.name())?)))?
}

/// The labels joined by dots; `None` if that would not be the same name.
fn text(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name {
        let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    Some(text)
}

fn kind(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::PTR => Kind::Ptr,
        RecordType::MX => Kind::Mx,
        _ => Kind::Other,
    }
}

fn address(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// What an answer says, with the question's name.
struct Records<'a> {
    kind: RecordType,
    ttl: u32,
    data: &'a [Vec<u8>],
}

/// An answer with as many records as there is room for, which says so if that is not all of them. The
/// question comes back byte for byte: some clients compare its upper and lower case. `None` if the query is
/// cut off.
fn reply(query: &[u8], edns: bool, code: u8, records: &Records<'_>, room: usize) -> Option<Vec<u8>> {
    let &Records { kind, ttl, data } = records;
    let question = query.get(12..wire::after_name(query, 12)? + 4)?;
    // Without the name, which is a pointer to the question's.
    let length = |data: &Vec<u8>| 12 + data.len();
    let option = if edns { wire::option(PAYLOAD) } else { Vec::new() };
    let mut left = room.saturating_sub(12 + question.len() + option.len());
    let fit = data.iter().take_while(|data| {
        let fits = length(data) <= left;
        left = left.saturating_sub(length(data));
        fits
    });
    let fit = fit.count();
    let [asked_high, asked_low] = *query.get(2..4)?.first_chunk::<2>()?;
    // QR; RD as asked; TC.
    let high = 0x80 | asked_high & 0x79 | u8::from(fit < data.len()) << 1;
    // RA; CD as asked; the code.
    let low = 0x80 | asked_low & 0x10 | code;
    let count = u16::try_from(fit).ok()?;
    let mut bytes = query.get(..2)?.to_vec();
    bytes.extend([high, low, 0, 1]);
    bytes.extend(count.to_be_bytes());
    bytes.extend([0, 0, 0, u8::from(edns)]);
    bytes.extend(question);
    for data in data.iter().take(fit) {
        wire::record(&mut bytes, kind.into(), ttl, data)?;
    }
    bytes.extend(option);
    Some(bytes)
}

#[cfg(test)]
mod tests;
