//! Small zones by hand, random ones by their laws, and a large one.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::*;
use crate::model::{Endpoint, Network};

fn id(n: usize) -> NetworkId {
    NetworkId::new(format!("{n:064x}")).unwrap()
}

fn network(n: usize, name: &str) -> Network {
    serde_json::from_value(json!({
        "id": id(n), "name": name, "vni": 4096 + n, "ipam": "ours",
        "subnets": if n == 1 { json!([{"cidr": "10.9.0.0/24"}]) } else { json!([]) },
        "created_by": "n1", "created_at": 1,
    }))
    .unwrap()
}

fn endpoint(n: usize, network: usize, node: &str, names: &[&str], addresses: &[&str]) -> Endpoint {
    let (container, aliases) =
        names.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    serde_json::from_value(json!({
        "id": format!("{n:064x}"), "network": id(network), "node": node, "vtep": "192.0.2.1",
        "mac": "02:42:0a:09:00:02", "addresses": addresses, "container": container,
        "container_id": format!("{:064x}", u128::MAX - n as u128).chars().rev().collect::<String>(),
        "aliases": aliases, "created_at": 7,
    }))
    .unwrap()
}

fn ips(list: &[&str]) -> Answer {
    Answer::Addresses(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

/// Two networks, `shop` and `back.office`; `web` is an alias on both hosts.
fn example() -> Zone {
    Zone::new(
        &[network(1, "shop"), network(2, "back.office")],
        [
            endpoint(1, 1, "n1", &["shop-web-1", "web"], &["10.9.0.2", "fd00::2"]),
            endpoint(2, 1, "n2", &["shop-web-2", "Web"], &["10.9.0.3"]),
            endpoint(3, 2, "n2", &["db", "web", "a.b"], &["10.8.0.2"]),
        ],
    )
}

fn ask(networks: &[usize], name: &str, kind: Kind) -> Answer {
    let networks: Vec<_> = networks.iter().map(|n| id(*n)).collect();
    lookup(&example(), &networks, name, kind, 0)
}

#[test]
fn all_holders_answer_in_the_first_network_that_knows_the_name() {
    assert_eq!(ask(&[1], "WEB.", Kind::A), ips(&["10.9.0.2", "10.9.0.3"]));
    assert_eq!(ask(&[1, 2], "web", Kind::A), ips(&["10.9.0.2", "10.9.0.3"]));
    assert_eq!(ask(&[2, 1], "web", Kind::A), ips(&["10.8.0.2"]));
    // The first network with an address of the family, as in Docker's resolver.
    assert_eq!(ask(&[2, 1], "web", Kind::Aaaa), ips(&["fd00::2"]));
    assert_eq!(ask(&[1, 2], "web.back.office", Kind::A), ips(&["10.8.0.2"]));
    assert_eq!(ask(&[1, 2], "web.shop", Kind::A), ips(&["10.9.0.2", "10.9.0.3"]));
    assert_eq!(ask(&[1, 2], "a.b.back.office", Kind::A), ips(&["10.8.0.2"]));
    assert_eq!(ask(&[1, 2], "A.B", Kind::A), ips(&["10.8.0.2"]));
}

#[test]
fn what_other_networks_hold_is_not_ours() {
    assert_eq!(ask(&[1], "db", Kind::A), Answer::NotOurs);
    assert_eq!(ask(&[1], "db.back.office", Kind::A), Answer::NotOurs);
    assert_eq!(ask(&[], "web", Kind::A), Answer::NotOurs);
    assert_eq!(ask(&[1], "web.Shop", Kind::A), Answer::NotOurs, "network names know their case");
    assert_eq!(ask(&[1], "2.0.8.10.in-addr.arpa", Kind::Ptr), Answer::NotOurs);
    for odd in ["", ".", "..", "web..", ".web", "web..shop", ".shop"] {
        assert_eq!(ask(&[1, 2], odd, Kind::A), Answer::NotOurs, "{odd:?}");
    }
}

#[test]
fn a_name_without_the_family_exists_all_the_same() {
    assert_eq!(ask(&[1], "shop-web-2", Kind::Aaaa), Answer::NoData);
    assert_eq!(ask(&[1], "shop-web-1", Kind::Mx), Answer::NoData);
    assert_eq!(ask(&[1], "shop-web-1", Kind::Other), Answer::NotOurs);
    assert_eq!(ask(&[1], "nobody", Kind::Aaaa), Answer::NotOurs);
}

#[test]
fn addresses_have_names() {
    assert_eq!(ask(&[2, 1], "3.0.9.10.in-addr.arpa.", Kind::Ptr), Answer::Name("shop-web-2.shop".into()));
    let six = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(ask(&[1], &six, Kind::Ptr), Answer::Name("shop-web-1.shop".into()));
    assert_eq!(ask(&[1], "9.0.9.10.in-addr.arpa.", Kind::Ptr), Answer::NotOurs);
}

#[test]
fn a_container_whose_name_is_not_known_yet_has_an_address_all_the_same() {
    let zone = Zone::new(&[network(1, "shop")], [endpoint(1, 1, "n1", &[], &["10.9.0.2"])]);
    let ask = |name, kind| lookup(&zone, &[id(1)], name, kind, 0);
    assert_eq!(ask("2.0.9.10.in-addr.arpa", Kind::Ptr), Answer::NoData);
    assert_eq!(ask("2.0.9.10.in-addr.arpa", Kind::A), Answer::NotOurs);
}

#[test]
fn what_was_taken_over_answers_no_more() {
    let old = endpoint(1, 1, "n1", &["old", "web"], &["10.9.0.2"]);
    let new = Endpoint { generation: 1, ..endpoint(0, 1, "n2", &["new", "web"], &["10.9.0.2"]) };
    let zone = Zone::new(&[network(1, "shop")], [old, new]);
    let ask = |name| lookup(&zone, &[id(1)], name, Kind::A, 0);
    assert_eq!(ask("web"), ips(&["10.9.0.2"]));
    assert_eq!(ask("new"), ips(&["10.9.0.2"]));
    assert_eq!(ask("old"), Answer::NotOurs);
    assert_eq!(
        explain(&zone, &[id(1)], "2.0.9.10.in-addr.arpa", Kind::Ptr)[0].container.as_deref(),
        Some("new")
    );
}

#[test]
fn the_host_s_own_view_of_its_endpoints_is_newer() {
    let published = endpoint(1, 1, "n1", &["before"], &["10.9.0.2"]);
    let gone = endpoint(2, 1, "n1", &["gone"], &["10.9.0.3"]);
    let other = endpoint(3, 1, "n2", &["other"], &["10.9.0.4"]);
    let published = [published, gone, other].map(|e| (e.id.clone(), e.into()));
    let snapshot = crate::model::Snapshot {
        networks: BTreeMap::from([(id(1), network(1, "shop"))]).into(),
        endpoints: BTreeMap::from([(id(1), BTreeMap::from(published).into())]),
        ..Default::default()
    };
    let zone = Zone::of(
        &snapshot,
        &NodeId::new("n1").unwrap(),
        vec![endpoint(1, 1, "n1", &["after"], &["10.9.0.2"])],
    );
    assert_eq!(lookup(&zone, &[id(1)], "after", Kind::A, 0), ips(&["10.9.0.2"]));
    assert_eq!(lookup(&zone, &[id(1)], "other", Kind::A, 0), ips(&["10.9.0.4"]));
    for name in ["before", "gone"] {
        assert_eq!(lookup(&zone, &[id(1)], name, Kind::A, 0), Answer::NotOurs, "{name}");
    }
}

#[test]
fn the_names_of_a_dead_host_are_withdrawn_and_come_back_with_its_lease() {
    let (here, there) =
        (endpoint(1, 1, "n1", &["db"], &["10.9.0.2"]), endpoint(2, 1, "n2", &["db", "store"], &["10.9.0.3"]));
    let death = serde_json::json!({"id": "n2", "hostname": "h2", "incarnation": 1, "by": "n1", "since": 0});
    let node = serde_json::json!({"id": "n2", "hostname": "h2", "vtep": "192.0.2.2", "vxlan_port": 4789,
        "underlay_mtu": 1500, "daemon_version": "", "scope": "local", "boot_id": "", "since": 0});
    let mut snapshot = crate::model::Snapshot {
        networks: BTreeMap::from([(id(1), network(1, "shop"))]).into(),
        endpoints: BTreeMap::from([(
            id(1),
            BTreeMap::from([here, there].map(|e| (e.id.clone(), e.into()))).into(),
        )]),
        ..Default::default()
    };
    let here_id = crate::model::NodeId::new("n9").unwrap();
    let ask = |snapshot: &crate::model::Snapshot, name| {
        lookup(&Zone::of(snapshot, &here_id, vec![]), &[id(1)], name, Kind::A, 0)
    };
    assert_eq!(ask(&snapshot, "store"), ips(&["10.9.0.3"]));
    let dead = crate::model::NodeId::new("n2").unwrap();
    snapshot.dead.insert(dead.clone(), serde_json::from_value(death).unwrap());
    assert_eq!(ask(&snapshot, "store"), Answer::NotOurs);
    assert_eq!(ask(&snapshot, "db"), ips(&["10.9.0.2"]));
    snapshot.nodes.insert(dead, serde_json::from_value(node).unwrap());
    assert_eq!(ask(&snapshot, "store"), ips(&["10.9.0.3"]));
}

#[test]
fn names_that_may_come_are_told_from_the_world_s() {
    let zone = example();
    for (name, may) in [
        ("web2", true),
        ("web2.", true),
        ("x.shop", true),
        ("x.back.office", true),
        ("office", true),
        ("example.com", false),
        ("x.workshop", false),
        (".shop", false),
        ("back.office", false),
        ("", false),
        (".", false),
        ("7.0.9.10.in-addr.arpa.", true),
        ("7.0.8.10.in-addr.arpa", false),
        ("0.9.10.in-addr.arpa", false),
    ] {
        assert_eq!(could_come(&zone, &[id(1), id(2)], name), may, "{name:?}");
    }
    assert!(!could_come(&zone, &[id(1)], "x.back.office"));
}

#[test]
fn explains_who_answers() {
    let evidence = explain(&example(), &[id(1)], "web", Kind::Aaaa);
    let rows: Vec<_> = evidence
        .iter()
        .map(|e| (e.node.as_str(), e.container.as_deref(), e.addresses.len(), e.since))
        .collect();
    assert_eq!(rows, [("n1", Some("shop-web-1"), 1, 7), ("n2", Some("shop-web-2"), 0, 7)]);
    assert_eq!(explain(&example(), &[id(1)], "web", Kind::Other), []);
}

#[test]
fn explains_since_when() {
    let mut record = endpoint(1, 1, "n1", &["Shop-1", "web", "Late"], &["10.9.0.2"]);
    record.named_at = BTreeMap::from([("late".to_owned(), 9), ("shop-1".to_owned(), 11)]);
    let short = &record.container_id.clone().unwrap()[..12];
    let zone = Zone::new(&[network(1, "shop")], [record]);
    for (name, kind, since) in [
        ("web", Kind::A, 7),
        (short, Kind::A, 7),
        ("LATE.shop", Kind::A, 9),
        ("late", Kind::Aaaa, 9),
        ("shop-1", Kind::A, 11),
        ("2.0.9.10.in-addr.arpa", Kind::Ptr, 11),
    ] {
        assert_eq!(explain(&zone, &[id(1)], name, kind)[0].since, since, "{name}");
    }
}

#[test]
fn short_ids_are_names() {
    let record = endpoint(5, 1, "n1", &["c"], &["10.9.0.9"]);
    let short = &record.container_id.clone().unwrap()[..12];
    let zone = Zone::new(&[network(1, "shop")], [record]);
    assert_eq!(lookup(&zone, &[id(1)], short, Kind::A, 0), ips(&["10.9.0.9"]));
    assert_eq!(lookup(&zone, &[id(1)], &short[..11], Kind::A, 0), Answer::NotOurs);
}

const NAMES: [&str; 6] = ["a", "b", "a.b", "c", "A", "b.x"];
const NETWORKS: [&str; 3] = ["x", "b", "b.x"];

fn zones() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (
        0..3_usize,
        vec(select(NAMES.to_vec()), 0..3),
        vec(select(vec!["10.9.0.2", "10.9.0.3", "fd00::2"]), 0..3),
    );
    vec(one, 0..8).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered.map(|(n, (net, names, ips))| endpoint(n, net, "n1", &names, &ips)).collect()
    })
}

