//! Against the rules of the DNS, and of Docker's resolver.

use std::str::FromStr;

use hickory_proto::op::Edns;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::NetworkId,
    names::{LIFE, Zone},
};

fn names(holders: u32) -> Names {
    let (zone, id) = zone(holders);
    Names::fixed(zone, vec![id])
}

fn zone(holders: u32) -> (Zone, NetworkId) {
    let id = NetworkId::new("a".repeat(64)).unwrap();
    let network = serde_json::from_value(json!({
        "id": id, "name": "net", "subnets": [], "vni": 4096, "ipam": "ours", "created_by": "n1", "created_at": 1,
    }))
    .unwrap();
    let endpoints: Vec<crate::model::Endpoint> = (0..holders)
        .map(|n| {
            serde_json::from_value(json!({
                "id": format!("{n:064x}"), "network": id, "node": "n1", "vtep": "192.0.2.1",
                "mac": "02:42:0a:09:00:02", "addresses": [std::net::Ipv4Addr::from(0x0a09_0002 + n)],
                "container": format!("c{n}"), "aliases": ["web"], "created_at": 7,
            }))
            .unwrap()
        })
        .collect();
    (Zone::new(&[network], endpoints), id)
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn answered(query: &Message, holders: u32, way: Way) -> (Message, usize) {
    match decide(&query.to_vec().unwrap(), &names(holders), way, 0) {
        Decision::Reply(bytes) => (Message::from_vec(&bytes).unwrap(), bytes.len()),
        other @ Decision::Forward { .. } => panic!("{other:?}"),
    }
}

fn forwarded(query: &Message) -> Decision {
    decide(&query.to_vec().unwrap(), &names(1), Way::Udp, 0)
}

#[test]
fn answers_as_docker_s_resolver_does() {
    let (reply, _) = answered(&query("C1.", RecordType::A), 3, Way::Udp);
    let head = reply.metadata;
    assert_eq!((head.id, head.message_type), (4711, MessageType::Response));
    assert!(head.recursion_available && head.recursion_desired && !head.authoritative && !head.truncation);
    assert_eq!(reply.queries[0].name().to_string(), "C1.", "the case of the question comes back");
    assert_eq!(reply.answers.len(), 1);
    assert_eq!((reply.answers[0].ttl, reply.answers[0].data.to_string()), (LIFE, "10.9.0.3".to_owned()));
    assert!(reply.edns.is_none());
}

#[test]
fn the_other_family_is_no_data_that_nobody_may_keep() {
    for kind in [RecordType::AAAA, RecordType::MX] {
        let (reply, _) = answered(&query("c0.net.", kind), 1, Way::Udp);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty() && reply.authorities.is_empty());
    }
}

#[test]
fn addresses_have_names() {
    let (reply, _) = answered(&query("2.0.9.10.in-addr.arpa.", RecordType::PTR), 1, Way::Udp);
    assert_eq!(reply.answers[0].data.to_string(), "c0.net.");
}

#[test]
fn nobody_keeps_what_has_just_lost_a_holder() {
    let (before, id) = zone(3);
    let names = Names::fixed(zone(2).0.after(&before, std::time::Duration::ZERO), vec![id]);
    let decide = |name, kind| decide(&query(name, kind).to_vec().unwrap(), &names, Way::Udp, 0);
    let ttl = |name, kind| match decide(name, kind) {
        Decision::Reply(bytes) => Message::from_vec(&bytes).unwrap().answers[0].ttl,
        other @ Decision::Forward { .. } => panic!("{other:?}"),
    };
    assert_eq!((ttl("web.", RecordType::A), ttl("c0.", RecordType::A)), (0, LIFE));
    assert_eq!(ttl("2.0.9.10.in-addr.arpa.", RecordType::PTR), LIFE);
    // Docker's resolver may still know it: it keeps what is its own a moment longer.
    let gone = Decision::Forward { keep: Some(0) };
    assert_eq!(decide("c2.", RecordType::A), gone);
    assert_eq!(decide("4.0.9.10.in-addr.arpa.", RecordType::PTR), gone);
}

#[test]
fn an_answer_keeps_to_its_room() {
    let many = 5000;
    let (reply, length) = answered(&query("web.", RecordType::A), many, Way::Udp);
    assert!(reply.metadata.truncation && length <= 512 && length > 512 - 16, "{length}");
    assert_eq!(reply.answers.len(), (512 - 12 - 9) / 16);

    let mut roomy = query("web.", RecordType::A);
    roomy.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(4096);
    let (reply, length) = answered(&roomy, many, Way::Udp);
    assert!(reply.metadata.truncation && length <= 4096 && length > 4096 - 16, "{length}");
    assert!(reply.edns.is_some(), "who speaks EDNS is answered in it");
    assert!(!answered(&roomy, 200, Way::Udp).0.metadata.truncation);

    // 65,535 bytes is all that TCP can carry.
    assert_eq!(answered(&query("web.", RecordType::A), 4000, Way::Tcp).0.answers.len(), 4000);
    let (reply, length) = answered(&query("web.", RecordType::A), many, Way::Tcp);
    assert!(reply.metadata.truncation && length <= 65535, "{length}");
}

#[test]
fn what_is_not_ours_is_docker_s() {
    let foreign = Decision::Forward { keep: None };
    assert_eq!(forwarded(&query("example.com.", RecordType::A)), foreign);
    assert_eq!(forwarded(&query(".", RecordType::A)), foreign);
    assert_eq!(forwarded(&query("c9.", RecordType::A)), Decision::Forward { keep: Some(LIFE) });
    assert_eq!(forwarded(&query("c9.net.", RecordType::A)), Decision::Forward { keep: Some(LIFE) });
    assert_eq!(forwarded(&query("c0.", RecordType::TXT)), Decision::Forward { keep: Some(LIFE) });
    let mut two = query("c0.", RecordType::A);
    two.add_query(Query::query(Name::from_str("c0.").unwrap(), RecordType::AAAA));
    let mut chaos = query("c0.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut update = query("c0.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    let mut newer = query("c0.", RecordType::A);
    newer.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    let answer = query("c0.", RecordType::A).into_response();
    for odd in [two, chaos, update, newer, answer] {
        assert_eq!(forwarded(&odd), foreign, "{odd}");
    }
}

#[test]
fn a_failure_is_said_in_words_of_the_dns() {
    let query = query("example.com.", RecordType::A);
    for (busy, code) in [(true, ResponseCode::Refused), (false, ResponseCode::ServFail)] {
        let reply = Message::from_vec(&failure(&query.to_vec().unwrap(), busy).unwrap()).unwrap();
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (4711, code));
        assert_eq!(reply.queries, query.queries);
    }
    assert_eq!(failure(b"rubbish", false), None);
}

proptest! {
    #[test]
    fn nothing_is_too_odd(mut bytes: Vec<u8>, place in 0..40_usize, value: u8) {
        let _ = decide(&bytes, &names(1), Way::Udp, 1);
        bytes = query("web.", RecordType::A).to_vec().unwrap();
        let place = place % bytes.len();
        bytes[place] = value;
        let _ = decide(&bytes, &names(1), Way::Udp, 1);
        let _ = failure(&bytes, true);
    }
}
