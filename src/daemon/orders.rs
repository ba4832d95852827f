//! Networks that people have created and removed by `rs-overlay network`: carried out by this host's
//! engine, outside of any call of its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    admin::{NetworkEnded, NetworkMade, NetworkOrder},
    clock,
    engine::{DriverName, EngineApi, EngineError, IpamConfig, NetworkSpec},
    local::{Departure, Local},
    model::{EngineMode, Network, NetworkClaim, NetworkId, Node, NodeId, Snapshot},
    reconcile::{propagate::spec_of, removal::hosts_using},
    store::{StoreError, keys, ledger::Ledger},
    watched::Watched,
};

/// How long a removal may take to reach the store.
const SETTLED: Duration = Duration::from_secs(8);
/// For how long a container elsewhere is not taken for one that uses the network: the store hears of a container's
/// end a moment after 'docker rm' has returned.
const ENDING: Duration = Duration::from_secs(1);
/// How long the other hosts may take to remove a network that is gone.
const FOLLOWED: Duration = Duration::from_secs(10);
/// How often the store is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// What carries orders out.
pub(super) struct Orders {
    pub(super) engine: Arc<dyn EngineApi>,
    pub(super) ledger: Ledger,
    pub(super) local: Arc<Local>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) driver: Arc<DriverName>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Refused(String),
}

impl Orders {
    /// Creates a network, or joins the cluster's one of that name that this host has removed.
    pub(super) async fn create(&self, order: NetworkOrder) -> Result<NetworkMade, OrderError> {
        let Some(network) = self.named(&order.name).await? else {
            let docker_id = self.engine.create_network(&self.spec(order).await?).await?;
            return Ok(NetworkMade { id: docker_id.clone(), docker_id, joined: false });
        };
        if self.local.read(|data| data.binding_of(&network.id).is_some()) {
            return Err(OrderError::Refused(format!("network {} exists already", order.name)));
        }
        fits(&order, &network).map_err(OrderError::Refused)?;
        let spec = spec_of(self.driver.ask(&*self.engine).await?, &order.name, &network);
        let docker_id = match self.engine.create_network(&spec).await {
            Ok(id) => id,
            // It came by itself in this moment.
            Err(EngineError::NameTaken { name }) => self
                .local
                .read(|data| data.binding_of(&network.id).map(|binding| binding.docker_id.to_string()))
                .ok_or(EngineError::NameTaken { name })?,
            Err(error) => return Err(error.into()),
        };
        Ok(NetworkMade { docker_id, id: network.id.to_string(), joined: true })
    }

    async fn spec(&self, order: NetworkOrder) -> Result<NetworkSpec, EngineError> {
        let driver = self.driver.ask(&*self.engine).await?.to_owned();
        let ipam = order.subnets.into_iter().map(|subnet| IpamConfig {
            subnet: Some(subnet.subnet),
            gateway: subnet.gateway,
            ip_range: subnet.ip_range,
            aux: subnet.aux,
        });
        Ok(NetworkSpec {
            name: order.name,
            ipam_driver: if order.default_ipam { String::new() } else { driver.clone() },
            driver,
            internal: order.internal,
            attachable: order.attachable,
            without_ipv4: order.without_ipv4,
            ipv6: order.ipv6,
            options: order.options,
            labels: order.labels,
            ipam: ipam.collect(),
            ..NetworkSpec::default()
        })
    }

