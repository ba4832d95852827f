//! How long answers of Docker's resolver may be kept.

use super::wire::{after_name, number};

/// `SOA`.
const SOA: u16 = 6;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// Lets an answer be kept for `seconds` at most, and not at all if it is negative, which its SOA record's
/// TTL says (RFC 2308, section 5). No signature covers TTLs. What cannot be read stays as it is.
pub(super) fn shorten(answer: &mut [u8], seconds: u32) {
    for (place, most) in places(answer, seconds).unwrap_or_default() {
        if let Some(ttl) = answer.get_mut(place..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *ttl = u32::from_be_bytes(*ttl).min(most).to_be_bytes();
        }
    }
}

/// Where the TTLs are that count, and the most that each may be.
fn places(answer: &[u8], seconds: u32) -> Option<Vec<(usize, u32)>> {
    let code = answer.get(3)? & 15;
    let [questions, answers, authorities] = [4, 6, 8].map(|at| number(answer, at).unwrap_or(0));
    let negative = match (code, answers) {
        (NO_ERROR, 0) | (NO_SUCH_NAME, _) => true,
        (NO_ERROR, _) => false,
        _ => return None,
    };
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(answer, at)? + 4;
    }
    let mut found = Vec::new();
    for record in 0..u32::from(answers) + u32::from(authorities) {
        let fixed = after_name(answer, at)?;
        if record < u32::from(answers) {
            found.push((fixed + 4, seconds));
        } else if negative && number(answer, fixed)? == SOA {
            found.push((fixed + 4, 0));
        }
        at = fixed + 10 + usize::from(number(answer, fixed + 8)?);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::{
        op::{Message, MessageType, OpCode, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType, rdata},
    };
    use proptest::prelude::*;

    use super::*;

    fn message(code: ResponseCode, answers: Vec<Record>) -> Message {
        let name = |text| Name::from_str(text).unwrap();
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name("web."), RecordType::A));
        let soa = rdata::SOA::new(name("a.root-servers.net."), name("nstld.example."), 1, 2, 3, 4, 86400);
        message.answers = answers;
        message.authorities = vec![
            Record::from_rdata(name("x."), 77, RData::A(rdata::A::new(192, 0, 2, 1))),
            Record::from_rdata(Name::root(), 86400, RData::SOA(soa)),
        ];
        message
    }

    fn ttls(message: &Message) -> Vec<u32> {
        let mut bytes = message.to_vec().unwrap();
        shorten(&mut bytes, 5);
        let read = Message::from_vec(&bytes).unwrap();
        read.answers.iter().chain(&read.authorities).map(|record| record.ttl).collect()
    }

    #[test]
    fn negative_answers_lose_their_time_and_others_most_of_it() {
        let alias = |ttl| {
            let other = RData::CNAME(rdata::CNAME(Name::from_str("x.").unwrap()));
            Record::from_rdata(Name::from_str("web.").unwrap(), ttl, other)
        };
        assert_eq!(ttls(&message(ResponseCode::NXDomain, vec![])), [77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NoError, vec![])), [77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NXDomain, vec![alias(60)])), [5, 77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NoError, vec![alias(60), alias(3)])), [5, 3, 77, 86400]);
        assert_eq!(ttls(&message(ResponseCode::ServFail, vec![])), [77, 86400]);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd(mut bytes: Vec<u8>, cut in 0..100_usize, place in 0..100_usize, value: u8) {
            shorten(&mut bytes, 5);
            let mut bytes = message(ResponseCode::NXDomain, vec![]).to_vec().unwrap();
            let length = bytes.len();
            bytes[place % length] = value;
            bytes.truncate(length - cut % length);
            shorten(&mut bytes, 5);
        }
    }
}
