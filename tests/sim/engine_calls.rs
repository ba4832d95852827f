//! What an engine does when it is told to, call by call, in the order in which real engines do it (see
//! `tests/engine-traces`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rs_overlay::{
    driver::{
        AddressRequest, Driver, DriverError, LOCAL_SPACE, NewEndpoint, NewNetwork, NewSubnet, PoolRequest,
    },
    engine::{ContainerAction, EngineError, EngineNetwork, IpamConfig, NetworkAction, NetworkSpec},
    model::{EndpointId, NetworkId},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    deck::{self, Owner},
    engine::{Container, Engine, Net, Place, Pool, container_event, network_event},
    host::{self, DRIVER},
    journal, luck,
};

/// How long an engine tries to reach a plugin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the plugin works on a call, as its HTTP side has it.
const CALL_LIMIT: Duration = Duration::from_secs(10);

type Work<T> = BoxFuture<'static, Result<T, DriverError>>;

/// Calls the driver. While nobody is there the engine tries again; one that goes away in the middle is
/// asked again without the request's body, which it refuses.
pub(crate) async fn call<T: Send + 'static>(
    host: usize,
    what: &str,
    work: impl FnOnce(Arc<Driver>) -> Work<T>,
) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    let Some(driver) = driver(host, end).await else {
        return Err(format!("{what}: no plugin"));
    };
    let (answer, answered) = oneshot::channel();
    let task = work(driver);
    deck::spawn(Owner::Daemon(host), async move {
        let done = timeout(CALL_LIMIT, task).await;
        // An engine that is no more wants no answer.
        let _ = answer.send(done.unwrap_or_else(|_| Err(DriverError::Contended { what: "time", tries: 0 })));
    });
    let done = if let Ok(done) = answered.await {
        done.map_err(|error| error.to_string())
    } else {
        let back = driver_again(host, end).await;
        Err(if back { "came without a body".to_owned() } else { "no plugin".to_owned() })
    };
    journal::note(|| {
        format!("host{host}: {what}: {}", done.as_ref().map_or_else(String::clone, |_| "ok".into()))
    });
    done
}

async fn driver(host: usize, end: Instant) -> Option<Arc<Driver>> {
    let mut starts = host::with(host, |host| host.starts.subscribe());
    loop {
        if let Some(daemon) = host::daemon(host) {
            return Some(daemon.driver);
        }
        timeout_at(end, starts.changed()).await.ok()?.ok()?;
    }
}

async fn driver_again(host: usize, end: Instant) -> bool {
    driver(host, end).await.is_some()
}

fn refused(what: &str, detail: String) -> EngineError {
    EngineError::Refused { what: what.to_owned(), detail }
}

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

