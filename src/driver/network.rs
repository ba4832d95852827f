//! Networks: `CreateNetwork`, `DeleteNetwork`, and for swarm managers `AllocateNetwork`, `FreeNetwork`.

mod claim;
mod swarm;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::warn;

use super::{Driver, DriverError, NetworkOptions};
use crate::{
    clock,
    local::{Binding, Departure},
    model::{IpamMode, Mode, Network, NetworkId, Pool, Underlay},
    plan::{carried_by_all, vxlan_overhead},
    store::{Txn, keys},
    watched::Watched,
};

/// What engines call the global space of their own IPAM.
const ENGINES_GLOBAL_SPACE: &str = "GlobalDefault";

/// A network as the engine describes it, which is without a name and without labels.
#[derive(Debug, Clone)]
pub struct NewNetwork {
    /// Docker's id.
    pub docker_id: NetworkId,
    /// The user's options.
    pub options: BTreeMap<String, String>,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<NewSubnet>,
    /// A swarm manager asks, not a host that will run containers.
    pub allocate: bool,
}

/// A subnet as IPAM has chosen it.
#[derive(Debug, Clone)]
pub struct NewSubnet {
    /// Address space of the IPAM that chose it.
    pub space: String,
    /// The subnet.
    pub cidr: IpNet,
    /// Its gateway.
    pub gateway: Option<IpAddr>,
    /// `--aux-address`.
    pub aux: BTreeMap<String, IpAddr>,
}

impl NewSubnet {
    /// Reads the texts of the call.
    pub fn parse(
        space: &str,
        pool: &str,
        gateway: &str,
        aux: &BTreeMap<String, String>,
    ) -> Result<Self, DriverError> {
        let cidr = super::parse_cidr("subnet", pool)?;
        let gateway = if gateway.is_empty() { None } else { Some(super::parse_ip(gateway)?) };
        let aux = aux.iter().map(|(name, ip)| Ok((name.clone(), super::parse_ip(ip)?)));
        Ok(Self { space: space.to_owned(), cidr, gateway, aux: aux.collect::<Result<_, DriverError>>()? })
    }

    /// Whether engines share the network that it is for: a driver of scope global gets its subnets from the
    /// global space of whichever IPAM, and this is where that shows.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.space.as_str(), super::GLOBAL_SPACE | ENGINES_GLOBAL_SPACE)
    }
}

impl Driver {
    /// Makes a network of the cluster, or binds Docker's network to the one that its subnet belongs to.
    pub async fn create_network(&self, new: NewNetwork) -> Result<(), DriverError> {
        self.make_network(new).await.map_err(DriverError::of_new_network)
    }

    async fn make_network(&self, new: NewNetwork) -> Result<(), DriverError> {
        let options = NetworkOptions::parse(&new.options)?;
        if new.subnets.is_empty() {
            return Err(DriverError::invalid(
                "network",
                new.docker_id.short(),
                "one with a subnet (--ipam-driver null is of no use here)",
            ));
        }
        self.check_mtu(options)?;
        let bound = self.local.read(|data| data.bindings.get(&new.docker_id).cloned());
        if let Some(binding) = bound.filter(|_| !new.allocate) {
            return same_subnets(&binding.network, &new);
        }
        self.settled().await?;
        if !self.takes_part(&new).await? {
            self.settle_departures().await;
        }
        if let Some(known) = self.ledger.get::<Network>(&keys::network(&new.docker_id)).await? {
            let same = same_subnets(&known.record, &new);
            if new.allocate && same.is_err() && known.record.allocated {
                self.forget_allocation(&known.record).await?;
            } else {
                same?;
                if new.allocate {
                    self.begin_term(&known.record).await?;
                }
                return self.bind(&new, known.record, IpamMode::Ours);
            }
        }
        let ours = if new.allocate {
            self.has_our_pools(&new).await?
        } else {
            new.subnets.iter().all(|subnet| is_ours(&subnet.space))
        };
        if ours {
            self.create_on_our_pools(new, options).await
        } else {
            self.create_on_engine_pools(new, options).await
        }
    }

    /// Whether the subnet is one of a network that this host has not just left: joining that one need not
    /// wait for the end of others.
    async fn takes_part(&self, new: &NewNetwork) -> Result<bool, DriverError> {
        let Some(first) = new.subnets.first() else { return Ok(false) };
        let pool = self.ledger.get::<Pool>(&keys::pool(&first.cidr)).await?;
        let owner = pool.and_then(|pool| pool.record.network);
        Ok(owner.is_some_and(|owner| self.local.read(|data| !data.departures.contains_key(&owner))))
    }

