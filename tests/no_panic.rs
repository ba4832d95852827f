//! No input makes a parser panic: keys and values of the store, what engines send, what people type.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{collections::BTreeMap, fmt::Debug};

use proptest::{collection, option, prelude::*, sample::select};
use rs_overlay::{
    driver::{AddressRequest, NetworkOptions, NewEndpoint, NewSubnet, PoolRequest},
    ipam::PoolId,
    local,
    model::{
        AddressClaim, Endpoint, EndpointId, MacAddr, Meta, Network, NetworkClaim, NetworkId, Node, NodeId,
        Pool, Snapshot, Vni,
    },
    store::{keys, options::StoreOptions, record, url::StoreUrl},
    wire::{ipam, network},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// Fragments of what the parsers look for, so that random texts get past their first steps.
const PIECES: [&str; 24] = [
    "10.9.0.2",
    "/24",
    "/0",
    "/129",
    "fd00::",
    "::ffff:10.9.0.2",
    "rs-overlay/",
    "local",
    "again/",
    ":",
    "-",
    "_",
    "02:42:0a:09:00:02",
    "ff",
    "0",
    "16777216",
    "99999999999999999999",
    "%41",
    "v1/addresses/",
    "=",
    "@",
    "etcd://",
    "[::1]",
    "\u{0}é\u{1F980}",
];

fn text() -> impl Strategy<Value = String> {
    let pieces = collection::vec(select(PIECES.to_vec()), 0..6).prop_map(|pieces| pieces.concat());
    prop_oneof![any::<String>(), pieces]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::btree_map(text(), inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// Objects whose keys are among `keys`.
fn object(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    collection::vec((select(keys), value()), 0..8)
        .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A good record in which up to three fields are replaced or left out.
fn damaged(good: Value) -> impl Strategy<Value = String> {
    let mut keys: Vec<_> = good.as_object().unwrap().keys().cloned().collect();
    keys.push("format".to_owned());
    collection::vec((select(keys), option::of(value())), 0..4).prop_map(move |changes| {
        let mut fields: Map<_, _> = good.as_object().unwrap().clone();
        fields.insert("format".to_owned(), json!(1));
        for (key, value) in changes {
            match value {
                Some(value) => fields.insert(key, value),
                None => fields.remove(&key),
            };
        }
        Value::Object(fields).to_string()
    })
}

/// Reads a text as a record; one that is read survives being written and read again.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &str) {
    if let Ok(record) = record::decode::<T>("v1/some/key", text) {
        let again = record::decode::<T>("v1/some/key", &record::encode(&record)).unwrap();
        assert_eq!(again, record);
    }
}

fn every_record(text: &str) {
    survives::<Meta>(text);
    survives::<Node>(text);
    survives::<Network>(text);
    survives::<NetworkClaim>(text);
    survives::<Pool>(text);
    survives::<AddressClaim>(text);
    survives::<Endpoint>(text);
}

fn good_records() -> Vec<Value> {
    vec![
        json!({"cluster": "c", "created_at": 1}),
        json!({"id": "a", "hostname": "h", "vtep": "192.0.2.1", "vxlan_port": 4789, "underlay_mtu": 1500,
            "daemon_version": "0.1.0", "scope": "local", "boot_id": "b", "since": 1,
            "routes": [{"cidr": "10.0.0.0/8", "dev": "eth0"}]}),
        json!({"id": "n", "name": "blue", "subnets": [{"cidr": "10.9.0.0/24", "gateway": "10.9.0.1",
            "aux": {"x": "10.9.0.9"}}], "vni": 4096, "mtu": 1400, "ipam": "ours", "options": {"a": "b"},
            "created_by": "a", "created_at": 1}),
        json!({"network": "n"}),
        json!({"cidr": "10.9.0.0/24", "space": "local", "network": "n", "node": "a", "since": 1}),
        json!({"node": "a", "kind": "engine", "endpoint": "e", "generation": 1, "since_ms": 5}),
        json!({"id": "e", "network": "n", "node": "a", "vtep": "192.0.2.1", "mac": "02:42:0a:09:00:02",
            "addresses": ["10.9.0.2", "fd00::2"], "aliases": ["x"], "created_at": 1}),
    ]
}

const CALL_KEYS: &[&str] = &[
    "NetworkID",
    "EndpointID",
    "Options",
    "IPv4Data",
    "IPv6Data",
    "Pool",
    "Gateway",
    "AuxAddresses",
    "AddressSpace",
    "Interface",
    "Address",
    "AddressIPv6",
    "MacAddress",
    "SandboxKey",
    "PoolID",
    "SubPool",
    "V6",
    "DiscoveryType",
    "DiscoveryData",
];

#[test]
fn the_good_records_are_good() {
    fn good<T: DeserializeOwned>(record: &Value) {
        let mut record = record.clone();
        record["format"] = json!(1);
        record::decode::<T>("k", &record.to_string()).unwrap();
    }
    let records = good_records();
    good::<Meta>(&records[0]);
    good::<Node>(&records[1]);
    good::<Network>(&records[2]);
    good::<NetworkClaim>(&records[3]);
    good::<Pool>(&records[4]);
    good::<AddressClaim>(&records[5]);
    good::<Endpoint>(&records[6]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_text_as_a_record(text in text()) {
        every_record(&text);
    }

    #[test]
    fn any_json_as_a_record(value in value()) {
        every_record(&value.to_string());
    }

    #[test]
    fn damaged_records(text in select(good_records()).prop_flat_map(damaged)) {
        every_record(&text);
    }

    #[test]
    fn any_call_of_an_engine(value in prop_oneof![value(), object(CALL_KEYS)]) {
        let _ = serde_json::from_value::<network::GwAllocCheck>(value.clone());
        let _ = serde_json::from_value::<network::CreateNetwork>(value.clone());
        let _ = serde_json::from_value::<network::NetworkRef>(value.clone());
        let _ = serde_json::from_value::<network::EndpointRef>(value.clone());
        let _ = serde_json::from_value::<network::CreateEndpoint>(value.clone());
        let _ = serde_json::from_value::<network::Join>(value.clone());
        let _ = serde_json::from_value::<network::Discover>(value.clone());
        let _ = serde_json::from_value::<ipam::RequestPool>(value.clone());
        let _ = serde_json::from_value::<ipam::ReleasePool>(value.clone());
        let _ = serde_json::from_value::<ipam::RequestAddress>(value.clone());
        let _ = serde_json::from_value::<ipam::ReleaseAddress>(value);
    }

    #[test]
    fn any_text_of_a_call(a in text(), b in text(), c in text(), flag: bool) {
        let (network, endpoint) = (NetworkId::new("n").unwrap(), EndpointId::new("e").unwrap());
        let _ = NewEndpoint::parse(network, endpoint, &a, &b, &c);
        let _ = AddressRequest::parse(&a, &b, flag, Some(c.clone()));
        let _ = AddressRequest::parse("rs-overlay/local/10.9.0.0/24", &b, flag, None);
        let options = BTreeMap::from([(b.clone(), c.clone())]);
        for space in [&a, "rs-overlay-local", "rs-overlay-global"] {
            let _ = PoolRequest::parse(space, &b, &c, options.clone(), flag);
        }
        let _ = NewSubnet::parse(&a, &b, &c, &options);
        let known = rs_overlay::driver::KNOWN_OPTIONS;
        let _ = NetworkOptions::parse(&known.iter().map(|key| ((*key).to_owned(), a.clone())).collect());
        let _ = NetworkOptions::parse(&options);
    }

    #[test]
    fn any_text_as_a_name_of_something(text in text()) {
        // What is taken is written as it would be read again.
        if let Ok(id) = text.parse::<PoolId>() {
            prop_assert_eq!(id.to_string().parse::<PoolId>(), Ok(id));
        }
        if let Ok(mac) = text.parse::<MacAddr>() {
            prop_assert_eq!(mac.to_string().parse::<MacAddr>(), Ok(mac));
            prop_assert_eq!(MacAddr::new(mac.octets()), Ok(mac));
        }
        if let Ok(vni) = text.parse::<Vni>() {
            prop_assert_eq!(vni.to_string().parse::<Vni>(), Ok(vni));
        }
        prop_assert!(NodeId::new(text.as_str()).is_ok_and(|id| id.as_str() == text) == NetworkId::new(text.as_str()).is_ok());
        let _ = keys::address_of(&text);
        let key = keys::name(&text);
        prop_assert!(key.is_ascii() && key.matches('/').count() == 2, "{key}");
        let _ = text.parse::<StoreUrl>();
        let _ = StoreOptions::parse([text.as_str()]);
        let _ = StoreOptions::parse(&[format!("kv.path={text}"), format!("kv.username={text}")]);
    }

    #[test]
    fn every_address_gives_a_mac_and_a_key_that_gives_it_back(ip: std::net::IpAddr, number: u32, bytes: [u8; 6]) {
        let mac = MacAddr::from_ip(ip);
        prop_assert_eq!(MacAddr::new(mac.octets()), Ok(mac));
        let cidr = ipnet::IpNet::new(ip, 20).unwrap().trunc();
        prop_assert_eq!(keys::address_of(&keys::address(&cidr, ip)), Some(ip));
        prop_assert_eq!(Vni::new(number).is_ok(), (1..=0x00ff_ffff).contains(&number));
        let _ = MacAddr::new(bytes);
    }

    #[test]
    fn damaged_files_of_the_last_run(bytes: Vec<u8>, value in value()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("snapshot.json");
        for content in [bytes, value.to_string().into_bytes()] {
            std::fs::write(&file, &content).unwrap();
            if let Some(snapshot) = local::read_snapshot(&file).unwrap() {
                local::write_snapshot(&file, &snapshot).unwrap();
                prop_assert_eq!(local::read_snapshot(&file).unwrap(), Some::<Snapshot>(snapshot));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn damaged_state_of_a_host(bytes: Vec<u8>, value in value()) {
        let dir = tempfile::tempdir().unwrap();
        drop(local::Local::open(dir.path(), 1).unwrap());
        for (name, content) in [("a", bytes), ("b", value.to_string().into_bytes())] {
            for part in ["endpoints", "networks", "releases", "departures"] {
                std::fs::write(dir.path().join(part).join(format!("{name}.json")), &content).unwrap();
            }
            std::fs::write(dir.path().join("cluster.json"), &content).unwrap();
            std::fs::write(dir.path().join("node.json"), &content).unwrap();
        }
        let local = local::Local::open(dir.path(), 1).unwrap();
        prop_assert!(local.data().endpoints.is_empty());
    }
}
