//! A Docker engine: its networks, its containers, its own IPAM, and its events.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net};
use rs_overlay::engine::{
    ContainerAction, EngineAttachment, EngineContainer, EngineEndpoint, EngineEvent, EngineNetwork,
    NetworkAction,
};
use tokio::sync::mpsc;

use super::{host, journal, luck};

/// The state of an engine. It survives the engine's end, as what is on its disk does.
#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) down: bool,
    pub(crate) networks: BTreeMap<String, Net>,
    pub(crate) containers: BTreeMap<String, Container>,
    /// Names of networks that are being created.
    pub(crate) creating: BTreeSet<String>,
    pub(crate) listeners: Vec<mpsc::Sender<EngineEvent>>,
}

/// A network of an engine.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) info: EngineNetwork,
    pub(crate) pools: Vec<Pool>,
    /// Our IPAM serves it.
    pub(crate) ours: bool,
    /// It is being removed.
    pub(crate) ending: bool,
    /// Addresses that the engine's own IPAM has handed out.
    pub(crate) taken: BTreeSet<IpAddr>,
}

/// A subnet of a network, as an engine holds it.
#[derive(Clone)]
pub(crate) struct Pool {
    /// What our IPAM calls it.
    pub(crate) id: String,
    pub(crate) cidr: IpNet,
    pub(crate) gateway: Option<IpAddr>,
}

/// A container.
#[derive(Clone, Default)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) networks: Vec<Wanted>,
    pub(crate) aliases: Vec<String>,
    pub(crate) running: bool,
    /// Something is being done with it.
    pub(crate) busy: bool,
    /// Its engine starts it again.
    pub(crate) restarts: bool,
    pub(crate) sandbox: Option<PathBuf>,
    /// By Docker's id of the network.
    pub(crate) endpoints: BTreeMap<String, Place>,
}

/// A network that a container is to be on.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) network: String,
    pub(crate) ip: Option<IpAddr>,
}

/// A container's endpoint.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: String,
    /// One of each subnet.
    pub(crate) ips: Vec<IpAddr>,
    /// The engine shows it, and its container can talk.
    pub(crate) joined: bool,
}

impl Engine {
    /// Docker's id of the network with this name.
    pub(crate) fn network_id(&self, name: &str) -> Option<String> {
        let mut found = self.networks.values().filter(|net| net.info.name == name && !net.ending);
        found.next().map(|net| net.info.id.clone())
    }

    /// A network, as the API shows it.
    pub(crate) fn shown(&self, net: &Net) -> EngineNetwork {
        let mut info = net.info.clone();
        for (name, container) in &self.containers {
            if let Some(place) = container.endpoints.get(&net.info.id).filter(|place| place.joined) {
                let endpoint = EngineEndpoint { container: Some(container.id.clone()), name: name.clone() };
                info.endpoints.insert(place.id.clone(), endpoint);
            }
        }
        info
    }

    /// Whether a container is on a network, or on its way.
    pub(crate) fn is_used(&self, network: &str) -> bool {
        self.containers.values().any(|container| container.endpoints.contains_key(network))
    }

    /// A container, as the API shows it.
    pub(crate) fn container(&self, id: &str) -> Option<EngineContainer> {
        let (name, container) = self.containers.iter().find(|(_, container)| container.id == id)?;
        let attachment = |place: &Place| EngineAttachment {
            endpoint: Some(place.id.clone()),
            aliases: container.aliases.clone(),
            dns_names: Vec::new(),
        };
        Some(EngineContainer {
            id: container.id.clone(),
            name: name.clone(),
            hostname: container.id[..12].to_owned(),
            running: container.running,
            sandbox_key: container.sandbox.as_ref().map(|path| path.display().to_string()),
            networks: container.endpoints.iter().map(|(id, place)| (id.clone(), attachment(place))).collect(),
        })
    }

