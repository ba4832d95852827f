//! Read against what engines of three generations really answered, recorded in `tests/engine-answers`.

use serde::de::DeserializeOwned;

use super::*;

const ENGINES: [&str; 3] = ["20.10", "26.1", "28.5"];

fn recorded<T: DeserializeOwned>(engine: &str, file: &str) -> T {
    serde_json::from_str(&text(engine, file)).unwrap_or_else(|error| panic!("{engine}/{file}: {error}"))
}

fn text(engine: &str, file: &str) -> String {
    let path = format!("{}/tests/engine-answers/{engine}/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_network_is_read_alike_from_all_engines() {
    for engine in ENGINES {
        let network = network(recorded(engine, "network.json")).unwrap();
        assert_eq!(
            (network.name.as_str(), network.driver.as_str(), network.scope.as_str()),
            ("blue", "bridge", "local")
        );
        assert_eq!(network.id.len(), 64);
        assert!(network.attachable && network.ipv6 && !network.internal, "{engine}");
        assert_eq!(network.labels, BTreeMap::from([("team".into(), "net".into())]));
        assert_eq!(
            network.options,
            BTreeMap::from([("com.docker.network.driver.mtu".into(), "1400".into())])
        );
        assert_eq!(network.ipam_driver, "default");
        assert_eq!(network.ipam_options, BTreeMap::from([("colour".into(), "red".into())]));
        assert_eq!(
            network.ipam,
            [
                IpamConfig {
                    subnet: Some("10.9.0.0/24".parse().unwrap()),
                    gateway: Some("10.9.0.1".parse().unwrap()),
                    ip_range: Some("10.9.0.128/25".parse().unwrap()),
                    aux: BTreeMap::from([("router".into(), "10.9.0.9".parse().unwrap())]),
                },
                IpamConfig { subnet: Some("fd00:9::/64".parse().unwrap()), ..IpamConfig::default() },
            ],
            "{engine}"
        );
        let container = container(recorded(engine, "container.json")).unwrap();
        let endpoint = container.networks[&network.id].endpoint.clone().unwrap();
        assert_eq!(
            network.endpoints,
            BTreeMap::from([(
                endpoint,
                EngineEndpoint { container: Some(container.id), name: "web".into() }
            )]),
            "{engine}"
        );
    }
}

#[test]
fn a_created_network_reads_back_as_its_spec() {
    for engine in ENGINES {
        let network = network(recorded(engine, "network.json")).unwrap();
        let spec = NetworkSpec {
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
        let request = serde_json::to_value(create_request(&spec)).unwrap();
        let answer: serde_json::Value = recorded(engine, "network.json");
        for field in ["Name", "Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Labels"] {
            assert_eq!(request[field], answer[field], "{engine} {field}");
        }
        assert_eq!(request["IPAM"]["Config"][0], answer["IPAM"]["Config"][0], "{engine}");
        assert_eq!(request["IPAM"]["Config"][1]["Subnet"], answer["IPAM"]["Config"][1]["Subnet"]);
    }
}

#[test]
fn a_running_container_has_its_endpoint_and_names() {
    for engine in ENGINES {
        let container = container(recorded(engine, "container.json")).unwrap();
        assert_eq!((container.name.as_str(), container.hostname.as_str()), ("web", "web-host"));
        assert!(container.running);
        assert!(container.sandbox_key.unwrap().starts_with("/var/run/docker/netns/"), "{engine}");
        let place = container.networks.into_values().next().unwrap();
        assert!(place.aliases.starts_with(&["www".into(), "api".into()]), "{engine} {:?}", place.aliases);
        // DNSNames came with API 1.44, that is with engine 25.
        assert_eq!(place.dns_names.is_empty(), engine == "20.10", "{engine} {:?}", place.dns_names);
    }
}

#[test]
fn a_container_that_never_ran_has_no_networks() {
    for engine in ENGINES {
        let container = container(recorded(engine, "created.json")).unwrap();
        assert_eq!(container.name, "old");
        assert!(!container.running && container.sandbox_key.is_none(), "{engine}");
        assert_eq!(container.networks, BTreeMap::new(), "{engine}");
    }
}

#[test]
fn events_of_a_container_s_life() {
    for engine in ENGINES {
        let events: Vec<EngineEvent> = text(engine, "events.jsonl")
            .lines()
            .filter_map(|line| event(serde_json::from_str(line).unwrap()))
            .collect();
        let lives: Vec<ContainerAction> = events
            .iter()
            .filter_map(|event| match event {
                EngineEvent::Container { action, .. } => Some(*action),
                _ => None,
            })
            .collect();
        assert_eq!(
            lives,
            [
                ContainerAction::Create,
                ContainerAction::Start,
                ContainerAction::Rename,
                ContainerAction::Die,
                ContainerAction::Destroy
            ],
            "{engine}"
        );
        let id = events
            .iter()
            .find_map(|event| match event {
                EngineEvent::Container { id, .. } => Some(id.clone()),
                _ => None,
            })
            .unwrap();
        let places: Vec<(NetworkAction, Option<String>)> = events
            .into_iter()
            .filter_map(|event| match event {
                EngineEvent::Network { action, container, .. } => Some((action, container)),
                _ => None,
            })
            .collect();
        assert_eq!(
            places,
            [(NetworkAction::Connect, Some(id.clone())), (NetworkAction::Disconnect, Some(id))],
            "{engine}"
        );
    }
}

#[test]
fn an_endpoint_being_joined_has_no_container_yet() {
    let json = r#"{"Id":"n1","Containers":{"ep-e1":{"Name":"web","EndpointID":"e1"},"c2":{"Name":"db","EndpointID":""}}}"#;
    let network = network(serde_json::from_str(json).unwrap()).unwrap();
    assert_eq!(
        network.endpoints,
        BTreeMap::from([("e1".into(), EngineEndpoint { container: None, name: "web".into() })])
    );
}

#[test]
fn odd_answers_are_errors_or_absent_values() {
    let read = |json: &str| network(serde_json::from_str(json).unwrap());
    assert!(read("{}").is_err());
    assert!(read(r#"{"Id":"n","IPAM":{"Config":[{"Subnet":"ten"}]}}"#).unwrap_err().contains("ten"));
    let nulls = r#"{"Id":"n","IPAM":{"Driver":"d","Options":null,"Config":null},"Containers":null,"Options":null,"Labels":null}"#;
    assert_eq!(
        read(nulls).unwrap(),
        EngineNetwork { id: "n".into(), ipam_driver: "d".into(), ..EngineNetwork::default() }
    );
    let lengths =
        r#"{"Id":"n","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","Gateway":"10.9.0.1/24","IPRange":""}]}}"#;
    assert_eq!(read(lengths).unwrap().ipam[0].gateway, Some("10.9.0.1".parse().unwrap()));
    assert!(container(serde_json::from_str("{}").unwrap()).is_err());
    assert_eq!(event(serde_json::from_str(r#"{"Type":"network","Action":"create"}"#).unwrap()), None);
}
