//! Tells the cluster what no driver call tells: a network's name, its labels and flags. Where the name is
//! the cluster's already, the engine's network gives way to that one.

use tracing::{info, warn};

use super::{Findings, Propagator, Unfinished};
use crate::{
    clock,
    engine::{EngineError, EngineNetwork, NetworkSpec},
    local::{Binding, LocalError},
    model::{IpamMode, JOIN_OPTION, Mode, Network, NetworkClaim, NetworkId},
    store::{Outcome, StoreError, Txn, keys, record},
    watched::Watched,
};

impl Propagator {
    /// Completes the record of a network that was created here with what no driver call tells: its name,
    /// its labels and flags. The name is claimed with it.
    pub(super) async fn tell_details(
        &self,
        docker: &EngineNetwork,
        found: &mut Findings,
    ) -> Result<(), Unfinished> {
        let Ok(docker_id) = NetworkId::new(docker.id.as_str()) else { return Ok(()) };
        let binding = self.local.read(|data| data.bindings.get(&docker_id).cloned());
        let known = self.snapshot.now().networks.get(&docker_id).cloned();
        let known = known.or_else(|| binding.as_ref().map(|binding| binding.network.clone()));
        if let Some(network) = known.filter(|network| network.mode() != Mode::Plain) {
            return self.tell_shared(docker, &network, binding.as_ref()).await;
        }
        let Some(binding) = binding else { return Ok(self.adopt(docker, &docker_id)?) };
        if binding.docker_id != binding.network.id && !docker.ipam_options.contains_key(JOIN_OPTION) {
            return self.check_joined(docker, &binding, found).await;
        }
        if binding.network.name.is_some() || binding.network.created_by != *self.local.node() {
            return self.refresh(&binding);
        }
        let key = keys::network(&binding.network.id);
        let Some(held) = self.ledger.get::<Network>(&key).await? else { return Ok(()) };
        if held.record.name.is_some() {
            return Ok(self.local.refresh_binding(&docker_id, &held.record)?);
        }
        let told = with_details(&held.record, docker);
        let name = keys::name(&docker.name);
        let txn = Txn::new().unchanged(&held.entry).put(key, record::encode(&told));
        let txn = match self.ledger.get::<NetworkClaim>(&name).await? {
            None => txn.absent(name.as_str()),
            Some(claim) if claim.record.network != told.id && self.exists(&claim.record.network).await? => {
                return self.yield_name(docker, &claim.record.network, found).await;
            }
            // Left behind by a network that is gone.
            Some(claim) => txn.unchanged(&claim.entry),
        };
        let claim = record::encode(&NetworkClaim { network: told.id.clone() });
        // After a lost race the next look, which the change itself brings about, finds the winner.
        if self.ledger.commit(txn.put(name, claim)).await? == Outcome::Committed {
            info!(network = %docker.name, "network told to the cluster");
            self.local.refresh_binding(&docker_id, &told)?;
        }
        Ok(())
    }

    /// The same for a network that engines share: a swarm's managers know it, and every host with one of its
    /// tasks; classic engines all do. Who comes first tells. Nobody claims the name, and the network is never
    /// replaced: the engines see to it that they have one of each name, and other engines may have another.
    async fn tell_shared(
        &self,
        docker: &EngineNetwork,
        network: &Network,
        binding: Option<&Binding>,
    ) -> Result<(), Unfinished> {
        match binding {
            Some(binding) => self.refresh(binding)?,
            // A classic engine has it from the moment at which another one has created it.
            None if network.mode() == Mode::Classic => self.adopt(docker, &network.id)?,
            None => {}
        }
        if network.name.is_some() {
            return Ok(());
        }
        let key = keys::network(&network.id);
        let Some(held) = self.ledger.get::<Network>(&key).await? else { return Ok(()) };
        if held.record.name.is_some() {
            return Ok(self.local.refresh_binding(&held.record.id, &held.record)?);
        }
        let told = with_details(&held.record, docker);
        // After a lost race the next look finds the name told.
        let txn = Txn::new().unchanged(&held.entry).put(key, record::encode(&told));
        if self.ledger.commit(txn).await? == Outcome::Committed {
            info!(network = %docker.name, "network told to the cluster");
            self.local.refresh_binding(&told.id, &told)?;
        }
        Ok(())
    }

    pub(super) async fn exists(&self, network: &NetworkId) -> Result<bool, StoreError> {
        Ok(self.ledger.get::<Network>(&keys::network(network)).await?.is_some())
    }