/// The rules of Docker's resolver, written down as slowly as can be.
fn by_hand(endpoints: &[Endpoint], networks: &[usize], name: &str, kind: Kind) -> Option<Vec<IpAddr>> {
    let labels: Vec<&str> = name.split('.').collect();
    for cut in (1..=labels.len()).rev() {
        let (label, place) = (labels[..cut].join("."), labels[cut..].join("."));
        let mut known = false;
        for net in networks {
            if cut < labels.len() && NETWORKS[*net] != place {
                continue;
            }
            let members: Vec<_> = endpoints.iter().filter(|e| e.network == id(*net)).collect();
            let owns = |e: &Endpoint, ip: &IpAddr| {
                members.iter().rfind(|other| other.addresses.contains(ip)).is_some_and(|last| last.id == e.id)
            };
            let mut found = Vec::new();
            for e in &members {
                let named = e.container.iter().chain(&e.aliases).any(|n| n.eq_ignore_ascii_case(&label));
                let held: Vec<_> = e.addresses.iter().filter(|ip| owns(e, ip)).copied().collect();
                known |= named && !held.is_empty();
                found.extend(held.into_iter().filter(|ip| named && of_kind(*ip, kind)));
            }
            if !found.is_empty() {
                return Some(found);
            }
        }
        if known {
            return Some(Vec::new());
        }
    }
    None
}

