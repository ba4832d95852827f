//! From Docker's JSON to the driver's terms and back, one function per call.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    driver::{
        AddressRequest, Driver, DriverError, GLOBAL_SPACE, LOCAL_SPACE, NewEndpoint, NewNetwork, NewSubnet,
        PoolRequest, parse_ip,
    },
    model::{EndpointId, IdError, NetworkId},
    wire::{Empty, Manifest, ipam, network},
};

/// Key under which an engine keeps the user's `-o` options.
const GENERIC: &str = "com.docker.network.generic";
/// Key of the IPAM option that marks a gateway, and its value.
const ADDRESS_TYPE: (&str, &str) = ("RequestAddressType", "com.docker.network.gateway");
/// Key of the IPAM option that names the container (engines from 29).
const ENDPOINT_NAME: &str = "com.docker.network.endpoint.name";

/// A call that failed.
#[derive(Debug)]
pub(super) struct CallError {
    pub(super) status: u16,
    pub(super) message: String,
}

impl CallError {
    pub(super) fn late(method: &str, limit: Duration) -> Self {
        let message = format!(
            "rs-overlay: {method} took longer than {} s and was given up; try again",
            limit.as_secs()
        );
        Self { status: 500, message }
    }

    fn bad(message: String) -> Self {
        Self { status: 400, message }
    }
}

impl From<DriverError> for CallError {
    fn from(error: DriverError) -> Self {
        Self { status: 500, message: error.to_string() }
    }
}

impl From<IdError> for CallError {
    fn from(error: IdError) -> Self {
        Self::bad(format!("rs-overlay: {error}"))
    }
}

type Answer = Result<Value, CallError>;

/// Carries out one call.
pub(super) async fn dispatch(driver: &Driver, method: &str, body: &[u8]) -> Answer {
    match method {
        "Plugin.Activate" => answer(&Manifest { implements: &["NetworkDriver", "IpamDriver"] }),
        "NetworkDriver.GetCapabilities" => answer(&network::Capabilities {
            scope: driver.scope().await.as_str(),
            connectivity_scope: "global",
            // Engines before 28 always ask for a gateway. To take none on newer ones would make one network
            // look different from host to host.
            gw_alloc_checker: false,
        }),
        "NetworkDriver.GwAllocCheck" => {
            let _: network::GwAllocCheck = parse(method, body)?;
            answer(&network::GwAllocAnswer { skip_ipv4: false, skip_ipv6: false })
        }
        "NetworkDriver.CreateNetwork" => create_network(driver, parse(method, body)?, false).await,
        "NetworkDriver.AllocateNetwork" => create_network(driver, parse(method, body)?, true).await,
        "NetworkDriver.DeleteNetwork" => {
            let request: network::NetworkRef = parse(method, body)?;
            driver.delete_network(&NetworkId::new(request.network_id)?)?;
            answer(&Empty {})
        }
        "NetworkDriver.FreeNetwork" => {
            let request: network::NetworkRef = parse(method, body)?;
            driver.free_network(&NetworkId::new(request.network_id)?).await?;
            answer(&Empty {})
        }
        "NetworkDriver.CreateEndpoint" => create_endpoint(driver, parse(method, body)?).await,
        "NetworkDriver.DeleteEndpoint" => {
            let request: network::EndpointRef = parse(method, body)?;
            driver.delete_endpoint(&EndpointId::new(request.endpoint_id)?)?;
            answer(&Empty {})
        }
        "NetworkDriver.EndpointOperInfo" => {
            let _: network::EndpointRef = parse(method, body)?;
            answer(&network::OperInfoAnswer::default())
        }
        "NetworkDriver.Join" => {
            let request: network::Join = parse(method, body)?;
            let src_name = driver.join(&EndpointId::new(request.endpoint_id)?, &request.sandbox_key).await?;
            answer(&network::JoinAnswer {
                interface_name: network::InterfaceName { src_name, dst_prefix: "eth" },
            })
        }
        "NetworkDriver.Leave" => {
            let request: network::EndpointRef = parse(method, body)?;
            driver.leave(&EndpointId::new(request.endpoint_id)?)?;
            answer(&Empty {})
        }
        // This driver is never a container's gateway, and keeps its own register of hosts.
        "NetworkDriver.ProgramExternalConnectivity" | "NetworkDriver.RevokeExternalConnectivity" => {
            let _: network::EndpointRef = parse(method, body)?;
            answer(&Empty {})
        }
        "NetworkDriver.DiscoverNew" | "NetworkDriver.DiscoverDelete" => {
            let _: network::Discover = parse(method, body)?;
            answer(&Empty {})
        }
        "IpamDriver.GetCapabilities" => {
            answer(&ipam::Capabilities { requires_mac_address: false, requires_request_replay: false })
        }
        "IpamDriver.GetDefaultAddressSpaces" => answer(&ipam::AddressSpaces {
            local_default_address_space: LOCAL_SPACE,
            global_default_address_space: GLOBAL_SPACE,
        }),
        "IpamDriver.RequestPool" => request_pool(driver, parse(method, body)?).await,
        "IpamDriver.ReleasePool" => {
            let request: ipam::ReleasePool = parse(method, body)?;
            // One that we never gave out has nothing to give back.
            if let Ok(id) = request.pool_id.parse() {
                driver.release_pool(id).await;
            }
            answer(&Empty {})
        }
        "IpamDriver.RequestAddress" => request_address(driver, parse(method, body)?).await,
        "IpamDriver.ReleaseAddress" => {
            let request: ipam::ReleaseAddress = parse(method, body)?;
            if let (Ok(pool), Ok(ip)) = (request.pool_id.parse(), parse_ip(&request.address)) {
                driver.release_address(&pool, ip)?;
            }
            answer(&Empty {})
        }
        _ => Err(CallError { status: 404, message: format!("rs-overlay: no such call: {method}") }),
    }
}