    /// Keeps the copy that a start without the store would go by.
    fn refresh(&self, binding: &Binding) -> Result<(), Unfinished> {
        let snapshot = self.snapshot.now();
        if let Some(newest) = snapshot.networks.get(&binding.network.id) {
            self.local.refresh_binding(&binding.docker_id, newest)?;
        }
        Ok(())
    }

    /// The engine has a network of ours that this host's state does not know, as after the loss of the
    /// state directory: its IPAM option, or its own id, says which network of the cluster it is.
    fn adopt(&self, docker: &EngineNetwork, docker_id: &NetworkId) -> Result<(), LocalError> {
        let snapshot = self.snapshot.now();
        let named = docker.ipam_options.get(JOIN_OPTION).and_then(|id| NetworkId::new(id.as_str()).ok());
        let id = named.unwrap_or_else(|| docker_id.clone());
        let Some(network) = snapshot.networks.get(&id).or_else(|| {
            // One that was joined again by its subnet bears no id.
            let plain = |network: &&Network| network.mode() == Mode::Plain && has_subnets_of(docker, network);
            snapshot.network_named(&docker.name).filter(plain)
        }) else {
            return Ok(());
        };
        let id = network.id.clone();
        if self.local.read(|data| data.binding_of(&id).is_some() || data.departures.contains_key(&id)) {
            return Ok(());
        }
        info!(network = network.title(), "taking over a network that the engine has already");
        let ipam = if docker.ipam_driver == self.driver.known() { IpamMode::Ours } else { IpamMode::Engine };
        let (docker_id, network) = (docker_id.clone(), network.clone());
        self.local.put_binding(Binding { docker_id, network, ipam, created_at: clock::unix_seconds() })
    }

    /// A network that was joined by nothing but its subnet, on a host that had removed it: the name shows
    /// whether that one was meant.
    async fn check_joined(
        &self,
        docker: &EngineNetwork,
        binding: &Binding,
        found: &mut Findings,
    ) -> Result<(), Unfinished> {
        let title = binding.network.title();
        if binding.network.name.as_deref() != Some(docker.name.as_str()) {
            warn!(network = %docker.name, of = title, "a network with the subnet of another one is removed again");
            if !self.give_way(docker, &binding.docker_id, found).await? {
                return Ok(());
            }
            self.engine.remove_network(&docker.id).await?;
            return self.create_with_other_subnets(docker, binding, found).await;
        }
        let used = self.local.read(|data| data.networks_in_use().contains(&binding.network.id));
        if binding.ipam == IpamMode::Ours && (used || is_alike(docker, &binding.network)) {
            return self.refresh(binding);
        }
        // The engine's own IPAM begins at the same end as the one of the host that created the network, and
        // compose compares labels and flags.
        if !self.give_way(docker, &binding.docker_id, found).await? {
            return Ok(());
        }
        info!(network = title, "joined again by its subnet; creating it as it is on the other hosts");
        // Without its binding its removal is nobody's wish to end the network.
        self.local.remove_binding(&binding.docker_id, None)?;
        if let Err(error) = self.engine.remove_network(&docker.id).await {
            self.local.put_binding(binding.clone())?;
            return Err(error.into());
        }
        self.create_here(&docker.name, &binding.network, found).await
    }

    /// A network whose IPv6 subnet the engine chose, and chose badly because it looks at no IPv6 route: the
    /// user wanted it and said nothing of subnets, so it gets others.
    async fn create_with_other_subnets(
        &self,
        docker: &EngineNetwork,
        binding: &Binding,
        found: &mut Findings,
    ) -> Result<(), Unfinished> {
        // Engines list the gateway of a subnet that they have chosen, and not that of one that was given alone.
        let chosen = docker.ipam.iter().all(|config| config.gateway.is_some());
        let has = |cidr| docker.ipam.iter().any(|config| config.subnet == Some(cidr));
        let shared = binding.network.subnets.iter().filter(|subnet| has(subnet.cidr));
        if !chosen || shared.into_iter().any(|subnet| subnet.cidr.addr().is_ipv4()) {
            return Ok(());
        }
        let spec = NetworkSpec {
            name: docker.name.clone(),
            driver: self.driver.known().to_owned(),
            internal: docker.internal,
            attachable: docker.attachable,
            without_ipv4: !docker.ipam.iter().filter_map(|c| c.subnet).any(|cidr| cidr.addr().is_ipv4()),
            ipv6: docker.ipv6,
            options: docker.options.clone(),
            labels: docker.labels.clone(),
            ipam_driver: self.driver.known().to_owned(),
            ..NetworkSpec::default()
        };
        match self.engine.create_network(&spec).await {
            Ok(_) => info!(network = %docker.name, "created anew, with subnets that are free in the cluster"),
            Err(error @ (EngineError::Unreachable { .. } | EngineError::Timeout { .. })) => {
                return Err(error.into());
            }
            Err(error) => found.problems.push(format!(
                "network {} was removed, since network {} of the cluster has its IPv6 subnet, and could not be created with another: {error}",
                docker.name,
                binding.network.title()
            )),
        }
        Ok(())
    }

