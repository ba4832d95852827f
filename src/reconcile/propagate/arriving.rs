//! Networks of the cluster that this host's engine does not have.

use std::collections::BTreeSet;

use tracing::info;

use super::{Findings, Propagator, Unfinished};
use crate::{
    engine::{EngineError, IpamConfig, NetworkSpec},
    model::{Endpoint, JOIN_OPTION, Mode, Network},
    store::{StoreError, keys},
    watched::Watched,
};

impl Propagator {
    pub(super) async fn create_new(&self, found: &mut Findings) -> Result<(), Unfinished> {
        let snapshot = self.snapshot.now();
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
        match self.engine.create_network(&spec_of(self.driver.known(), name, network)).await {
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
        let snapshot = self.snapshot.now();
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
        if self.snapshot.now().departed.contains(&network.id) {
            return Ok(true);
        }
        Ok(self.ledger.store().range(&mark).await?.iter().any(|entry| entry.key == mark))
    }
}

/// How an engine whose driver is called `driver` creates a network of the cluster.
pub fn spec_of(driver: &str, name: &str, network: &Network) -> NetworkSpec {
    let mut ipam_options = network.ipam_options.clone();
    // Not among the driver's options: compose 1.29 compares those, and would refuse the network.
    ipam_options.insert(JOIN_OPTION.to_owned(), network.id.to_string());
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
        ipam_options,
        ipam: ipam.collect(),
    }
}
