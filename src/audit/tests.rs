//! A small cluster: host a with network blue and one container, host b with another one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::{
    model::{Endpoint, EndpointId, Network, NetworkId, NodeId, Snapshot},
    store::{keys, record},
};

const NOW: u64 = 1_000_000;
/// A time of long ago.
const OLD: u64 = 1;

type Records = BTreeMap<String, serde_json::Value>;

fn network() -> Network {
    serde_json::from_value(json!({
        "id": "n1", "name": "blue", "subnets": [{ "cidr": "10.9.0.0/24", "aux": {} }], "vni": 4096,
        "ipam": "ours", "created_by": "a", "created_at": OLD,
    }))
    .unwrap()
}

fn endpoint(id: &str, node: &str, last: u8) -> Endpoint {
    serde_json::from_value(json!({
        "id": id, "network": "n1", "node": node, "vtep": "192.0.2.1", "mac": format!("02:42:0a:09:00:{last:02x}"),
        "addresses": [format!("10.9.0.{last}")], "container": format!("c-{id}"), "created_at": OLD,
    }))
    .unwrap()
}

fn node(id: &str) -> serde_json::Value {
    json!({
        "id": id, "hostname": format!("host-{id}"), "vtep": "192.0.2.1", "vxlan_port": 4789,
        "underlay_mtu": 1500, "daemon_version": "", "scope": "local", "boot_id": "", "since": OLD, "incarnation": 1,
    })
}

fn host(id: &str) -> serde_json::Value {
    json!({ "id": id, "hostname": format!("host-{id}"), "vtep": "192.0.2.1", "incarnation": 1 })
}

fn claim(node: &str) -> serde_json::Value {
    json!({ "node": node, "kind": "container", "since_ms": OLD })
}

fn records() -> Records {
    let mut records = Records::new();
    let mut put = |key: &str, value: serde_json::Value| drop(records.insert(key.to_owned(), value));
    put("v1/meta", json!({ "cluster": "k", "incarnation": "i", "created_at": OLD }));
    put("v1/meta/i", json!({}));
    put("v1/marks/a", json!({ "incarnation": "i", "tide": 3, "at": OLD }));
    put("v1/marks/b", json!({ "incarnation": "i", "tide": 4, "at": OLD }));
    put("v1/hosts/a", host("a"));
    put("v1/hosts/b", host("b"));
    put("v1/hosts/c", host("c"));
    put("v1/dead/c", json!({ "id": "c", "hostname": "host-c", "incarnation": 1, "by": "a", "since": OLD }));
    put("v1/removed/n0", json!({ "title": "red", "by": "b", "since": OLD }));
    put("v1/wanted/10.9.0.0_24/10.9.0.7", json!({}));
    put("v1/nodes/a", node("a"));
    put("v1/nodes/b", node("b"));
    put("v1/networks/n1", serde_json::to_value(network()).unwrap());
    put("v1/names/blue", json!({ "network": "n1" }));
    put("v1/vnis/4096", json!({ "network": "n1" }));
    put("v1/pools/10.9.0.0_24", pool(Some("n1"), "a", OLD));
    put("v1/addresses/10.9.0.0_24/10.9.0.2", claim("a"));
    put("v1/addresses/10.9.0.0_24/10.9.0.3", claim("b"));
    put("v1/endpoints/n1/e1", serde_json::to_value(endpoint("e1", "a", 2)).unwrap());
    put("v1/endpoints/n1/e2", serde_json::to_value(endpoint("e2", "b", 3)).unwrap());
    put("v1/present/n1/a", json!({}));
    put("v1/present/n1/b", json!({}));
    put("v1/of-a-newer-release/x", json!([]));
    records
}

fn pool(network: Option<&str>, node: &str, since: u64) -> serde_json::Value {
    json!({ "cidr": "10.9.0.0/24", "space": "local", "network": network, "node": node, "since": since })
}

fn listing(records: &Records) -> Listing {
    let texts: BTreeMap<_, _> =
        records.iter().map(|(key, value)| (key.as_str(), record::encode(value))).collect();
    Listing::of(texts.iter().map(|(key, text)| (*key, text.as_str())))
}

