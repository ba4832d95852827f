//! What an engine does when it is told to make a network or to remove it, call by call, in the order in which
//! real engines do it (see `tests/engine-traces`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use futures_util::future::BoxFuture;
use rs_overlay::{
    driver::{AddressRequest, Driver, LOCAL_SPACE, NewNetwork, NewSubnet, PoolRequest},
    engine::{EngineError, EngineNetwork, IpamConfig, NetworkAction, NetworkSpec},
    model::NetworkId,
};

use super::{
    engine::{Net, Pool, network_event},
    engine_calls::{Work, call},
    host::{self, DRIVER},
    journal, luck,
};

/// `docker network create`.
pub(crate) async fn create_network(host: usize, spec: NetworkSpec) -> Result<String, EngineError> {
    let free = host::with(host, |host| {
        host.engine.network_id(&spec.name).is_none() && host.engine.creating.insert(spec.name.clone())
    });
    if !free {
        return Err(EngineError::NameTaken { name: spec.name });
    }
    let id = luck::docker_id();
    journal::note(|| format!("host{host}: docker network create {} -> {}", spec.name, &id[..12]));
    let name = spec.name.clone();
    let made = make_network(host, &id, spec).await;
    host::with(host, |host| {
        host.engine.creating.remove(&name);
        if let Ok(net) = &made {
            host.engine.networks.insert(id.clone(), net.clone());
        }
    });
    made.map_err(|detail| refused("network create", detail))?;
    network_event(host, &id, NetworkAction::Create, None);
    Ok(id)
}

fn refused(what: &str, detail: String) -> EngineError {
    EngineError::Refused { what: what.to_owned(), detail }
}

async fn make_network(host: usize, id: &str, spec: NetworkSpec) -> Result<Net, String> {
    let ours = spec.ipam_driver == DRIVER;
    let configs = configs_of(&spec);
    let mut pools = Vec::new();
    for (config, six) in &configs {
        let pool =
            if ours { our_pool(host, config, *six, &spec).await } else { own_pool(host, config, *six) };
        match pool {
            Ok(pool) => pools.push(pool),
            Err(error) => {
                give_back(host, ours, &pools).await;
                return Err(error);
            }
        }
    }
    let space = if ours { LOCAL_SPACE } else { "LocalDefault" };
    let subnets = pools.iter().map(|pool| NewSubnet {
        space: space.to_owned(),
        cidr: pool.cidr,
        gateway: pool.gateway,
        aux: BTreeMap::new(),
    });
    let new = NewNetwork {
        docker_id: NetworkId::new(id).unwrap(),
        options: spec.options.clone(),
        internal: spec.internal,
        ipv6: spec.ipv6,
        subnets: subnets.collect(),
        allocate: false,
    };
    let made =
        call(host, "CreateNetwork", |driver| Box::pin(async move { driver.create_network(new).await }));
    if let Err(error) = made.await {
        give_back(host, ours, &pools).await;
        return Err(error);
    }
    let info = EngineNetwork {
        id: id.to_owned(),
        name: spec.name,
        driver: spec.driver,
        scope: "local".to_owned(),
        internal: spec.internal,
        attachable: spec.attachable,
        ipv6: spec.ipv6,
        options: spec.options,
        labels: spec.labels,
        ipam_driver: if ours { DRIVER.to_owned() } else { "default".to_owned() },
        ipam_options: spec.ipam_options,
        // Without a subnet given, the engine lists the one it has got, with its gateway.
        ipam: configs
            .iter()
            .zip(&pools)
            .map(|((config, _), pool)| IpamConfig {
                subnet: Some(pool.cidr),
                gateway: if config.subnet.is_some() { config.gateway } else { pool.gateway },
                ..config.clone()
            })
            .collect(),
        endpoints: BTreeMap::new(),
        created: String::new(),
    };
    Ok(Net { info, pools, ours, ending: false, taken: std::collections::BTreeSet::new() })
}

/// A subnet of each family that the network has: those given, each with whether it is of IPv6, and where
/// none is given one that is to be chosen.
fn configs_of(spec: &NetworkSpec) -> Vec<(IpamConfig, bool)> {
    let mut configs = Vec::new();
    for (six, has) in [(false, !spec.without_ipv4), (true, spec.ipv6)] {
        let of = |config: &&IpamConfig| config.subnet.is_some_and(|cidr| cidr.addr().is_ipv6() == six);
        let given: Vec<_> = spec.ipam.iter().filter(of).cloned().collect();
        let given = if given.is_empty() && has { vec![IpamConfig::default()] } else { given };
        configs.extend(given.into_iter().map(|config| (config, six)));
    }
    configs
}

