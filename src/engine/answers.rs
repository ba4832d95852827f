//! The engine's JSON turned into our own types and back.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    net::IpAddr,
    str::FromStr,
};

use bollard::models::{
    ContainerInspectResponse, EventMessage, EventMessageTypeEnum, Ipam, IpamConfig as IpamConfigJson,
    NetworkCreateRequest, NetworkInspect,
};

use super::{
    ContainerAction, EngineAttachment, EngineContainer, EngineEndpoint, EngineEvent, EngineNetwork,
    IpamConfig, NetworkAction, NetworkSpec,
};

/// A network, or what is wrong with the answer.
pub(super) fn network(json: NetworkInspect) -> Result<EngineNetwork, String> {
    let ipam = json.ipam.unwrap_or_default();
    Ok(EngineNetwork {
        id: json.id.filter(|id| !id.is_empty()).ok_or("a network without an id")?,
        name: json.name.unwrap_or_default(),
        driver: json.driver.unwrap_or_default(),
        scope: json.scope.unwrap_or_default(),
        internal: json.internal.unwrap_or_default(),
        attachable: json.attachable.unwrap_or_default(),
        ipv6: json.enable_ipv6.unwrap_or_default(),
        options: sorted(json.options),
        labels: sorted(json.labels),
        ipam_driver: ipam.driver.unwrap_or_default(),
        ipam_options: sorted(ipam.options),
        ipam: ipam.config.unwrap_or_default().into_iter().map(ipam_config).collect::<Result<_, _>>()?,
        endpoints: json
            .containers
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(key, endpoint)| {
                let id = endpoint.endpoint_id.filter(|id| !id.is_empty());
                // Engines from 28 on list an endpoint that is being joined under `ep-` and its own id.
                let (id, container) = match key.strip_prefix("ep-") {
                    Some(own) => (id.unwrap_or_else(|| own.to_owned()), None),
                    None => (id?, Some(key)),
                };
                Some((id, EngineEndpoint { container, name: endpoint.name.unwrap_or_default() }))
            })
            .collect(),
        created: json.created.unwrap_or_default(),
    })
}

/// A container, or what is wrong with the answer.
pub(super) fn container(json: ContainerInspectResponse) -> Result<EngineContainer, String> {
    let name = json.name.unwrap_or_default();
    let settings = json.network_settings.unwrap_or_default();
    Ok(EngineContainer {
        id: json.id.filter(|id| !id.is_empty()).ok_or("a container without an id")?,
        name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
        hostname: json.config.and_then(|config| config.hostname).unwrap_or_default(),
        running: json.state.and_then(|state| state.running).unwrap_or_default(),
        sandbox_key: settings.sandbox_key.filter(|key| !key.is_empty()),
        networks: settings
            .networks
            .unwrap_or_default()
            .into_values()
            .filter_map(|place| {
                let network = place.network_id.filter(|id| !id.is_empty())?;
                Some((
                    network,
                    EngineAttachment {
                        endpoint: place.endpoint_id.filter(|id| !id.is_empty()),
                        aliases: place.aliases.unwrap_or_default(),
                        dns_names: place.dns_names.unwrap_or_default(),
                    },
                ))
            })
            .collect(),
    })
}

/// An event; `None` for one that tells nothing of use here.
pub(super) fn event(json: EventMessage) -> Option<EngineEvent> {
    let actor = json.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let action = json.action?;
    match json.typ? {
        EventMessageTypeEnum::NETWORK => {
            let action = match action.as_str() {
                "create" => NetworkAction::Create,
                "destroy" | "remove" => NetworkAction::Destroy,
                "connect" => NetworkAction::Connect,
                "disconnect" => NetworkAction::Disconnect,
                _ => return None,
            };
            let container = actor.attributes.and_then(|mut attributes| attributes.remove("container"));
            Some(EngineEvent::Network { id, action, container: container.filter(|id| !id.is_empty()) })
        }
        EventMessageTypeEnum::CONTAINER => {
            let action = match action.as_str() {
                "create" => ContainerAction::Create,
                "start" => ContainerAction::Start,
                "die" => ContainerAction::Die,
                "destroy" => ContainerAction::Destroy,
                "rename" => ContainerAction::Rename,
                _ => return None,
            };
            Some(EngineEvent::Container { id, action })
        }
        _ => None,
    }
}

/// What to ask the engine for: these types, and of them these actions.
pub(super) fn event_filters() -> HashMap<String, Vec<String>> {
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    HashMap::from([
        ("type".to_owned(), list(&["network", "container"])),
        (
            "event".to_owned(),
            list(&["create", "destroy", "remove", "connect", "disconnect", "start", "die", "rename"]),
        ),
    ])
}

/// The body of a request to create `spec`.
pub(super) fn create_request(spec: &NetworkSpec) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(spec.driver.clone()),
        internal: Some(spec.internal),
        attachable: Some(spec.attachable),
        // Engines before API 1.48 do not know the field.
        enable_ipv4: spec.without_ipv4.then_some(false),
        enable_ipv6: Some(spec.ipv6),
        options: Some(unsorted(&spec.options)),
        labels: Some(unsorted(&spec.labels)),
        ipam: Some(Ipam {
            driver: Some(match spec.ipam_driver.as_str() {
                "" => "default".to_owned(),
                driver => driver.to_owned(),
            }),
            options: Some(unsorted(&spec.ipam_options)),
            config: Some(spec.ipam.iter().map(ipam_config_json).collect()),
        }),
        ..NetworkCreateRequest::default()
    }
}

fn ipam_config(json: IpamConfigJson) -> Result<IpamConfig, String> {
    let mut aux = BTreeMap::new();
    for (name, value) in json.auxiliary_addresses.unwrap_or_default() {
        if let Some(ip) = address(&value)? {
            aux.insert(name, ip);
        }
    }
    Ok(IpamConfig {
        subnet: parsed(json.subnet.as_deref().unwrap_or_default())?,
        gateway: address(json.gateway.as_deref().unwrap_or_default())?,
        ip_range: parsed(json.ip_range.as_deref().unwrap_or_default())?,
        aux,
    })
}

fn ipam_config_json(config: &IpamConfig) -> IpamConfigJson {
    IpamConfigJson {
        subnet: config.subnet.map(|subnet| subnet.to_string()),
        gateway: config.gateway.map(|gateway| gateway.to_string()),
        ip_range: config.ip_range.map(|range| range.to_string()),
        auxiliary_addresses: Some(
            config.aux.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
        ),
    }
}

/// An address; networks whose IPAM chose the gateway may show it with the prefix length behind it.
fn address(text: &str) -> Result<Option<IpAddr>, String> {
    parsed(text.split_once('/').map_or(text, |(ip, _)| ip))
}

/// Absent values come as empty text.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{text:?} in its IPAM configuration: {error}"))
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

fn unsorted(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