fn own() -> Own {
    let e1 = endpoint("e1", "a", 2);
    let docker = NetworkId::new("d1").unwrap();
    Own {
        node: NodeId::new("a").unwrap(),
        cluster: Some("k".to_owned()),
        incarnation: Some("i".to_owned()),
        networks: BTreeMap::from([(docker.clone(), OwnNetwork { network: network(), since: OLD })]),
        endpoints: BTreeMap::from([(
            e1.id.clone(),
            OwnEndpoint { record: e1, docker_network: docker, alive: true, cut_off: false },
        )]),
        releases: BTreeSet::new(),
        departures: BTreeSet::new(),
    }
}

/// What `change` makes of the cluster, a line for each difference.
fn told(change: impl FnOnce(&mut Records, &mut Own)) -> Vec<String> {
    let (mut records, mut own) = (records(), own());
    change(&mut records, &mut own);
    let rows = compare_records(&listing(&records), &own);
    rows.into_iter().map(|row| format!("{}: {} / {}", row.object, row.expected, row.found)).collect()
}

fn collected(change: impl FnOnce(&mut Records, &mut Own)) -> Vec<String> {
    let (mut records, mut own) = (records(), own());
    change(&mut records, &mut own);
    let found = leftovers(&listing(&records), &own, NOW);
    found.into_iter().map(|left| format!("{} {}: {}", left.kind, left.object, left.why)).collect()
}

#[test]
fn only_what_stays_is_told_and_as_it_is_now() {
    let first = [row(Area::Kernel, "a", "1", "2"), row(Area::Kernel, "b", "1", "2")];
    let now = vec![row(Area::Kernel, "b", "1", "3"), row(Area::Store, "a", "1", "2")];
    assert_eq!(lasting(&first, now), [row(Area::Kernel, "b", "1", "3")]);
}

#[test]
fn a_cluster_in_order_has_no_difference_and_nothing_to_collect() {
    assert_eq!(told(|_, _| {}), [""; 0]);
    assert_eq!(collected(|_, _| {}), [""; 0]);
}

#[test]
fn every_record_that_is_missing_or_wrong_is_told() {
    let gone = |key: &'static str| told(move |records, _| drop(records.remove(key)));
    assert_eq!(gone("v1/endpoints/n1/e1"), ["record of container c-e1: there / missing"]);
    assert_eq!(gone("v1/nodes/a"), ["this host: registered / not registered"]);
    assert_eq!(gone("v1/present/n1/a"), ["mark that network blue is on this host: there / missing"]);
    assert_eq!(gone("v1/vnis/4096"), ["VNI 4096: network blue's / nobody's"]);
    assert_eq!(gone("v1/names/blue"), ["name blue: network blue's / nobody's"]);
    assert_eq!(
        gone("v1/pools/10.9.0.0_24"),
        [
            "subnet 10.9.0.0/24: network blue's / nobody's",
            "claim of 10.9.0.2: none / its subnet 10.9.0.0/24 is gone",
            "claim of 10.9.0.3: none / its subnet 10.9.0.0/24 is gone",
        ]
    );
    assert_eq!(
        gone("v1/addresses/10.9.0.0_24/10.9.0.2"),
        ["claim of 10.9.0.2 for container c-e1: held by this host / nobody's"]
    );
    let stolen = told(|records, _| {
        records.insert("v1/addresses/10.9.0.0_24/10.9.0.2".into(), claim("b"));
    });
    assert_eq!(stolen, ["claim of 10.9.0.2 for container c-e1: held by this host / held by host host-b"]);
    let forgotten = told(|_, own| own.endpoints.clear());
    assert_eq!(
        forgotten,
        ["record of container c-e1 in network blue: none: it is gone from this host / there"]
    );
    let twice = told(|records, _| {
        let twin = serde_json::to_value(endpoint("e3", "b", 3)).unwrap();
        records.insert("v1/endpoints/n1/e3".into(), twin);
    });
    assert_eq!(
        twice,
        [
            "address 10.9.0.3 of network blue: one holder / container c-e2 on host host-b and container c-e3 on host host-b"
        ]
    );
    let unreadable = told(|records, _| {
        records.insert("v1/networks/n2".into(), json!({ "id": "n2" }));
    });
    assert_eq!(unreadable, ["record v1/networks/n2: readable / unreadable for this release"]);
    // One line for a store of somebody else, and one for a wiped one.
    let other = told(|records, _| {
        records.insert("v1/meta".into(), json!({ "cluster": "x", "created_at": OLD }));
        records.remove("v1/networks/n1");
    });
    assert_eq!(other, ["cluster: cluster k / cluster x"]);
    assert_eq!(told(|records, _| records.clear()), ["cluster: cluster k / none"]);
}

