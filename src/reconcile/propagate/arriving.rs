//! Networks of the cluster that this host's engine does not have.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{Findings, Propagator, Unfinished};
use crate::{
    engine::{EngineApi, EngineError, IpamConfig, NetworkSpec},
    local::Local,
    model::{Endpoint, Mode, Network, NetworkId},
    store::{StoreError, keys},
};

impl Propagator {
    pub(super) async fn create_new(&self, found: &mut Findings) -> Result<(), Unfinished> {
        let snapshot = self.snapshot.borrow().clone();
        for network in snapshot.networks.values().filter(|network| network.mode() == Mode::Plain) {
            let Some(name) = &network.name else { continue };
            let here = self.local.read(|data| {
                data.binding_of(&network.id).is_some() || data.departures.contains_key(&network.id)
            });
            if here {
                continue;
            }
            if self.has_departed(network).await? {
                found.elsewhere.push(self.where_it_lives(name, network).await?);
                continue;
            }
            if let Some(other) = self.engine.network(name).await? {
                found.problems.push(format!(
                    "network {name} of the cluster cannot be created here: the engine has another one of that name (driver {}); remove or rename that one",
                    other.driver
                ));
                continue;
            }
            self.create_here(name, network, found).await?;
        }
        Ok(())
    }

    /// Creates a network of the cluster in this host's engine.
    pub(super) async fn create_here(
        &self,
        name: &str,
        network: &Network,
        found: &mut Findings,
    ) -> Result<(), Unfinished> {
        // The snapshot may be a moment behind, and somebody may want the subnet of a network that is gone.
        if !self.exists(&network.id).await? {
            return Ok(());
        }
        match create(&*self.engine, &self.local, self.driver.known(), name, network).await {
            Ok(_) => info!(network = %name, "network of the cluster created here"),
            Err(error @ (EngineError::Unreachable { .. } | EngineError::Timeout { .. })) => {
                return Err(error.into());
            }
            Err(EngineError::Unable { detail, .. }) => {
                found.problems.push(format!("network {name} of the cluster cannot be on this host: {detail}; it comes by itself once the engine is upgraded"));
            }
            Err(error) => {
                found.problems.push(format!("network {name} of the cluster cannot be created here: {error}"));
            }
        }
        Ok(())
    }

    async fn where_it_lives(&self, name: &str, network: &Network) -> Result<String, StoreError> {
        let endpoints = self.ledger.list::<Endpoint>(&keys::endpoints(&network.id)).await?;
        let snapshot = self.snapshot.borrow().clone();
        let hosts: BTreeSet<_> = endpoints.iter().map(|e| snapshot.node_title(&e.record.node)).collect();
        let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
        Ok(format!(
            "network {name} was removed here while containers on {} used it; 'docker network create' or 'compose up' of that name joins it again",
            if hosts.is_empty() { "other hosts" } else { hosts.as_str() }
        ))
    }

    async fn has_departed(&self, network: &Network) -> Result<bool, StoreError> {
        let mark = keys::departed(&network.id, self.local.node());
        // A store that was emptied has lost the mark until it is filled again.
        if self.snapshot.borrow().departed.contains(&network.id) {
            return Ok(true);
        }
        Ok(self.ledger.store().range(&mark).await?.iter().any(|entry| entry.key == mark))
    }
}

/// Creates a network of the cluster, under `name`, in an engine whose driver is called `driver`: announced, so
/// that the driver knows the calls that follow. Answers Docker's id.
pub async fn create(
    engine: &dyn EngineApi,
    local: &Local,
    driver: &str,
    name: &str,
    network: &Network,
) -> Result<String, EngineError> {
    let _announced = local.announce(network);
    let id = engine.create_network(&spec_of(driver, name, network)).await?;
    let Ok(docker_id) = NetworkId::new(id.as_str()) else { return Ok(id) };
    let joined = local.read(|data| data.bindings.get(&docker_id).map(|binding| binding.network.id.clone()));
    if joined.is_some_and(|joined| joined != network.id) {
        // Removed everywhere in this moment, and another's request was taken for ours: it must not come back.
        engine.remove_network(&id).await?;
        let detail = "the network was removed in this moment".to_owned();
        return Err(EngineError::Refused { what: "network create".to_owned(), detail });
    }
    if let Err(error) = local.settle_binding(&docker_id) {
        // The next look at the engine's list settles it as well.
        warn!(network = %name, %error, "not noted yet that the network is the cluster's");
    }
    Ok(id)
}

/// Nothing in it but what the network has on its first host: compose 1.29 compares options of drivers and, where its
/// file has an `ipam:` section, of IPAM drivers, and refuses a network that has one more.
fn spec_of(driver: &str, name: &str, network: &Network) -> NetworkSpec {
    let ipam = network.subnets.iter().map(|subnet| IpamConfig {
        subnet: Some(subnet.cidr),
        gateway: subnet.gateway.filter(|_| !subnet.gateway_unlisted),
        ip_range: subnet.ip_range,
        aux: subnet.aux.clone(),
    });
    NetworkSpec {
        name: name.to_owned(),
        driver: driver.to_owned(),
        internal: network.internal,
        attachable: network.attachable,
        without_ipv4: !network.has_ipv4(),
        ipv6: network.ipv6,
        options: network.options.clone(),
        labels: network.labels.clone(),
        ipam_driver: driver.to_owned(),
        ipam_options: network.ipam_options.clone(),
        ipam: ipam.collect(),
    }
}