async fn our_pool(host: usize, config: &IpamConfig, six: bool, spec: &NetworkSpec) -> Result<Pool, String> {
    let request = PoolRequest {
        global: false,
        pool: config.subnet,
        range: config.ip_range,
        options: spec.ipam_options.clone(),
        v6: six,
    };
    let id = call(host, "RequestPool", |driver| Box::pin(async move { driver.request_pool(request).await }))
        .await?;
    let request = AddressRequest { pool: id, address: config.gateway, gateway: true, container: None };
    let work = |driver: Arc<Driver>| -> Work<IpAddr> {
        Box::pin(async move { driver.request_address(request).await })
    };
    match call(host, "RequestAddress gateway", work).await {
        Ok(gateway) => Ok(Pool { id: id.to_string(), cidr: id.cidr, gateway: Some(gateway) }),
        Err(error) => {
            give_back(host, true, &[Pool { id: id.to_string(), cidr: id.cidr, gateway: None }]).await;
            Err(error)
        }
    }
}

fn own_pool(number: usize, config: &IpamConfig, six: bool) -> Result<Pool, String> {
    host::with(number, |host| {
        let guards = host.kernel.overlay().guards;
        let chosen = || if six { host.engine.own_subnet6(number) } else { host.engine.own_subnet(&guards) };
        let cidr = config.subnet.or_else(chosen).ok_or("no subnet left")?;
        let over = |net: &Net| net.pools.iter().any(|pool| pool.cidr == cidr);
        if host.engine.networks.values().any(over) {
            return Err("Pool overlaps with other one on this address space".to_owned());
        }
        let gateway = config.gateway.or_else(|| cidr.hosts().next());
        Ok(Pool { id: String::new(), cidr, gateway })
    })
}

async fn give_back(host: usize, ours: bool, pools: &[Pool]) {
    for pool in pools.iter().filter(|_| ours) {
        let id: rs_overlay::ipam::PoolId = pool.id.parse().unwrap();
        // What an engine gives back it does not ask for again, whatever the answer.
        if let Some(gateway) = pool.gateway {
            let _ = call(host, "ReleaseAddress gateway", |driver| {
                Box::pin(async move { driver.release_address(&id, gateway) })
            })
            .await;
        }
        let _ = call(host, "ReleasePool", |driver| {
            Box::pin(async move {
                driver.release_pool(id).await;
                Ok(())
            })
        })
        .await;
    }
}

/// `docker network rm`.
pub(crate) async fn remove_network(host: usize, id_or_name: &str) -> Result<(), EngineError> {
    let found = host::with(host, |host| {
        let engine = &mut host.engine;
        let id = engine.network_id(id_or_name).or_else(|| Some(id_or_name.to_owned()));
        let id = id.filter(|id| engine.networks.get(id).is_some_and(|net| !net.ending))?;
        if engine.is_used(&id) {
            return Some(Err(EngineError::InUse {
                network: id_or_name.to_owned(),
                detail: "has active endpoints".to_owned(),
            }));
        }
        let net = engine.networks.get_mut(&id)?;
        net.ending = true;
        Some(Ok(net.clone()))
    });
    let Some(net) = found.transpose()? else { return Ok(()) };
    let id = net.info.id.clone();
    journal::note(|| format!("host{host}: docker network rm {} ({})", net.info.name, &id[..12]));
    // Engines differ in what comes first.
    let pools_first = luck::percent(50);
    if pools_first {
        give_back(host, net.ours, &net.pools).await;
    }
    let docker_id = NetworkId::new(id.as_str()).unwrap();
    let _ = call(host, "DeleteNetwork", |driver| Box::pin(async move { driver.delete_network(&docker_id) }))
        .await;
    if !pools_first {
        give_back(host, net.ours, &net.pools).await;
    }
    host::with(host, |host| host.engine.networks.remove(&id));
    network_event(host, &id, NetworkAction::Destroy, None);
    Ok(())
}

/// [`create_network`], for whoever must be able to hand it on.
pub(crate) fn create_network_boxed(
    host: usize,
    spec: NetworkSpec,
) -> BoxFuture<'static, Result<String, EngineError>> {
    Box::pin(create_network(host, spec))
}

/// [`remove_network`], likewise.
pub(crate) fn remove_network_boxed(host: usize, id: String) -> BoxFuture<'static, Result<(), EngineError>> {
    Box::pin(async move { remove_network(host, &id).await })
}