#[test]
fn what_says_how_the_store_is_and_who_is_in_it_is_told() {
    let gone = |key: &'static str| told(move |records, _| drop(records.remove(key)));
    let put = |key: &'static str, value: serde_json::Value| {
        told(move |records, _| drop(records.insert(key.to_owned(), value)))
    };
    assert_eq!(gone("v1/meta/i"), ["key of incarnation i: there / missing"]);
    assert_eq!(
        put("v1/meta/h", json!({})),
        ["key of incarnation h: none: the store has another one / there"]
    );
    assert_eq!(gone("v1/marks/a"), ["mark of this host: there / missing"]);
    let earlier = json!({ "incarnation": "h", "tide": 3, "at": OLD });
    assert_eq!(put("v1/marks/a", earlier), ["mark of this host: of this incarnation / of an earlier one"]);
    assert_eq!(gone("v1/hosts/a"), ["record that this host was here: there / missing"]);
    let death = json!({ "id": "a", "hostname": "host-a", "incarnation": 1, "by": "b", "since": OLD });
    assert_eq!(put("v1/dead/a", death), ["this host: alive / declared dead"]);
    let tomb = json!({ "title": "blue", "by": "b", "since": OLD });
    assert_eq!(put("v1/removed/n1", tomb), ["network blue (n1): removed / there"]);
    // One line for a store that is being filled again.
    let turned = json!({ "cluster": "k", "incarnation": "j", "created_at": OLD });
    assert_eq!(
        put("v1/meta", turned),
        ["cluster: incarnation i, which this host has filled / incarnation j"]
    );
}

#[test]
fn a_container_that_is_cut_off_has_no_record_and_no_claim() {
    let cut_off = |records: &mut Records, own: &mut Own| {
        own.endpoints.get_mut(&EndpointId::new("e1").unwrap()).unwrap().cut_off = true;
        records.insert("v1/addresses/10.9.0.0_24/10.9.0.2".into(), claim("b"));
    };
    let late = told(cut_off);
    assert_eq!(late, ["record of container c-e1 in network blue: none: it is gone from this host / there"]);
    let done = told(|records, own| {
        cut_off(records, own);
        records.remove("v1/endpoints/n1/e1");
    });
    assert_eq!(done, [""; 0]);
    assert_eq!(collected(cut_off), ["endpoint c-e1 of host host-a: it is gone from this host"]);
}

#[test]
fn keys_of_earlier_incarnations_and_calls_in_subnets_that_are_gone_are_collected() {
    let found = collected(|records, _| {
        records.insert("v1/meta/h".into(), json!({}));
        records.insert("v1/wanted/10.8.0.0_24".into(), json!({}));
    });
    let call = "call for an address 10.8.0.0/24: its subnet 10.8.0.0/24 is gone";
    assert_eq!(found, ["incarnation h: the store is in incarnation i", call]);
    // Where this host does not know that all is there, nothing is.
    let turned = collected(|records, own| {
        own.incarnation = Some("h".to_owned());
        records.remove("v1/networks/n1");
    });
    assert_eq!(turned, [""; 0]);
}

#[test]
fn a_network_that_is_gone_leaves_its_pointers_and_marks_to_be_collected() {
    let gone = collected(|records, own| {
        records.remove("v1/networks/n1");
        records.remove("v1/nodes/b");
        own.networks.clear();
        own.endpoints.clear();
    });
    let why = "network n1 is gone";
    assert_eq!(
        gone,
        [
            format!("name blue: {why}"),
            format!("VNI 4096: {why}"),
            format!("subnet 10.9.0.0/24: {why}"),
            format!("present mark n1 on host host-a: {why}"),
            format!("present mark n1 on host host-b: {why}"),
            "endpoint c-e1 of host host-a: it is gone from this host".to_owned(),
            format!("endpoint c-e2 of host host-b: {why}"),
        ]
    );
    // A host that lives takes its own back, and one that is away keeps what is of a network that is there.
    assert_eq!(collected(|records, _| drop(records.remove("v1/nodes/b"))), [""; 0]);
    // Another cluster's store is not ours to judge, nor is one that was wiped.
    for meta in [json!({ "cluster": "x", "created_at": OLD }), json!(null)] {
        let found = collected(|records, own| {
            records.insert("v1/meta".into(), meta);
            records.remove("v1/networks/n1");
            own.networks.clear();
        });
        assert_eq!(found, [""; 0]);
    }
}