    /// Tells all who listen. One that is too slow is told to look at everything, as a real one is.
    pub(crate) fn tell(&mut self, event: &EngineEvent) {
        self.listeners.retain(|listener| match listener.try_send(event.clone()) {
            // A full queue already says "look again".
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    /// The lowest free address of a subnet whose addresses the engine's own IPAM hands out.
    pub(crate) fn lowest_free(net: &Net, pool: &Pool) -> Option<IpAddr> {
        pool.cidr.hosts().find(|ip| pool.gateway != Some(*ip) && !net.taken.contains(ip))
    }

    /// A subnet of the engine's own choice, which passes over what its networks have and what the host's
    /// routes lead to.
    pub(crate) fn own_subnet(&self, guards: &BTreeSet<Ipv4Net>) -> Option<IpNet> {
        let taken: Vec<IpNet> =
            self.networks.values().flat_map(|net| net.pools.iter().map(|p| p.cidr)).collect();
        let free = |cidr: &IpNet| {
            let over = |other: &IpNet| other.contains(&cidr.network()) || cidr.contains(&other.network());
            !taken.iter().any(over) && !guards.iter().any(|guard| over(&IpNet::V4(*guard)))
        };
        (17..32u8).map(|n| IpNet::new([172, n, 0, 0].into(), 16).unwrap()).find(free)
    }

    /// One of IPv6, from the engine's own range. It looks at no route.
    pub(crate) fn own_subnet6(&self, host: usize) -> Option<IpNet> {
        let range = u16::try_from(host).ok()?;
        let taken: Vec<IpNet> =
            self.networks.values().flat_map(|net| net.pools.iter().map(|p| p.cidr)).collect();
        let nth = |n: u16| IpNet::new([0xfd01, range, 0, n, 0, 0, 0, 0].into(), 64).unwrap();
        (0..64).map(nth).find(|cidr| !taken.contains(cidr))
    }
}

/// Tells that something happened to a network.
pub(crate) fn network_event(host: usize, id: &str, action: NetworkAction, container: Option<String>) {
    let event = EngineEvent::Network { id: id.to_owned(), action, container };
    host::with(host, |host| host.engine.tell(&event));
}

/// Tells that something happened to a container.
pub(crate) fn container_event(host: usize, id: &str, action: ContainerAction) {
    let event = EngineEvent::Container { id: id.to_owned(), action };
    host::with(host, |host| host.engine.tell(&event));
}

/// What an engine that is down leaves of itself: containers run on if it is said to keep them (live
/// restore), and what it was in the middle of is forgotten.
pub(crate) fn stop(host: usize) {
    super::deck::kill(super::deck::Owner::Engine(host));
    host::with(host, |host| {
        host.engine.down = true;
        host.engine.creating.clear();
        host.engine.tell(&EngineEvent::Lost("the engine is down".into()));
        for net in host.engine.networks.values_mut() {
            net.ending = false;
        }
        for container in host.engine.containers.values_mut() {
            container.busy = false;
        }
    });
    journal::note(|| format!("host{host}: no engine"));
}

/// Containers that were on their way up or down when the engine was stopped do not run, and their
/// endpoints are forgotten without a word, or remembered to be cleaned up.
pub(crate) fn forget_unfinished(host: usize) -> Vec<(String, String, Place)> {
    let mut remembered = Vec::new();
    host::with(host, |host| {
        for (name, container) in &mut host.engine.containers {
            if container.running {
                continue;
            }
            for (network, place) in std::mem::take(&mut container.endpoints) {
                if luck::percent(50) {
                    remembered.push((name.clone(), network, place));
                } else if let Some(net) = host.engine.networks.get_mut(&network) {
                    place.ips.iter().for_each(|ip| _ = net.taken.remove(ip));
                }
            }
            if let Some(sandbox) = container.sandbox.take() {
                let _ = std::fs::remove_file(sandbox);
            }
        }
    });
    remembered
}