proptest! {
    #[test]
    fn the_index_agrees_with_the_rules(
        endpoints in zones(),
        visible in vec(0..3_usize, 0..3),
        name in select(vec!["a", "b", "c", "a.b", "a.x", "a.b.x", "b.b.x", "a.b.b.x", "b.x", "a.B", "d"]),
        kind in select(vec![Kind::A, Kind::Aaaa, Kind::Mx]),
        seed: u64,
    ) {
        let nets: Vec<_> = NETWORKS.iter().enumerate().map(|(n, name)| network(n, name)).collect();
        let zone = Zone::new(&nets, endpoints.clone());
        let ids: Vec<_> = visible.iter().map(|n| id(*n)).collect();
        let answer = lookup(&zone, &ids, name, kind, seed);
        let proof = explain(&zone, &ids, name, kind);
        match by_hand(&endpoints, &visible, name, kind) {
            None => {
                prop_assert_eq!(&answer, &Answer::NotOurs);
                prop_assert!(proof.is_empty());
            }
            Some(none) if none.is_empty() => {
                prop_assert_eq!(&answer, &Answer::NoData);
                prop_assert!(!proof.is_empty());
            }
            Some(mut wanted) => {
                let places = wanted.len();
                wanted.rotate_left(usize::try_from(seed % places as u64).unwrap());
                prop_assert_eq!(&answer, &Answer::Addresses(wanted));
                prop_assert_eq!(proof.iter().map(|e| e.addresses.len()).sum::<usize>(), places);
            }
        }
    }

    #[test]
    fn no_question_is_too_odd(name in ".*", kind in select(vec![Kind::A, Kind::Ptr, Kind::Mx, Kind::Other])) {
        let zone = example();
        lookup(&zone, &[id(1), id(2)], &name, kind, u64::MAX);
        explain(&zone, &[id(1), id(2)], &name, kind);
        could_come(&zone, &[id(1), id(2)], &name);
    }
}