    /// The cluster has a network of this name: two hosts have created it at the same time and the other was
    /// first, or this host had removed it and wants it back.
    async fn yield_name(
        &self,
        docker: &EngineNetwork,
        winner: &NetworkId,
        found: &mut Findings,
    ) -> Result<(), Unfinished> {
        let Ok(docker_id) = NetworkId::new(docker.id.as_str()) else { return Ok(()) };
        if !self.give_way(docker, &docker_id, found).await? {
            return Ok(());
        }
        warn!(network = %docker.name, "the cluster has a network of this name already; taking that one");
        // Whoever creates it here wants it here, even if it was removed here before.
        let back = keys::departed(winner, self.local.node());
        self.ledger.commit(Txn::new().delete(back)).await?;
        self.engine.remove_network(&docker.id).await?;
        // At once, so that a container that is started by its name finds it.
        let winner = self.ledger.get::<Network>(&keys::network(winner)).await?;
        match winner.map(|held| held.record).filter(|network| network.name.as_ref() == Some(&docker.name)) {
            Some(network) => self.create_here(&docker.name, &network, found).await,
            None => Ok(()),
        }
    }

    /// Lets no container begin on a network from now on; `false` if there are some already.
    async fn give_way(
        &self,
        docker: &EngineNetwork,
        docker_id: &NetworkId,
        found: &mut Findings,
    ) -> Result<bool, EngineError> {
        found.yielding.insert(docker_id.clone(), docker.name.clone());
        self.report.send_if_modified(|report| {
            report.yielding.insert(docker_id.clone(), docker.name.clone()).is_none()
        });
        // Only from here on does what the engine lists stay as it is.
        let now = self.engine.network(&docker.id).await?;
        let used = self.local.read(|data| data.endpoints.values().any(|e| e.docker_network == *docker_id));
        if !used && now.is_none_or(|now| now.endpoints.is_empty()) {
            found.yielding.remove(docker_id);
            return Ok(true);
        }
        found.problems.push(format!(
            "network {} is another one in the cluster, and here it has containers already: stop them and run 'docker network rm {}', then it appears again as the cluster's",
            docker.name, docker.id.get(..12).unwrap_or(&docker.id)
        ));
        Ok(false)
    }
}

fn with_details(network: &Network, docker: &EngineNetwork) -> Network {
    let mut told = network.clone();
    told.name = Some(docker.name.clone());
    told.labels = docker.labels.clone();
    told.attachable = docker.attachable;
    told.internal = docker.internal;
    told.ipv6 = docker.ipv6;
    for subnet in &mut told.subnets {
        // The engine's own IPAM keeps a range to itself; the other hosts must not leave it either.
        if let Some(config) = docker.ipam.iter().find(|config| config.subnet == Some(subnet.cidr)) {
            subnet.ip_range = subnet.ip_range.or(config.ip_range);
            subnet.gateway_unlisted = config.gateway.is_none();
        }
    }
    told
}

fn has_subnets_of(docker: &EngineNetwork, network: &Network) -> bool {
    let has = docker.ipam.iter().filter_map(|config| config.subnet);
    has.eq(network.subnets.iter().map(|subnet| subnet.cidr))
}

/// Whether the engine's network is as it would be created here.
fn is_alike(docker: &EngineNetwork, network: &Network) -> bool {
    has_subnets_of(docker, network)
        && docker.ipam.iter().zip(&network.subnets).all(|(config, subnet)| config.gateway == subnet.gateway)
        && docker.labels == network.labels
        && docker.options == network.options
        && docker.internal == network.internal
        && docker.attachable == network.attachable
        && docker.ipv6 == network.ipv6
}