    async fn create_on_our_pools(&self, new: NewNetwork, options: NetworkOptions) -> Result<(), DriverError> {
        let mut pools = Vec::new();
        for subnet in &new.subnets {
            let pool = self.ledger.get::<Pool>(&keys::pool(&subnet.cidr)).await?;
            pools.push(
                pool.ok_or(DriverError::PoolGone {
                    cidr: subnet.cidr,
                    why: "is not claimed in the cluster",
                })?,
            );
        }
        let owners: BTreeSet<_> = pools.iter().map(|pool| pool.record.network.clone()).collect();
        match owners.first() {
            Some(Some(owner)) if new.allocate => Err(self.taken_in_swarm(&new, owner)),
            Some(Some(owner)) if owners.len() == 1 => self.join_network(&new, owner, options).await,
            Some(None) if owners.len() == 1 => {
                let network = self.claim_network(&new, options, &pools, IpamMode::Ours).await?;
                self.bind(&new, network, IpamMode::Ours)
            }
            _ => Err(DriverError::Conflict {
                network: new.docker_id.short().to_owned(),
                conflict: "mixes subnets of several networks; give it subnets of its own".to_owned(),
            }),
        }
    }

    /// Docker's network is one that the cluster has already: this host takes part from now on.
    async fn join_network(
        &self,
        new: &NewNetwork,
        owner: &NetworkId,
        options: NetworkOptions,
    ) -> Result<(), DriverError> {
        let network = self.ledger.get::<Network>(&keys::network(owner)).await?;
        let network = network.ok_or_else(|| DriverError::NoSuchNetwork { name: owner.to_string() })?.record;
        let conflict =
            |conflict: String| DriverError::Conflict { network: network.title().to_owned(), conflict };
        if let Some(other) = self.local.read(|data| data.binding_of(owner).map(|b| b.docker_id.clone())) {
            return Err(conflict(format!(
                "is on this host already, as Docker network {}; use that one",
                other.short()
            )));
        }
        if network.mode() != Mode::Plain || new.subnets.iter().any(NewSubnet::is_shared) {
            return Err(conflict(of_another_mode(&network)));
        }
        if options.vni.is_some_and(|vni| vni != network.vni) {
            return Err(conflict(format!("has VNI {}; leave the option out", network.vni)));
        }
        if options.mtu.is_some() && options.mtu != network.mtu {
            let mtu = network.mtu.map_or("no fixed MTU".to_owned(), |mtu| format!("MTU {mtu}"));
            return Err(conflict(format!("has {mtu}; leave the option out")));
        }
        if options.flood.is_some_and(|flood| flood != network.floods()) {
            let flood = if network.floods() { "on" } else { "off" };
            return Err(conflict(format!("has flood={flood}; leave the option out")));
        }
        let back = Txn::new().delete(keys::departed(owner, self.node()));
        self.ledger.commit(back).await?;
        self.bind(new, network, IpamMode::Ours)
    }

    async fn create_on_engine_pools(
        &self,
        new: NewNetwork,
        options: NetworkOptions,
    ) -> Result<(), DriverError> {
        if let Some(network) = self.departed_with(&new).await? {
            return self.join_network(&new, &network.id, options).await;
        }
        let mut pools = Vec::new();
        let result = self.claim_engine_network(&new, options, &mut pools).await;
        if result.is_err() {
            for pool in &pools {
                // The sweep takes what cannot be given back now.
                if let Err(error) = self.abandon_pool(pool).await {
                    warn!(pool = %pool.record.cidr, %error, "subnet not given back yet");
                }
            }
        }
        self.bind(&new, result?, IpamMode::Engine)
    }

    /// The network that was removed here, lives elsewhere and has just these subnets, or one of the IPv6
    /// ones: engines look at no route when they choose those, so they choose what a network had that is no
    /// longer theirs again and again, and only the name tells whether that one is wanted back.
    async fn departed_with(&self, new: &NewNetwork) -> Result<Option<Network>, DriverError> {
        let others = new.subnets.iter().skip(1).filter(|subnet| is_v6(&subnet.cidr));
        for subnet in new.subnets.iter().take(1).chain(others) {
            let network = self.departed_network(&subnet.cidr).await?;
            let meant = |network: &Network| same_subnets(network, new).is_ok() || is_v6(&subnet.cidr);
            if let Some(network) = network.filter(meant) {
                return Ok(Some(network));
            }
        }
        Ok(None)
    }