#[test]
fn claims_of_nobody_are_collected_once_they_are_old() {
    let unused = "address 10.9.0.2: no endpoint of this host uses it in 10.9.0.0/24";
    let forget = |records: &mut Records, own: &mut Own| {
        own.endpoints.clear();
        records.remove("v1/endpoints/n1/e1");
    };
    assert_eq!(collected(forget), [unused]);
    let fresh = collected(|records, own| {
        forget(records, own);
        let key = keys::address(&"10.9.0.0/24".parse().unwrap(), [10, 9, 0, 2].into());
        records.insert(key, json!({ "node": "a", "kind": "container", "since_ms": NOW * 1000 }));
    });
    assert_eq!(fresh, [""; 0]);
    let queued = collected(|records, own| {
        forget(records, own);
        own.releases.insert(("10.9.0.0/24".parse().unwrap(), [10, 9, 0, 2].into()));
    });
    assert_eq!(queued, [""; 0]);
    // A subnet whose network was never created: at once where it is ours, after an hour where its host is away.
    for (host, away, since, count) in
        [("a", false, OLD, 1), ("a", false, NOW, 0), ("b", false, OLD, 0), ("b", true, OLD, 1)]
    {
        let found = collected(|records, own| {
            forget(records, own);
            own.networks.clear();
            records.retain(|key, _| !key.contains("n1") && !key.contains("blue") && !key.contains("4096"));
            records.insert("v1/pools/10.9.0.0_24".into(), pool(None, host, since));
            if away {
                records.remove("v1/nodes/b");
            }
        });
        assert_eq!(found.len(), count, "{host} {away} {since}: {found:?}");
    }
}

#[test]
fn the_copy_is_compared_where_it_is_kept() {
    let listing = listing(&records());
    let mut copy = Snapshot {
        meta: listing.meta.clone(),
        nodes: listing.nodes.clone().into(),
        networks: listing.networks.clone().into(),
        hosts: listing.hosts.clone().into(),
        dead: listing.dead.clone(),
        removed: listing.removed.clone(),
        ..Snapshot::default()
    };
    let followed = BTreeSet::from([network().id]);
    assert!(compare_snapshot(&listing, &copy, &BTreeSet::new()).is_empty());
    assert_eq!(compare_snapshot(&listing, &copy, &followed).len(), 2);
    let endpoints = listing.endpoints.iter().map(|((_, id), endpoint)| (id.clone(), endpoint.clone().into()));
    copy.endpoints.insert(network().id, endpoints.collect());
    assert!(compare_snapshot(&listing, &copy, &followed).is_empty());
    copy.dead.clear();
    copy.removed.clear();
    let objects: Vec<_> =
        compare_snapshot(&listing, &copy, &followed).into_iter().map(|row| row.object).collect();
    assert_eq!(objects, ["death of host host-c", "removal of network red"]);
    (copy.dead, copy.removed) = (listing.dead.clone(), listing.removed.clone());
    copy.networks.clear();
    let rows = compare_snapshot(&listing, &copy, &followed);
    assert_eq!((rows[0].object.as_str(), rows[0].found.as_str()), ("network blue", "missing"));
}

#[test]
fn the_engine_is_asked_what_it_has() {
    let engine = EngineView {
        networks: BTreeMap::from([("d1".to_owned(), "blue".to_owned())]),
        endpoints: BTreeMap::from([("e1".to_owned(), "c1".to_owned()), ("ep".to_owned(), "far".to_owned())]),
        elsewhere: ["ep".to_owned()].into(),
    };
    assert!(compare_engine(&engine, &own()).is_empty());
    let objects = |rows: Vec<DifferenceRow>| rows.into_iter().map(|row| row.object).collect::<Vec<_>>();
    let mut nothing = own();
    nothing.networks.clear();
    nothing.endpoints.clear();
    let unknown = objects(compare_engine(&engine, &nothing));
    assert_eq!(unknown, ["Docker network blue (d1)", "container c1, endpoint e1"]);
    let mut dead = own();
    dead.endpoints.get_mut(&EndpointId::new("e1").unwrap()).unwrap().alive = false;
    let gone = objects(compare_engine(&EngineView::default(), &dead));
    assert_eq!(gone, ["Docker network blue (d1)", "endpoint e1 (c-e1)"]);
}
