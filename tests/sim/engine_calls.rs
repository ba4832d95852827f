//! What an engine does with containers when it is told to, call by call, in the order in which real engines do it (see
//! `tests/engine-traces`).

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rs_overlay::{
    driver::{AddressRequest, Driver, DriverError, NewEndpoint},
    engine::{ContainerAction, NetworkAction},
    model::{EndpointId, NetworkId},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    deck::{self, Owner},
    engine::{Container, Engine, Place, Pool, container_event, network_event},
    host, journal, luck,
};

/// How long an engine tries to reach a plugin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the plugin works on a call, as its HTTP side has it.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A call of the driver.
pub(crate) type Work<T> = BoxFuture<'static, Result<T, DriverError>>;

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
    let docker_id = net.info.id.clone();
    let endpoint = luck::docker_id();
    let mut ips = Vec::new();
    let told = luck::percent(50).then(|| name.to_owned());
    for (at, pool) in net.pools.iter().enumerate() {
        let wanted = ip.filter(|_| at == 0);
        let got = if net.ours {
            let id = pool.id.parse().unwrap();
            let request =
                AddressRequest { pool: id, address: wanted, gateway: false, container: told.clone() };
            call(host, "RequestAddress", |driver| {
                Box::pin(async move { driver.request_address(request).await })
            })
            .await
        } else {
            own_address(host, &docker_id, pool, wanted)
        };
        match got {
            Ok(ip) => ips.push(ip),
            // As newer engines do; older ones keep the first for ever.
            Err(error) => {
                release(host, &docker_id, &net.pools, net.ours, &ips).await;
                return Err(error);
            }
        }
    }
    let place = Place { id: endpoint.clone(), ips: ips.clone(), joined: false };
    let there = host::with(host, |host| {
        let there = host.engine.networks.get(&docker_id).is_some_and(|net| !net.ending);
        if there && let Some(container) = host.engine.containers.get_mut(name) {
            container.endpoints.insert(docker_id.clone(), place.clone());
        }
        there
    });
    let made = if there {
        join(host, name, &docker_id, &endpoint, &ips).await
    } else {
        Err("network is gone".into())
    };
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
            release(host, &docker_id, &net.pools, net.ours, &ips).await;
            Err(error)
        }
    }
}

fn own_address(host: usize, docker_id: &str, pool: &Pool, ip: Option<IpAddr>) -> Result<IpAddr, String> {
    host::with(host, |host| {
        let net = host.engine.networks.get_mut(docker_id).ok_or("network is gone")?;
        let ip = match ip {
            Some(ip) if net.taken.contains(&ip) => return Err("Address already in use".to_owned()),
            Some(ip) => ip,
            None => Engine::lowest_free(net, pool).ok_or("no address left")?,
        };
        net.taken.insert(ip);
        Ok(ip)
    })
}

async fn join(
    host: usize,
    name: &str,
    docker_id: &str,
    endpoint: &str,
    ips: &[IpAddr],
) -> Result<(), String> {
    let id = EndpointId::new(endpoint).unwrap();
    let new = NewEndpoint {
        docker_network: NetworkId::new(docker_id).unwrap(),
        id: id.clone(),
        addresses: ips.to_vec(),
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

async fn release(host: usize, docker_id: &str, pools: &[Pool], ours: bool, ips: &[IpAddr]) {
    for (pool, ip) in pools.iter().zip(ips.iter().copied()) {
        if ours {
            let id = pool.id.parse().unwrap();
            let _ = call(host, "ReleaseAddress", |driver| {
                Box::pin(async move { driver.release_address(&id, ip) })
            })
            .await;
            continue;
        }
        host::with(host, |host| {
            if let Some(net) = host.engine.networks.get_mut(docker_id) {
                net.taken.remove(&ip);
            }
        });
    }
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
    let pools =
        host::with(host, |host| host.engine.networks.get(docker_id).map(|net| (net.pools.clone(), net.ours)));
    if let Some((pools, ours)) = pools {
        release(host, docker_id, &pools, ours, &place.ips).await;
    }
    change(host, name, |container| {
        container.endpoints.remove(docker_id);
    });
    let id = host::with(host, |host| host.engine.containers.get(name).map(|c| c.id.clone()));
    network_event(host, docker_id, NetworkAction::Disconnect, id);
}
