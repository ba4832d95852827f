//! The engine's API against a real dockerd: 20.10.24, or the version in `RS_OVERLAY_TEST_ENGINE`. Needs root.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use netns_harness::{EngineVersion, Lab, Signal, StoreKind};
use rs_overlay::engine::{
    ContainerAction, Deadlines, DockerEngine, EngineApi, EngineError, EngineEvent, EngineEvents, IpamConfig,
    NetworkAction, NetworkSpec, names::names_in,
};

/// One host with an engine that listens at a place of ours as well.
struct Engine {
    lab: Lab,
    dir: tempfile::TempDir,
}

impl Engine {
    fn start() -> Self {
        let version = std::env::var("RS_OVERLAY_TEST_ENGINE").unwrap_or_else(|_| "20.10.24".to_owned());
        let version: EngineVersion = version.parse().unwrap();
        let dir = tempfile::Builder::new().prefix("engine-api-").tempdir_in("/var/tmp").unwrap();
        let address = format!("unix://{}", dir.path().join("docker.sock").display());
        let lab = Lab::builder()
            .hosts(&[version])
            .store(StoreKind::None)
            .engine_args(&["-H", "unix:///run/docker.sock", "-H", &address])
            .build()
            .unwrap();
        Self { lab, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.lab.host(1).docker(arguments).unwrap()
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn blue() -> NetworkSpec {
    NetworkSpec {
        name: "blue".into(),
        driver: "bridge".into(),
        internal: true,
        attachable: true,
        without_ipv4: false,
        ipv6: false,
        options: map(&[("com.docker.network.driver.mtu", "1400")]),
        labels: map(&[("team", "net")]),
        ipam_driver: String::new(),
        ipam_options: map(&[("colour", "red")]),
        ipam: vec![IpamConfig {
            subnet: Some("10.9.0.0/24".parse().unwrap()),
            gateway: Some("10.9.0.1".parse().unwrap()),
            ip_range: Some("10.9.0.128/25".parse().unwrap()),
            aux: BTreeMap::from([("router".into(), "10.9.0.9".parse().unwrap())]),
        }],
    }
}

/// Generous, for a busy machine.
fn api(socket: &Path) -> DockerEngine {
    let minute = Duration::from_mins(1);
    DockerEngine::new(socket, Deadlines { call: minute, driver: minute })
}

/// Reads on until `wanted` comes, and answers what came before it.
async fn until(
    events: &mut EngineEvents,
    what: &str,
    wanted: impl Fn(&EngineEvent) -> bool,
) -> Vec<EngineEvent> {
    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(90), events.next()).await {
            Ok(Some(event)) if wanted(&event) => return seen,
            Ok(Some(event)) => seen.push(event),
            Ok(None) => panic!("the events ended before {what}; seen: {seen:?}"),
            Err(elapsed) => panic!("{what}: {elapsed}; seen: {seen:?}"),
        }
    }
}

#[tokio::test]
async fn networks_and_containers_of_a_real_engine() {
    let engine = Engine::start();
    let api = api(&engine.socket());

    let info = api.version().await.unwrap();
    assert_eq!(info.version, engine.docker(&["version", "-f", "{{.Server.Version}}"]));
    let newest = engine.docker(&["version", "-f", "{{.Server.APIVersion}}"]);
    let minor = |version: &str| version.split_once('.').unwrap().1.parse::<u16>().unwrap();
    assert_eq!(minor(&info.api_version), minor(&newest).min(44));

    let id = api.create_network(&blue()).await.unwrap();
    let network = api.network("blue").await.unwrap().unwrap();
    assert_eq!(network.id, id);
    assert_eq!(api.network(&id).await.unwrap(), Some(network.clone()));
    assert_eq!(network.scope, "local");
    assert_eq!(network.endpoints, BTreeMap::new());
    let read_back = NetworkSpec {
        name: network.name,
        driver: network.driver,
        internal: network.internal,
        attachable: network.attachable,
        without_ipv4: false,
        ipv6: network.ipv6,
        options: network.options,
        labels: network.labels,
        ipam_driver: network.ipam_driver,
        ipam_options: network.ipam_options,
        ipam: network.ipam,
    };
    assert_eq!(read_back, NetworkSpec { ipam_driver: "default".into(), ..blue() });

    // The beginning of an id is not a name, and neither is what a path could mistake for another call.
    for absent in [&id[..12], "nothing", "", "..", "../containers/json", "a/b", "blue?x=y"] {
        assert_eq!(api.network(absent).await.unwrap(), None, "{absent:?}");
    }
    assert_eq!(api.container("nothing").await.unwrap(), None);

    let again = NetworkSpec { ipam: Vec::new(), ..blue() };
    assert_eq!(api.create_network(&again).await, Err(EngineError::NameTaken { name: "blue".into() }));
    let overlap = NetworkSpec { name: "red".into(), ..blue() };
    let error = api.create_network(&overlap).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { detail, .. } if detail.contains("overlaps")), "{error}");
    let error = api.create_network(&NetworkSpec { driver: "nobody".into(), ..again }).await.unwrap_err();
    assert!(matches!(error, EngineError::NameTaken { .. } | EngineError::NotFound { .. }), "{error:?}");

    let web = engine.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "--hostname",
        "front",
        "--network",
        "blue",
        "--network-alias",
        "www",
        "--network-alias",
        "api",
        "busybox",
        "sleep",
        "1000",
    ]);
    let plain =
        engine.docker(&["run", "-d", "--name", "plain", "--network", "blue", "busybox", "sleep", "1000"]);
    let mut both = vec![web.clone(), plain.clone()];
    both.sort();
    assert_eq!(api.containers().await.unwrap(), both);

    let container = api.container(&web).await.unwrap().unwrap();
    assert_eq!((container.id.as_str(), container.name.as_str()), (web.as_str(), "web"));
    assert_eq!(container.hostname, "front");
    assert!(container.running);
    let sandbox = container.sandbox_key.clone().unwrap();
    assert_eq!(sandbox, engine.docker(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web"]));
    let endpoint = container.networks[&id].endpoint.clone().unwrap();
    let names = names_in(&container, &id).unwrap();
    assert_eq!(
        (names.name.as_str(), names.aliases),
        ("web", vec!["www".into(), "api".into(), "front".into()])
    );
    let unnamed = api.container("plain").await.unwrap().unwrap();
    assert_eq!(names_in(&unnamed, &id).unwrap().aliases, Vec::<String>::new());

    let networks = api.networks("bridge").await.unwrap();
    let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
    assert!(names.contains(&"blue") && names.contains(&"bridge") && names.len() == 2, "{names:?}");
    let listed = networks.iter().find(|network| network.id == id).unwrap();
    assert_eq!(listed.endpoints.len(), 2);
    assert_eq!(listed.endpoints[&endpoint].container.as_ref(), Some(&web));
    assert_eq!(listed.endpoints[&endpoint].name, "web");
    assert_eq!(api.networks("brid").await.unwrap(), Vec::new());

    let error = api.remove_network(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::InUse { network, .. } if *network == id), "{error:?}");
    engine.docker(&["stop", "-t", "0", "web"]);
    let stopped = api.container(&web).await.unwrap().unwrap();
    assert!(!stopped.running);
    assert_eq!(stopped.networks[&id].endpoint, None);
    engine.docker(&["rm", "-f", "web", "plain"]);
    api.remove_network(&id).await.unwrap();
    api.remove_network(&id).await.unwrap();
    assert_eq!(api.network("blue").await.unwrap(), None);
}

