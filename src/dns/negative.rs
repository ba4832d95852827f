//! "There is no such name" that nobody may keep.

use super::wire::{after_name, number};

/// `SOA`.
const SOA: u16 = 6;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// Sets to zero the time for which a negative answer may be kept. Its SOA record's TTL says it (RFC 2308,
/// section 5); no signature covers that field. Answers with data stay as they are, and so does what cannot
/// be read.
pub(super) fn forget_at_once(answer: &mut [u8]) {
    for place in places(answer).unwrap_or_default() {
        if let Some(ttl) = answer.get_mut(place..place + 4) {
            ttl.fill(0);
        }
    }
}

/// Where the TTLs of the SOA records are.
fn places(answer: &[u8]) -> Option<Vec<usize>> {
    let code = answer.get(3)? & 15;
    let [questions, answers, authorities] = [4, 6, 8].map(|at| number(answer, at).unwrap_or(0));
    if !matches!((code, answers), (NO_ERROR, 0) | (NO_SUCH_NAME, _)) {
        return None;
    }
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(answer, at)? + 4;
    }
    let mut found = Vec::new();
    for record in 0..u32::from(answers) + u32::from(authorities) {
        let fixed = after_name(answer, at)?;
        if record >= u32::from(answers) && number(answer, fixed)? == SOA {
            found.push(fixed + 4);
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
        forget_at_once(&mut bytes);
        let read = Message::from_vec(&bytes).unwrap();
        read.answers.iter().chain(&read.authorities).map(|record| record.ttl).collect()
    }

    #[test]
    fn only_negative_answers_lose_their_time() {
        let alias = Record::from_rdata(
            Name::from_str("web.").unwrap(),
            60,
            RData::CNAME(rdata::CNAME(Name::from_str("x.").unwrap())),
        );
        assert_eq!(ttls(&message(ResponseCode::NXDomain, vec![])), [77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NoError, vec![])), [77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NXDomain, vec![alias.clone()])), [60, 77, 0]);
        assert_eq!(ttls(&message(ResponseCode::NoError, vec![alias])), [60, 77, 86400]);
        assert_eq!(ttls(&message(ResponseCode::ServFail, vec![])), [77, 86400]);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd(mut bytes: Vec<u8>, cut in 0..100_usize, place in 0..100_usize, value: u8) {
            forget_at_once(&mut bytes);
            let mut bytes = message(ResponseCode::NXDomain, vec![]).to_vec().unwrap();
            let length = bytes.len();
            bytes[place % length] = value;
            bytes.truncate(length - cut % length);
            forget_at_once(&mut bytes);
        }
    }
}