async fn make_network(host: usize, id: &str, spec: NetworkSpec) -> Result<Net, String> {
    let ours = spec.ipam_driver == DRIVER;
    let configs = if spec.ipam.is_empty() { vec![IpamConfig::default()] } else { spec.ipam.clone() };
    let mut pools = Vec::new();
    for config in &configs {
        let pool = if ours { our_pool(host, config, &spec).await } else { own_pool(host, config) };
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
            .map(|(config, pool)| IpamConfig {
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

async fn our_pool(host: usize, config: &IpamConfig, spec: &NetworkSpec) -> Result<Pool, String> {
    let request = PoolRequest {
        global: false,
        pool: config.subnet,
        range: config.ip_range,
        options: spec.ipam_options.clone(),
        v6: false,
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

fn own_pool(host: usize, config: &IpamConfig) -> Result<Pool, String> {
    host::with(host, |host| {
        let guards = host.kernel.overlay().guards;
        let cidr = config.subnet.or_else(|| host.engine.own_subnet(&guards)).ok_or("no subnet left")?;
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

fn take(host: usize, name: &str, ready: impl Fn(&Container) -> bool) -> Option<Container> {
    host::with(host, |host| {
        let container = host.engine.containers.get_mut(name).filter(|c| !c.busy && ready(c))?;
        container.busy = true;
        Some(container.clone())
    })
}

fn change(host: usize, name: &str, change: impl FnOnce(&mut Container)) {
    host::with(host, |host| {
        if let Some(container) = host.engine.containers.get_mut(name) {
            change(container);
        }
    });
}

/// `docker start`.
pub(crate) async fn start(host: usize, name: &str) -> Result<(), String> {
    let Some(container) = take(host, name, |container| !container.running) else {
        return Err("is busy".to_owned());
    };
    let sandbox = host::with(host, |host| host.dir.join("netns").join(&luck::docker_id()[..12]));
    std::fs::write(&sandbox, "").unwrap();
    change(host, name, |container| container.sandbox = Some(sandbox));
    for wanted in &container.networks {
        if let Err(error) = connect(host, name, &wanted.network, wanted.ip).await {
            leave_all(host, name).await;
            change(host, name, |container| container.busy = false);
            return Err(error);
        }
    }
    change(host, name, |container| {
        container.running = true;
        container.busy = false;
    });
    container_event(host, &container.id, ContainerAction::Start);
    Ok(())
}

/// `docker stop`, or the end of a container by itself.
pub(crate) async fn stop(host: usize, name: &str) {
    let Some(container) = take(host, name, |container| container.running) else { return };
    change(host, name, |container| container.running = false);
    leave_all(host, name).await;
    change(host, name, |container| container.busy = false);
    container_event(host, &container.id, ContainerAction::Die);
}

/// Puts a container on a network.
async fn connect(host: usize, name: &str, network: &str, ip: Option<IpAddr>) -> Result<(), String> {
    let found = host::with(host, |host| {
        let id = host.engine.network_id(network)?;
        host.engine.networks.get(&id).cloned()
    });
    let net = found.ok_or_else(|| format!("network {network} not found"))?;
    let pool = net.pools[0].clone();
    let docker_id = net.info.id.clone();
    let endpoint = luck::docker_id();
    let ip = if net.ours {
        let id = pool.id.parse().unwrap();
        let told = luck::percent(50).then(|| name.to_owned());
        let request = AddressRequest { pool: id, address: ip, gateway: false, container: told };
        call(host, "RequestAddress", |driver| Box::pin(async move { driver.request_address(request).await }))
            .await?
    } else {
        own_address(host, &docker_id, ip)?
    };
    let place = Place { id: endpoint.clone(), ip, joined: false };
    let there = host::with(host, |host| {
        let there = host.engine.networks.get(&docker_id).is_some_and(|net| !net.ending);
        if there && let Some(container) = host.engine.containers.get_mut(name) {
            container.endpoints.insert(docker_id.clone(), place.clone());
        }
        there
    });
    let made =
        if there { join(host, name, &docker_id, &endpoint, ip).await } else { Err("network is gone".into()) };
    match made {
        Ok(()) => {
            change(host, name, |container| {
                if let Some(place) = container.endpoints.get_mut(&docker_id) {
                    place.joined = true;
                }
            });
            let id = host::with(host, |host| host.engine.containers.get(name).map(|c| c.id.clone()));
            network_event(host, &docker_id, NetworkAction::Connect, id);
            Ok(())
        }
        Err(error) => {
            change(host, name, |container| {
                container.endpoints.remove(&docker_id);
            });
            release(host, &docker_id, &pool, net.ours, ip).await;
            Err(error)
        }
    }
}

fn own_address(host: usize, docker_id: &str, ip: Option<IpAddr>) -> Result<IpAddr, String> {
    host::with(host, |host| {
        let net = host.engine.networks.get_mut(docker_id).ok_or("network is gone")?;
        let ip = match ip {
            Some(ip) if net.taken.contains(&ip) => return Err("Address already in use".to_owned()),
            Some(ip) => ip,
            None => Engine::lowest_free(net).ok_or("no address left")?,
        };
        net.taken.insert(ip);
        Ok(ip)
    })
}

async fn join(host: usize, name: &str, docker_id: &str, endpoint: &str, ip: IpAddr) -> Result<(), String> {
    let id = EndpointId::new(endpoint).unwrap();
    let new = NewEndpoint {
        docker_network: NetworkId::new(docker_id).unwrap(),
        id: id.clone(),
        addresses: vec![ip],
        mac: None,
    };
    call(host, "CreateEndpoint", |driver| Box::pin(async move { driver.create_endpoint(new).await })).await?;
    let sandbox = host::with(host, |host| host.engine.containers.get(name).and_then(|c| c.sandbox.clone()));
    let sandbox = sandbox.unwrap_or_default().display().to_string();
    let joining = id.clone();
    let joined =
        call(host, "Join", |driver| Box::pin(async move { driver.join(&joining, &sandbox).await })).await;
    if let Err(error) = joined {
        delete(host, id).await;
        return Err(error);
    }
    sleep(luck::millis(0..30)).await;
    Ok(())
}

async fn delete(host: usize, id: EndpointId) {
    let _ = call(host, "DeleteEndpoint", |driver| Box::pin(async move { driver.delete_endpoint(&id) })).await;
}

async fn release(host: usize, docker_id: &str, pool: &Pool, ours: bool, ip: IpAddr) {
    if ours {
        let id = pool.id.parse().unwrap();
        let _ =
            call(host, "ReleaseAddress", |driver| Box::pin(async move { driver.release_address(&id, ip) }))
                .await;
        return;
    }
    host::with(host, |host| {
        if let Some(net) = host.engine.networks.get_mut(docker_id) {
            net.taken.remove(&ip);
        }
    });
}

/// Takes a container off all its networks, whatever the driver says.
pub(crate) async fn leave_all(host: usize, name: &str) {
    let places = host::with(host, |host| host.engine.containers.get(name).map(|c| c.endpoints.clone()));
    for (docker_id, place) in places.unwrap_or_default() {
        leave(host, name, &docker_id, &place).await;
    }
    let sandbox =
        host::with(host, |host| host.engine.containers.get_mut(name).and_then(|c| c.sandbox.take()));
    if let Some(sandbox) = sandbox {
        let _ = std::fs::remove_file(sandbox);
    }
}

/// Takes a container off one network.
pub(crate) async fn leave(host: usize, name: &str, docker_id: &str, place: &Place) {
    let id = EndpointId::new(place.id.as_str()).unwrap();
    // From here on nobody can talk to it.
    change(host, name, |container| {
        if let Some(place) = container.endpoints.get_mut(docker_id) {
            place.joined = false;
        }
    });
    let leaving = id.clone();
    let _ = call(host, "Leave", |driver| Box::pin(async move { driver.leave(&leaving) })).await;
    delete(host, id).await;
    let pool = host::with(host, |host| {
        host.engine.networks.get(docker_id).map(|net| (net.pools[0].clone(), net.ours))
    });
    if let Some((pool, ours)) = pool {
        release(host, docker_id, &pool, ours, place.ip).await;
    }
    change(host, name, |container| {
        container.endpoints.remove(docker_id);
    });
    let id = host::with(host, |host| host.engine.containers.get(name).map(|c| c.id.clone()));
    network_event(host, docker_id, NetworkAction::Disconnect, id);
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