    fn bind(&self, new: &NewNetwork, network: Network, ipam: IpamMode) -> Result<(), DriverError> {
        if new.allocate {
            return Ok(());
        }
        // Where the engine shares a network that its own IPAM serves, that IPAM serves it on every host.
        let ipam =
            if new.subnets.iter().all(|subnet| is_ours(&subnet.space)) { ipam } else { IpamMode::Engine };
        let binding =
            Binding { docker_id: new.docker_id.clone(), network, ipam, created_at: clock::unix_seconds() };
        self.local.put_binding(binding)?;
        Ok(())
    }

    /// More than the underlay carries would lose large packets without a sign.
    fn check_mtu(&self, options: NetworkOptions) -> Result<(), DriverError> {
        let Underlay { vtep, mtu: underlay, .. } = self.underlay.now();
        let most = carried_by_all(&self.snapshot(), vtep, underlay);
        let underlay = most + vxlan_overhead(vtep);
        match options.mtu {
            Some(mtu) if mtu > most => Err(DriverError::MtuTooLarge { mtu, underlay, most }),
            _ => Ok(()),
        }
    }

    /// Forgets the engine's network and queues the question what becomes of the cluster's.
    pub fn delete_network(&self, docker_id: &NetworkId) -> Result<(), DriverError> {
        let binding = self.local.read(|data| data.bindings.get(docker_id).cloned());
        let network = binding
            .map(|binding| binding.network)
            .or_else(|| self.snapshot().networks.get(docker_id).cloned());
        let unknown = network.is_none() && self.config.roles.now().mode() == Some(Mode::Classic);
        // A swarm's networks come to a host with its first task and leave with the last; the manager
        // says when they end.
        let departure = network.filter(|network| !network.allocated).map(|network| departure_of(&network));
        // Engines that share a network remove it on any host, also on one that has not heard of it yet.
        let departure = departure.or_else(|| {
            unknown.then(|| Departure {
                network: docker_id.clone(),
                title: docker_id.short().to_owned(),
                since: clock::unix_seconds(),
            })
        });
        self.local.remove_binding(docker_id, departure)?;
        Ok(())
    }

    /// The manager of a swarm gives a network up.
    pub async fn free_network(&self, docker_id: &NetworkId) -> Result<(), DriverError> {
        let network = match self.snapshot().networks.get(docker_id) {
            Some(network) => Some(network.clone()),
            None => self.ledger.get::<Network>(&keys::network(docker_id)).await?.map(|held| held.record),
        };
        self.local.remove_binding(docker_id, network.map(|network| departure_of(&network)))?;
        Ok(())
    }
}

/// Why an engine cannot take part in a network: it would be another one under the same addresses.
pub(super) fn of_another_mode(network: &Network) -> String {
    let whose = match network.mode() {
        Mode::Plain => "plain engines",
        Mode::Classic => "engines with a cluster store of their own",
        Mode::Swarm => "a swarm",
    };
    format!(
        "is one of {whose}, and this engine runs in another mode: give this network a name and a subnet of its own"
    )
}

fn departure_of(network: &Network) -> Departure {
    Departure { network: network.id.clone(), title: network.title().to_owned(), since: clock::unix_seconds() }
}

fn is_ours(space: &str) -> bool {
    // A swarm's manager leaves the space out when it repeats what our IPAM has chosen.
    matches!(space, super::LOCAL_SPACE | super::GLOBAL_SPACE | "")
}

fn is_v6(cidr: &IpNet) -> bool {
    matches!(cidr, IpNet::V6(_))
}

fn same_subnets(known: &Network, new: &NewNetwork) -> Result<(), DriverError> {
    let old: BTreeSet<_> = known.subnets.iter().map(|subnet| subnet.cidr).collect();
    let wanted: BTreeSet<_> = new.subnets.iter().map(|subnet| subnet.cidr).collect();
    if old == wanted {
        return Ok(());
    }
    // `docker network create --ipv6`: the manager passes the word on and allocates nothing, and each node's engine
    // then asks for a subnet of its own.
    let only_v6_is_new = wanted.is_superset(&old) && wanted.difference(&old).all(is_v6);
    let conflict = if known.mode() == Mode::Swarm && only_v6_is_new {
        "is a swarm's, and swarms hand out IPv4 addresses alone: create it without --ipv6"
    } else {
        "exists with other subnets; remove it first"
    };
    let conflict = conflict.to_owned();
    Err(DriverError::Conflict { network: known.title().to_owned(), conflict })
}
