//! No request makes the driver panic, and every answer is a JSON object.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod host;
}

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use rs_overlay::config::AddrPool;
use serde_json::Value;
use support::host::{Host, embedded};

const CASES: usize = 4000;

const KINDS: [&str; 2] = ["NetworkDriver", "IpamDriver"];

const METHODS: [&str; 22] = [
    "GetCapabilities",
    "GetDefaultAddressSpaces",
    "GwAllocCheck",
    "CreateNetwork",
    "AllocateNetwork",
    "DeleteNetwork",
    "FreeNetwork",
    "CreateEndpoint",
    "DeleteEndpoint",
    "EndpointOperInfo",
    "Join",
    "Leave",
    "ProgramExternalConnectivity",
    "RevokeExternalConnectivity",
    "DiscoverNew",
    "DiscoverDelete",
    "RequestPool",
    "ReleasePool",
    "RequestAddress",
    "ReleaseAddress",
    "CreateNetwork",
    "RequestAddress",
];

/// Keys of the protocol, so that bodies get past the first check.
const KEYS: [&str; 18] = [
    "NetworkID",
    "EndpointID",
    "Options",
    "IPv4Data",
    "IPv6Data",
    "Interface",
    "Address",
    "AddressIPv6",
    "MacAddress",
    "SandboxKey",
    "AddressSpace",
    "Pool",
    "SubPool",
    "PoolID",
    "Gateway",
    "AuxAddresses",
    "V6",
    "com.docker.network.generic",
];

/// Texts that mean something, and some at its edges.
const TEXTS: [&str; 26] = [
    "",
    "a",
    "..",
    "é",
    "rs-overlay-local",
    "rs-overlay-global",
    "10.9.0.0/24",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "10.9.0.0/31",
    "10.9.0.8/29",
    "::/0",
    "::ffff:10.9.0.0/120",
    "fd00::/64",
    "fd00::/127",
    "10.9.0.2",
    "10.9.0.2/24",
    "255.255.255.255",
    "fd00::2",
    "::ffff:10.9.0.2",
    "02:42:0a:09:00:02",
    "rs-overlay/local/10.9.0.0/24",
    "rs-overlay/local/0.0.0.0/0",
    "rs-overlay/again/fd00::/64",
    "rs-overlay/global/::/0",
    "rs-overlay/local/255.255.255.255/32",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(TEXTS.to_vec()).prop_map(str::to_owned),
        1 => ".{0,40}",
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => text().prop_map(Value::String),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::from),
    ];
    let key = prop_oneof![8 => select(KEYS.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"];
    leaf.prop_recursive(4, 32, 8, move |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::Array),
            3 => btree_map(key.clone(), inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// A request that has the right shape, whatever its texts are.
fn shaped() -> impl Strategy<Value = Value> {
    let data = || {
        vec((text(), text(), text(), text()), 0..3).prop_map(|all| -> Value {
            let one = |(space, pool, gateway, aux)| {
                serde_json::json!({
                    "AddressSpace": space, "Pool": pool, "Gateway": gateway, "AuxAddresses": {"a": aux},
                })
            };
            all.into_iter().map(one).collect()
        })
    };
    (vec(text(), 9), data(), data(), any::<bool>()).prop_map(|(texts, v4, v6, flag)| {
        serde_json::json!({
            "NetworkID": if flag { "a" } else { &texts[0] },
            "EndpointID": if flag { "b" } else { &texts[1] },
            "SandboxKey": texts[2],
            "AddressSpace": texts[3],
            "Pool": texts[4],
            "SubPool": texts[5],
            "PoolID": texts[6],
            "Address": texts[7],
            "V6": flag,
            "IPv4Data": v4,
            "IPv6Data": v6,
            "Interface": {"Address": texts[7], "AddressIPv6": texts[8], "MacAddress": ""},
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_makes_the_driver_panic() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let host = Host::start(store, dir.path(), 1, "local", vec![AddrPool::standard()]).await;
    let mut runner = TestRunner::default();
    let body = prop_oneof![json(), shaped(), shaped()];
    let question = (select(KINDS.to_vec()), select(METHODS.to_vec()), body);
    let (mut done, mut refused) = (0, 0);
    for _ in 0..CASES {
        let (kind, method, body) = question.new_tree(&mut runner).unwrap().current();
        // A join waits for the kernel as long as a call may; one that nobody can answer is not the point.
        if method == "Join" && !host.local.data().endpoints.is_empty() {
            continue;
        }
        let answer = host.call(&format!("{kind}.{method}"), &body).await;
        assert!(answer.body.is_object(), "{kind}.{method} {body}: {answer:?}");
        if answer.status == 200 {
            done += 1;
        } else {
            refused += 1;
            answer.failure(&format!("{kind}.{method} {body}"));
        }
    }
    assert!(done > CASES / 20 && refused > CASES / 20, "{done} done, {refused} refused: no mixture");
    host.call("Plugin.Activate", &Value::Null).await.success("afterwards");
}
