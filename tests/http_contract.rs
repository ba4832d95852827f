//! What an engine may send over the socket, well-formed or not, and what it must get back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod docker;
    pub(crate) mod host;
    pub(crate) mod raw;
}

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;
use rs_overlay::{
    config::AddrPool,
    http::{ListenError, bind},
};
use serde_json::{Value, json};
use support::{
    docker::{endpoint, engine_network, id},
    host::{Host, embedded},
    raw::{Connection, serve},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// All calls that have a body.
const WITH_BODY: [&str; 18] = [
    "NetworkDriver.GwAllocCheck",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.AllocateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.FreeNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
];

struct Lab {
    host: Host,
    socket: PathBuf,
    server: JoinHandle<()>,
    dir: TempDir,
}

impl Lab {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = embedded(dir.path()).await;
        let host = Host::start(store, dir.path(), 1, "local", vec![AddrPool::standard()]).await;
        let socket = dir.path().join("plugins").join("rs-overlay.sock");
        let server = serve(&host, &socket);
        Self { host, socket, server, dir }
    }

    /// A network whose subnet the engine's IPAM chose.
    async fn network(&self) -> String {
        self.host.ok("NetworkDriver.CreateNetwork", &network(1)).await;
        id(1)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn network(number: usize) -> Value {
    engine_network(number, &format!("10.{number}.0.0/24"), &format!("10.{number}.0.1/24"), &json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_on_one_connection_and_on_many() {
    let lab = Lab::start().await;
    let one = async |_| {
        let mut connection = Connection::open(&lab.socket).await;
        for _ in 0..5 {
            let got = connection.call("/Plugin.Activate", b"").await.success("activate");
            assert_eq!(got, json!({"Implements": ["NetworkDriver", "IpamDriver"]}));
            connection.call("/IpamDriver.GetCapabilities", b"").await.success("capabilities");
            let body = b"{\"NetworkID\":\"x\",\"EndpointID\":\"y\",\"Later\":{\"a\":[1]}}\n";
            connection.call("/NetworkDriver.Leave", body).await.success("leave");
            connection.call("/NetworkDriver.Nonsense", b"{}").await.failure("unknown call");
        }
    };
    join_all((0..20).map(one)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_request_is_refused_and_changes_nothing() {
    let lab = Lab::start().await;
    lab.network().await;
    let before = lab.host.put_by_calls().await;
    let mut connection = Connection::open(&lab.socket).await;
    for method in WITH_BODY {
        for body in ["", "\n", "{", "{\"NetworkID\":", "[]x", "nonsense", "\"text\"", "7", "\u{0}"] {
            let answer = connection.call(&format!("/{method}"), body.as_bytes()).await;
            let text = answer.failure(&format!("{method} {body:?}"));
            assert!(text.contains(method), "{text}");
        }
    }
    for (method, body) in [
        ("NetworkDriver.CreateNetwork", json!({"NetworkID": 7})),
        ("NetworkDriver.CreateNetwork", json!({"NetworkID": id(9), "IPv4Data": {}})),
        ("NetworkDriver.CreateNetwork", json!({"NetworkID": id(9), "IPv4Data": [{"Pool": "no"}]})),
        ("NetworkDriver.CreateNetwork", json!({"NetworkID": id(9), "Options": null, "IPv4Data": null})),
        ("NetworkDriver.CreateNetwork", json!({"NetworkID": "../x", "IPv4Data": []})),
        ("NetworkDriver.CreateEndpoint", json!({"NetworkID": id(1), "EndpointID": ""})),
        ("NetworkDriver.CreateEndpoint", json!({"NetworkID": id(1), "EndpointID": id(5)})),
        ("NetworkDriver.Join", json!({"NetworkID": id(1), "EndpointID": "../x"})),
        ("NetworkDriver.Join", json!({"NetworkID": id(1), "EndpointID": id(5)})),
        ("NetworkDriver.DeleteEndpoint", json!({"EndpointID": "a/b"})),
        ("NetworkDriver.DeleteNetwork", json!({"NetworkID": ""})),
        ("NetworkDriver.DeleteNetwork", json!({"NetworkID": "x".repeat(200)})),
        ("IpamDriver.RequestPool", json!({"AddressSpace": "other"})),
        ("IpamDriver.RequestPool", json!({"AddressSpace": "rs-overlay-local", "Pool": "10.0.0.0/33"})),
        ("IpamDriver.RequestPool", json!({"AddressSpace": "rs-overlay-local", "V6": "yes"})),
        ("IpamDriver.RequestAddress", json!({"PoolID": "P/10.0.0.0/24", "Options": null})),
        ("IpamDriver.RequestAddress", json!({"PoolID": "rs-overlay/local/10.77.0.0/24"})),
    ] {
        let answer = connection.call(&format!("/{method}"), body.to_string().as_bytes()).await;
        answer.failure(&format!("{method} {body}"));
    }
    assert_eq!(lab.host.put_by_calls().await, before);
    assert!(lab.host.local.data().endpoints.is_empty());
    assert_eq!(lab.host.local.data().bindings.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_paths_methods_and_sizes_get_json_too() {
    let lab = Lab::start().await;
    for path in ["/", "/nothing", "/a/b", "/NetworkDriver.", "/%ff", "/rs-overlay/v1/nothing"] {
        let answer = Connection::open(&lab.socket).await.call(path, b"{}").await;
        assert_eq!(answer.status, 404, "{path}");
        answer.failure(path);
    }
    for (verb, path) in
        [("GET", "/NetworkDriver.Join"), ("PUT", "/Plugin.Activate"), ("POST", "/rs-overlay/v1/status")]
    {
        let mut connection = Connection::open(&lab.socket).await;
        connection.write_as(verb, path, b"").await;
        let answer = connection.read().await;
        assert_eq!(answer.status, 405, "{verb} {path}");
        answer.failure(path);
    }
    let mut connection = Connection::open(&lab.socket).await;
    let large = json!({"NetworkID": "x", "Options": {"pad": "x".repeat(5 << 20)}}).to_string();
    let answer = connection.call("/NetworkDriver.CreateNetwork", large.as_bytes()).await;
    assert_eq!(answer.status, 413);
    answer.failure("5 MB");
    Connection::open(&lab.socket).await.call("/Plugin.Activate", b"").await.success("afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unknown_can_be_given_back() {
    let lab = Lab::start().await;
    let both = json!({"NetworkID": id(7), "EndpointID": id(8), "Options": null});
    for method in ["Leave", "DeleteEndpoint", "DeleteNetwork", "FreeNetwork", "RevokeExternalConnectivity"] {
        let got = lab.host.ok(&format!("NetworkDriver.{method}"), &both).await;
        assert_eq!(got, json!({}));
    }
    for pool in ["P/10.0.0.0/24", "rs-overlay/local/10.77.0.0/24", ""] {
        let address = json!({"PoolID": pool, "Address": "10.77.0.2"});
        assert_eq!(lab.host.ok("IpamDriver.ReleaseAddress", &address).await, json!({}));
        assert_eq!(lab.host.ok("IpamDriver.ReleasePool", &json!({"PoolID": pool})).await, json!({}));
    }
    let text = endpoint(&lab.host, &id(7), 8, "10.7.0.2/24").await.failure("no such network");
    assert!(text.contains(&id(7)[..12]), "{text}");
    let text = lab.host.refused("NetworkDriver.Join", &both).await;
    assert!(text.contains(&id(8)[..12]), "{text}");
    lab.host.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_repeats_itself_gets_the_same_answers() {
    let lab = Lab::start().await;
    let host = &lab.host;
    let swarm_id = "k5cwhbyf5dqtg5ilc3oy1xtlm";
    let mut short = network(2);
    short["NetworkID"] = swarm_id.into();
    for body in [network(1), short] {
        let network = body["NetworkID"].as_str().unwrap();
        let octet = if network == swarm_id { 2 } else { 1 };
        let number = 10 + octet;
        host.ok("NetworkDriver.CreateNetwork", &body).await;
        host.ok("NetworkDriver.CreateNetwork", &body).await;
        let address = format!("10.{octet}.0.2/24");
        let first = endpoint(host, network, number, &address).await.success("once");
        let again = endpoint(host, network, number, &address).await.success("again");
        assert_eq!(first, json!({"Interface": {"MacAddress": format!("02:42:0a:0{octet}:00:02")}}));
        assert_eq!(first, again);
        let join =
            json!({"NetworkID": network, "EndpointID": id(number), "SandboxKey": "/x", "Options": null});
        let first = host.ok("NetworkDriver.Join", &join).await;
        assert_eq!(first, host.ok("NetworkDriver.Join", &join).await);
        for method in ["Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint", "DeleteNetwork", "DeleteNetwork"]
        {
            host.ok(&format!("NetworkDriver.{method}"), &join).await;
        }
    }
    host.until_clean().await;
    // The same id with another subnet is another network.
    host.ok("NetworkDriver.CreateNetwork", &network(1)).await;
    let mut other = network(3);
    other["NetworkID"] = id(1).into();
    let text = host.refused("NetworkDriver.CreateNetwork", &other).await;
    assert!(text.contains("other subnets"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_does_not_cut_a_call() {
    let lab = Lab::start().await;
    for number in 1..=20 {
        let mut connection = Connection::open(&lab.socket).await;
        connection.write("/NetworkDriver.CreateNetwork", network(number).to_string().as_bytes()).await;
        // Gone at once for some, in the middle of the work for others.
        tokio::time::sleep(std::time::Duration::from_millis(number as u64 % 5)).await;
        drop(connection);
    }
    lab.host
        .until("every call ended", async || {
            let calls = lab.host.calls.len();
            (calls > 0).then(|| format!("{calls} calls"))
        })
        .await;
    // A call that was never read is nothing; one that began has all of its parts.
    let keys: Vec<String> = lab.host.put_by_calls().await.into_iter().map(|entry| entry.key).collect();
    let count = |part: &str| keys.iter().filter(|key| key.starts_with(part)).count();
    let bound = lab.host.local.data().bindings.len();
    assert!(bound > 0, "no call was read at all");
    for part in ["v1/networks/", "v1/vnis/", "v1/pools/", "v1/addresses/"] {
        assert_eq!(count(part), bound, "{part}: {keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_ours_alone() {
    let lab = Lab::start().await;
    let mode = std::fs::metadata(&lab.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = bind(&lab.socket).err();
    assert!(matches!(error, Some(ListenError::Busy { .. })), "{error:?}");
    Connection::open(&lab.socket).await.call("/Plugin.Activate", b"").await.success("still there");

    // What a dead daemon left is replaced.
    let stale = lab.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let server = serve(&lab.host, &stale);
    Connection::open(&stale).await.call("/Plugin.Activate", b"").await.success("replaced");
    server.abort();

    // A file is not.
    let file = lab.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = bind(&file).err();
    assert!(matches!(&error, Some(ListenError::NotASocket(path)) if path == Path::new(&file)), "{error:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
