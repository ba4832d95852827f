//! Losses, by hand and by their law.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::*;
use crate::{
    model::{Endpoint, Network},
    names::{Answer, lookup},
};

fn id(n: usize) -> NetworkId {
    NetworkId::new(format!("{n:064x}")).unwrap()
}

/// Endpoints: number, its network's number, address, container, aliases.
fn zone(endpoints: &[(usize, usize, &str, &str, &[&str])]) -> Zone {
    let networks = [(1, "shop"), (2, "back")].map(|(n, name)| -> Network {
        serde_json::from_value(json!({
            "id": id(n), "name": name, "subnets": [], "vni": 4096 + n, "ipam": "ours", "created_by": "n1",
            "created_at": 1,
        }))
        .unwrap()
    });
    let endpoints: Vec<Endpoint> = endpoints
        .iter()
        .map(|(n, network, ip, container, aliases)| {
            serde_json::from_value(json!({
                "id": format!("{n:064x}"), "network": id(*network), "node": "n1", "vtep": "192.0.2.1",
                "mac": "02:42:0a:09:00:02", "addresses": [ip], "container": container, "aliases": aliases,
                "created_at": 7,
            }))
            .unwrap()
        })
        .collect();
    Zone::new(&networks, endpoints)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ttl(zone: &Zone, name: &str, now: u64) -> u32 {
    let kind = if name.ends_with("arpa") { Kind::Ptr } else { Kind::A };
    life(zone, &[id(1)], name, kind, at(now))
}

#[test]
fn a_name_that_lost_a_holder_is_kept_by_nobody_for_a_while() {
    let two = [(1, 1, "10.9.0.2", "c1", &["web"][..]), (2, 1, "10.9.0.3", "c2", &["Web"])];
    let before = zone(&two).after(&Zone::default(), at(1));
    assert_eq!(ttl(&before, "web", 1), LIFE, "what comes is no loss");
    let one = zone(&two[..1]).after(&before, at(100));
    for name in ["web", "WEB.", "web.shop", "c2", "3.0.9.10.in-addr.arpa"] {
        assert_eq!((ttl(&one, name, 100), ttl(&one, name, 109)), (0, 0), "{name}");
        assert_eq!(ttl(&one, name, 110), LIFE, "{name}");
    }
    for name in ["c1", "c1.shop", "web.back", "nobody", "2.0.9.10.in-addr.arpa", "back"] {
        assert_eq!(ttl(&one, name, 100), LIFE, "{name}");
    }
    // It comes back, which does not shorten the time.
    let again = zone(&two).after(&one, at(103));
    assert_eq!((ttl(&again, "web", 103), ttl(&again, "c2", 109), ttl(&again, "web", 110)), (0, 0, LIFE));
    assert!(again.after(&zone(&two), at(120)).lost.len() == 0, "what is over is forgotten");
}

#[test]
fn a_holder_that_changes_its_address_or_its_name_has_lost_the_old_one() {
    let old = zone(&[(1, 1, "10.9.0.2", "c1", &["web"])]);
    let moved = zone(&[(2, 1, "10.9.0.7", "c1", &["web"])]).after(&old, at(5));
    assert_eq!(
        [ttl(&moved, "c1", 5), ttl(&moved, "web", 5), ttl(&moved, "2.0.9.10.in-addr.arpa", 5)],
        [0; 3]
    );
    let renamed = zone(&[(1, 1, "10.9.0.2", "c9", &["web"])]).after(&old, at(5));
    assert_eq!([ttl(&renamed, "c1", 5), ttl(&renamed, "2.0.9.10.in-addr.arpa", 5)], [0; 2]);
    assert_eq!([ttl(&renamed, "c9", 5), ttl(&renamed, "web", 5)], [LIFE; 2]);
    let restarted = zone(&[(2, 1, "10.9.0.2", "c1", &["web"])]).after(&old, at(5));
    assert_eq!([ttl(&restarted, "c1", 5), ttl(&restarted, "2.0.9.10.in-addr.arpa", 5)], [LIFE; 2]);
}

#[test]
fn losses_of_other_networks_do_not_count() {
    let old = zone(&[(1, 1, "10.9.0.2", "c1", &["web"]), (2, 2, "10.8.0.2", "c2", &["web"])]);
    let new = zone(&[(1, 1, "10.9.0.2", "c1", &["web"])]).after(&old, at(5));
    assert_eq!(ttl(&new, "web", 5), LIFE);
    let both = |name| life(&new, &[id(1), id(2)], name, Kind::A, at(5));
    assert_eq!((both("web"), both("web.shop"), both("web.back"), both("c2")), (0, LIFE, 0, 0));
}

#[test]
fn what_is_remembered_has_a_bound() {
    let names: Vec<_> = (0..MOST).map(|n| format!("c{n}")).collect();
    let ips: Vec<_> = (0..MOST).map(|n| format!("10.{}.{}.2", n >> 8, n & 255)).collect();
    let many =
        names.iter().zip(&ips).enumerate().map(|(n, (name, ip))| (n, 1, ip.as_str(), name.as_str(), &[][..]));
    let full = zone(&many.collect::<Vec<_>>());
    let empty = zone(&[]).after(&full, at(5));
    assert_eq!(empty.lost.len(), 0);
    assert_eq!((ttl(&empty, "anything", 14), ttl(&empty, "anything", 15)), (0, LIFE));
    let next = zone(&[]).after(&empty, at(6));
    assert_eq!(ttl(&next, "anything", 14), 0);
}

proptest! {
    /// Whoever keeps an answer for as long as he was told keeps none that has been wrong for more than a
    /// life: and while one is wrong, no new answer is kept.
    #[test]
    fn no_answer_with_a_lost_address_is_kept_long(
        steps in vec((vec((1..5_usize, select(vec!["a", "b"]), 2..5_u8), 0..4), 1..4_u64), 1..12),
        name in select(vec!["a", "b", "a.shop"]),
    ) {
        let (mut now, mut zone_now) = (0, Zone::default());
        let mut last_loss = None;
        let mut known = Vec::new();
        for (endpoints, pause) in steps {
            now += pause;
            let ips: Vec<_> = endpoints.iter().map(|(_, _, last)| format!("10.9.0.{last}")).collect();
            let list: Vec<_> =
                endpoints.iter().zip(&ips).map(|((n, name, _), ip)| (*n, 1, ip.as_str(), *name, &[][..])).collect();
            zone_now = zone(&list).after(&zone_now, at(now));
            let Answer::Addresses(ips) = lookup(&zone_now, &[id(1)], name, Kind::A, 0) else {
                if !known.is_empty() {
                    last_loss = Some(now);
                }
                known = Vec::new();
                continue;
            };
            if known.iter().any(|ip| !ips.contains(ip)) {
                last_loss = Some(now);
            }
            let recent = last_loss.is_some_and(|loss| now < loss + MEMORY.as_secs());
            prop_assert_eq!(ttl(&zone_now, name, now), if recent { 0 } else { LIFE });
            known = ips;
        }
    }
}
