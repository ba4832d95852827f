//! Store servers and their faults.

use netns_harness::{EngineVersion, Host, Lab, StoreKind, wait_until};

use crate::support::{LONG, can_run};

/// One server: how to write, read and find a value with curl.
struct Server {
    kind: StoreKind,
    write: &'static [&'static str],
    read: &'static [&'static str],
    value: &'static str,
}

/// Keys and values of etcd's JSON gateway are base64: a2V5 is "key", dmFsdWU= is "value".
const ETCD: Server = Server {
    kind: StoreKind::Etcd,
    write: &["-d", r#"{"key":"a2V5","value":"dmFsdWU="}"#, "http://192.0.2.254:2379/v3/kv/put"],
    read: &["-d", r#"{"key":"a2V5"}"#, "http://192.0.2.254:2379/v3/kv/range"],
    value: "dmFsdWU=",
};

const CONSUL: Server = Server {
    kind: StoreKind::Consul,
    write: &["-X", "PUT", "-d", "value", "http://192.0.2.254:8500/v1/kv/key"],
    read: &["http://192.0.2.254:8500/v1/kv/key?raw"],
    value: "value",
};

fn curl(host: &Host, limit: &str, args: &[&str]) -> anyhow::Result<String> {
    host.exec(&[&["curl", "-sS", "-m", limit], args].concat())
}

fn goes_through_faults(server: &Server) {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24]).store(server.kind).build().unwrap();
    let (host, store) = (lab.host(1), lab.store());
    assert!(store.url().starts_with(server.kind.as_str()) && store.running() && !store.log().is_empty());
    curl(host, "60", server.write).unwrap();

    store.pause().unwrap();
    assert!(store.running() && curl(host, "1", server.read).is_err(), "a paused server answers");
    store.resume().unwrap();
    assert!(curl(host, "60", server.read).unwrap().contains(server.value));

    store.kill().unwrap();
    let refused = curl(host, "60", server.read).unwrap_err().to_string();
    assert!(!store.running() && refused.contains("Failed to connect"), "{refused}");
    store.start().unwrap();
    wait_until("the value after a restart", LONG, || {
        curl(host, "5", server.read).map(|v| v.contains(server.value))
    })
    .unwrap();
    assert!(store.start().is_err(), "a server that runs is started again");

    store.wipe().unwrap();
    wait_until("an empty store", LONG, || curl(host, "5", server.read).map(|v| !v.contains(server.value)))
        .unwrap();
    store.pause().unwrap();
}

#[test]
fn etcd_goes_through_faults() {
    goes_through_faults(&ETCD);
}

#[test]
fn consul_goes_through_faults() {
    goes_through_faults(&CONSUL);
}

#[test]
fn a_lab_without_a_server_says_so() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_5]).build().unwrap();
    assert_eq!(lab.store_url(), "");
    assert!(lab.store().kill().unwrap_err().to_string().contains("no server"));
    lab.store().wipe().unwrap();
}