#[tokio::test]
async fn events_survive_restarts_of_the_engine() {
    let engine = Engine::start();
    let api = api(&engine.socket());
    let mut events = api.events();
    until(&mut events, "Connected", |event| *event == EngineEvent::Connected).await;

    let id =
        api.create_network(&NetworkSpec { name: "green".into(), driver: "bridge".into(), ..blue() }).await;
    let id = id.unwrap();
    let web =
        engine.docker(&["run", "-d", "--name", "web", "--network", "green", "busybox", "sleep", "1000"]);
    engine.docker(&["rename", "web", "site"]);
    engine.docker(&["rm", "-f", "site"]);
    let network = |action, container: Option<&String>| EngineEvent::Network {
        id: id.clone(),
        action,
        container: container.cloned(),
    };
    let container = |action| EngineEvent::Container { id: web.clone(), action };
    let destroyed = container(ContainerAction::Destroy);
    let seen = until(&mut events, "the container's end", |event| *event == destroyed).await;
    for expected in [
        network(NetworkAction::Create, None),
        network(NetworkAction::Connect, Some(&web)),
        network(NetworkAction::Disconnect, Some(&web)),
        container(ContainerAction::Create),
        container(ContainerAction::Start),
        container(ContainerAction::Rename),
        container(ContainerAction::Die),
    ] {
        assert!(seen.contains(&expected), "no {expected:?} in {seen:?}");
    }

    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        engine.lab.host(1).engine_stop(signal).unwrap();
        until(&mut events, "Lost", |event| matches!(event, EngineEvent::Lost(_))).await;
        assert!(matches!(api.containers().await, Err(EngineError::Unreachable { .. })), "{signal}");
        engine.lab.host(1).engine_start().unwrap();
        let meanwhile = until(&mut events, "Connected", |event| *event == EngineEvent::Connected).await;
        assert_eq!(meanwhile, [], "one notice per outage");
        assert!(api.network("green").await.unwrap().is_some(), "{signal}");
    }
    api.remove_network(&id).await.unwrap();
    let removed = network(NetworkAction::Destroy, None);
    until(&mut events, "the network's end", |event| *event == removed).await;
}

#[tokio::test]
async fn an_absent_engine_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(&dir.path().join("docker.sock"));
    let begun = Instant::now();
    for error in [
        api.version().await.unwrap_err(),
        api.networks("bridge").await.unwrap_err(),
        api.network("blue").await.unwrap_err(),
        api.create_network(&blue()).await.unwrap_err(),
        api.remove_network("blue").await.unwrap_err(),
        api.container("web").await.unwrap_err(),
        api.containers().await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, EngineError::Unreachable { host, .. } if host.ends_with("docker.sock")),
            "{error:?}"
        );
    }
    assert!(begun.elapsed() < Duration::from_mins(1), "waited for a deadline");
    let mut events = api.events();
    assert!(matches!(events.next().await, Some(EngineEvent::Lost(_))));
    // Some attempts later it is still told once.
    let next = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
    assert!(next.is_err(), "{next:?}");
}