    /// Removes a network from this host, waits until it is settled what that means for the cluster, and
    /// where it is gone until the other hosts have followed.
    pub(super) async fn remove(&self, name: &str) -> Result<NetworkEnded, OrderError> {
        let binding = self.local.read(|data| {
            let called = |network: &Network| network.name.as_deref() == Some(name);
            let by_name = data.bindings.values().find(|binding| called(&binding.network));
            let known = |id: &NetworkId| id.as_str() == name;
            by_name
                .or_else(|| data.bindings.values().find(|b| known(&b.network.id) || known(&b.docker_id)))
                .cloned()
        });
        let Some(binding) = binding else {
            let known = self.named(name).await?.or_else(|| self.of_swarm(name));
            return Err(OrderError::Refused(match known {
                Some(network) if network.allocated && self.lives_on(&network).await?.is_empty() => {
                    return self.remove_ended(name, &network).await;
                }
                Some(network) => format!(
                    "network {name} is not on this host; it lives on {}",
                    listed(&self.lives_on(&network).await?)
                ),
                None => format!("there is no network {name} on this host; 'rs-overlay network ls' lists all"),
            }));
        };
        self.engine.remove_network(binding.docker_id.as_str()).await?;
        self.ended(name, binding.network.id, &binding.docker_id).await
    }

    /// A swarm's network that no host uses. Where the swarm is gone, or has lost its manager in the middle of the
    /// network's removal, nobody says that it has ended.
    async fn remove_ended(&self, name: &str, network: &Network) -> Result<NetworkEnded, OrderError> {
        let refused = |why: &str| Err(OrderError::Refused(format!("network {name} is a swarm's: {why}")));
        if let EngineMode::Swarm { manager: false, .. } = self.engine.mode().await? {
            return refused("remove it on a manager");
        }
        if self.engine.network(network.id.as_str()).await?.is_some() {
            return refused("remove it with 'docker network rm'");
        }
        let (title, since) = (network.title().to_owned(), clock::unix_seconds());
        let departure = Departure { network: network.id.clone(), title, since };
        let ended = self.local.remove_binding(&network.id, Some(departure));
        ended.map_err(|error| OrderError::Refused(error.to_string()))?;
        self.ended(name, network.id.clone(), &network.id).await
    }

    /// Waits until it is settled what the removal of a network here means for the cluster.
    async fn ended(
        &self,
        name: &str,
        id: NetworkId,
        docker_id: &NetworkId,
    ) -> Result<NetworkEnded, OrderError> {
        let mut changes = self.local.changes();
        let settled = async {
            while self
                .local
                .read(|data| data.bindings.contains_key(docker_id) || data.departures.contains_key(&id))
            {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SETTLED, settled).await.is_err() {
            return Err(OrderError::Refused(format!(
                "network {name} is removed on this host; the store has not been told within {} s, which is tried on",
                SETTLED.as_secs()
            )));
        }
        let now = Instant::now();
        let (used_until, end) = (now + ENDING, now + FOLLOWED);
        while let Some(held) = self.ledger.get::<Network>(&keys::network(&id)).await? {
            let users = self.users(&held.record).await?;
            // Where there are none, whoever had the last container is removing it.
            let until = if users.is_empty() { end } else { used_until };
            if Instant::now() >= until {
                let lives_on = self.homes(&id, users).await?;
                return Ok(NetworkEnded { id: id.to_string(), lives_on, still_on: Vec::new() });
            }
            tokio::time::sleep(LOOK).await;
        }
        let mut still_on = self.live_hosts_with(&id).await?;
        while !still_on.is_empty() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            still_on = self.live_hosts_with(&id).await?;
        }
        Ok(NetworkEnded { id: id.to_string(), lives_on: Vec::new(), still_on })
    }

    /// A swarm's network of this name or id: nobody claims its name.
    fn of_swarm(&self, name: &str) -> Option<Network> {
        let snapshot = self.snapshot.now();
        let mut networks = snapshot.networks.values().filter(|network| network.allocated);
        networks.find(|n| n.name.as_deref() == Some(name) || n.id.as_str() == name).cloned()
    }

    async fn named(&self, name: &str) -> Result<Option<Network>, StoreError> {
        let Some(claim) = self.ledger.get::<NetworkClaim>(&keys::name(name)).await? else { return Ok(None) };
        let network = self.ledger.get::<Network>(&keys::network(&claim.record.network)).await?;
        Ok(network.map(|held| held.record))
    }