async fn create_network(driver: &Driver, request: network::CreateNetwork, allocate: bool) -> Answer {
    let options = if allocate { strings(request.options.clone()) } else { generic(&request.options) };
    let flag = |key: &str| request.options.get(key).and_then(Value::as_bool).unwrap_or(false);
    let data = request.ipv4_data.iter().chain(&request.ipv6_data);
    let subnets = data.map(|d| NewSubnet::parse(&d.address_space, &d.pool, &d.gateway, &d.aux_addresses));
    let network = NewNetwork {
        docker_id: NetworkId::new(request.network_id.clone())?,
        options: options.clone(),
        internal: flag("com.docker.network.internal"),
        ipv6: flag("com.docker.network.enable_ipv6"),
        subnets: subnets.collect::<Result<_, _>>()?,
        allocate,
    };
    driver.create_network(network).await?;
    if allocate { answer(&network::AllocateAnswer { options }) } else { answer(&Empty {}) }
}

async fn create_endpoint(driver: &Driver, request: network::CreateEndpoint) -> Answer {
    let given = &request.interface;
    let (network, id) = (NetworkId::new(request.network_id)?, EndpointId::new(request.endpoint_id)?);
    let endpoint = NewEndpoint::parse(network, id, &given.address, &given.address_ipv6, &given.mac_address)?;
    let mac = driver.create_endpoint(endpoint).await?;
    // An engine refuses an answer that holds a field it has given itself, even the same.
    let mac_address = if given.mac_address.is_empty() { mac.to_string() } else { String::new() };
    let interface = network::Interface { mac_address, ..network::Interface::default() };
    answer(&network::CreateEndpointAnswer { interface })
}

async fn request_pool(driver: &Driver, request: ipam::RequestPool) -> Answer {
    let wanted = PoolRequest::parse(
        &request.address_space,
        &request.pool,
        &request.sub_pool,
        request.options,
        request.v6,
    )?;
    let id = driver.request_pool(wanted).await?;
    answer(&ipam::PoolAnswer {
        pool_id: id.to_string(),
        pool: id.cidr.to_string(),
        data: std::collections::BTreeMap::new(),
    })
}

async fn request_address(driver: &Driver, request: ipam::RequestAddress) -> Answer {
    let gateway = request.options.get(ADDRESS_TYPE.0).is_some_and(|kind| kind == ADDRESS_TYPE.1);
    let container = request.options.get(ENDPOINT_NAME).filter(|name| !name.is_empty()).cloned();
    let wanted = AddressRequest::parse(&request.pool_id, &request.address, gateway, container)?;
    let length = wanted.pool.cidr.prefix_len();
    let ip = driver.request_address(wanted).await?;
    answer(&ipam::AddressAnswer {
        address: format!("{ip}/{length}"),
        data: std::collections::BTreeMap::new(),
    })
}

/// The user's `-o` options of `CreateNetwork`.
fn generic(
    options: &std::collections::BTreeMap<String, Value>,
) -> std::collections::BTreeMap<String, String> {
    let map = options.get(GENERIC).and_then(Value::as_object);
    map.map(|map| strings(map.iter().map(|(k, v)| (k.clone(), v.clone())))).unwrap_or_default()
}

fn strings(pairs: impl IntoIterator<Item = (String, Value)>) -> std::collections::BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    pairs.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn parse<T: DeserializeOwned>(method: &str, body: &[u8]) -> Result<T, CallError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        // An engine that lost a connection repeats the call without its body: doing "all defaults" then
        // would be wrong.
        return Err(CallError::bad(format!(
            "rs-overlay: {method} came without a body, as Docker repeats a call after a broken connection; try again"
        )));
    }
    serde_json::from_slice(body).map_err(|error| {
        CallError::bad(format!("rs-overlay: {method} has a body that is not understood: {error}"))
    })
}

fn answer(value: &impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| CallError {
        status: 500,
        message: format!("rs-overlay: cannot encode the answer: {error}"),
    })
}