    /// Hosts with containers in the network; where there are none, hosts that have it.
    async fn lives_on(&self, network: &Network) -> Result<Vec<String>, StoreError> {
        self.homes(&network.id, self.users(network).await?).await
    }

    async fn homes(&self, network: &NetworkId, users: BTreeSet<NodeId>) -> Result<Vec<String>, StoreError> {
        let hosts = if users.is_empty() { self.hosts_with(network).await? } else { users };
        let snapshot = self.snapshot.now();
        Ok(hosts.iter().map(|node| snapshot.node_title(node).to_owned()).collect())
    }

    /// Hosts that have containers in the network, by the store's word.
    async fn users(&self, network: &Network) -> Result<BTreeSet<NodeId>, StoreError> {
        hosts_using(&self.ledger, network, network.subnets.iter().map(|subnet| subnet.cidr)).await
    }

    async fn hosts_with(&self, network: &NetworkId) -> Result<BTreeSet<NodeId>, StoreError> {
        let present = self.ledger.store().range(&keys::present_of(network)).await?;
        Ok(present.iter().filter_map(|entry| keys::network_and_node(&entry.key)).map(|(_, n)| n).collect())
    }

    async fn live_hosts_with(&self, network: &NetworkId) -> Result<Vec<String>, StoreError> {
        let present = self.hosts_with(network).await?;
        let nodes = self.ledger.list::<Node>(keys::NODES).await?;
        let nodes = nodes.into_iter().filter(|node| present.contains(&node.record.id));
        Ok(nodes.map(|node| node.record.hostname).collect())
    }
}

/// Whether a network that exists is what was ordered, as far as the order says anything.
fn fits(order: &NetworkOrder, network: &Network) -> Result<(), String> {
    let has: Vec<_> = network.subnets.iter().map(|subnet| subnet.cidr.to_string()).collect();
    let known = |cidr: &ipnet::IpNet| network.subnets.iter().any(|subnet| subnet.cidr == cidr.trunc());
    let other = |what: &str| {
        format!("network {} lives on other hosts with {what}; leave that out to join it", order.name)
    };
    if !order.subnets.iter().all(|subnet| known(&subnet.subnet)) {
        return Err(other(&format!("subnet {}", has.join(", "))));
    }
    if order.internal && !network.internal {
        return Err(other("a way out (no --internal)"));
    }
    if order.without_ipv4 && network.has_ipv4() {
        return Err(other("IPv4"));
    }
    match order.options.iter().find(|(key, value)| network.options.get(*key) != Some(*value)) {
        Some((key, _)) => Err(other(&format!("another option {key}"))),
        None => Ok(()),
    }
}

fn listed(hosts: &[String]) -> String {
    if hosts.is_empty() { "no host that answers".to_owned() } else { hosts.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::admin::SubnetOrder;

    #[test]
    fn an_order_that_leaves_all_open_fits_and_one_that_differs_is_told_how() {
        let network = Network::plain("n", "10.9.0.0/24");
        let open = NetworkOrder { name: "blue".into(), ..NetworkOrder::default() };
        let with = |text: &str| {
            let subnet = text.parse().unwrap();
            let subnet = SubnetOrder { subnet, gateway: None, ip_range: None, aux: BTreeMap::new() };
            NetworkOrder { subnets: vec![subnet], ..open.clone() }
        };
        assert_eq!(fits(&open, &network), Ok(()));
        assert_eq!(fits(&with("10.9.0.0/24"), &network), Ok(()));
        assert!(fits(&with("10.8.0.0/24"), &network).unwrap_err().contains("10.9.0.0/24"));
        assert!(fits(&NetworkOrder { internal: true, ..open.clone() }, &network).is_err());
        let options = BTreeMap::from([("vni".to_owned(), "7".to_owned())]);
        assert!(fits(&NetworkOrder { options, ..open }, &network).unwrap_err().contains("vni"));
    }
}
