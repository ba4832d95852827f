//! Networks: `CreateNetwork`, `DeleteNetwork`, and for swarm managers `AllocateNetwork`, `FreeNetwork`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::{info, warn};

use super::{Driver, DriverError, NetworkOptions, claims::TRIES};
use crate::{
    clock,
    ipam::choose_vni,
    local::{Binding, Departure},
    model::{AddressClaim, ClaimKind, IpamMode, Network, NetworkClaim, NetworkId, Pool, Space, Subnet, Vni},
    plan::vxlan_overhead,
    store::{Outcome, TXN_LIMIT, Txn, keys, ledger::Held, record},
};

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
}

impl Driver {
    /// Makes a network of the cluster, or binds Docker's network to the one that its subnet belongs to.
    pub async fn create_network(&self, new: NewNetwork) -> Result<(), DriverError> {
        let options = NetworkOptions::parse(&new.options)?;
        if new.subnets.is_empty() {
            return Err(DriverError::invalid(
                "network",
                new.docker_id.short(),
                "one with a subnet (--ipam-driver null is of no use here)",
            ));
        }
        self.check_mtu(options)?;
        if let Some(binding) = self.local.read(|data| data.bindings.get(&new.docker_id).cloned()) {
            return same_subnets(&binding.network, &new);
        }
        if !self.takes_part(&new).await? {
            self.settle_departures().await;
        }
        if let Some(known) = self.ledger.get::<Network>(&keys::network(&new.docker_id)).await? {
            same_subnets(&known.record, &new)?;
            return self.bind(&new, known.record, IpamMode::Ours);
        }
        if new.subnets.iter().all(|subnet| is_ours(&subnet.space)) {
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
        if options.vni.is_some_and(|vni| vni != network.vni) {
            return Err(conflict(format!("has VNI {}; leave the option out", network.vni)));
        }
        if options.mtu.is_some() && options.mtu != network.mtu {
            let mtu = network.mtu.map_or("no fixed MTU".to_owned(), |mtu| format!("MTU {mtu}"));
            return Err(conflict(format!("has {mtu}; leave the option out")));
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

    /// The network that was removed here, lives elsewhere and has just these subnets.
    async fn departed_with(&self, new: &NewNetwork) -> Result<Option<Network>, DriverError> {
        let Some(first) = new.subnets.first() else { return Ok(None) };
        let network = self.departed_network(&first.cidr).await?;
        Ok(network.filter(|network| same_subnets(network, new).is_ok()))
    }

    async fn claim_engine_network(
        &self,
        new: &NewNetwork,
        options: NetworkOptions,
        pools: &mut Vec<Held<Pool>>,
    ) -> Result<Network, DriverError> {
        for subnet in &new.subnets {
            let pool = Pool {
                cidr: subnet.cidr,
                space: Space::Engine,
                ip_range: None,
                options: BTreeMap::new(),
                network: None,
                node: self.node().clone(),
                since: clock::unix_seconds(),
                closing: false,
                extra: BTreeMap::new(),
            };
            pools.push(self.claim_pool(&pool, true).await.map_err(|error| self.advise_engine(error))?);
        }
        self.claim_network(new, options, pools, IpamMode::Engine).await
    }

    /// The engine's own IPAM cannot see the cluster: it is shown the refused subnet, and the user is told.
    fn advise_engine(&self, error: DriverError) -> DriverError {
        match error {
            DriverError::Overlap { cidr, overlap, advice } => {
                self.refuse_subnet(&cidr);
                let advice =
                    format!("{advice}, or run the command again if Docker chose it: it will choose another");
                DriverError::Overlap { cidr, overlap, advice }
            }
            other => other,
        }
    }

    /// Writes the network's record, its claims on subnets, VNI, gateways and auxiliary addresses, all in
    /// one transaction.
    async fn claim_network(
        &self,
        new: &NewNetwork,
        options: NetworkOptions,
        pools: &[Held<Pool>],
        ipam: IpamMode,
    ) -> Result<Network, DriverError> {
        for attempt in 0..TRIES {
            let vni = self.pick_vni(options, attempt).await?;
            let network = self.new_network(new, options, vni, pools, ipam);
            let txn = network_txn(&network, pools);
            if txn.len() > TXN_LIMIT {
                return Err(DriverError::invalid(
                    "network",
                    new.docker_id.short(),
                    "one with fewer subnets and auxiliary addresses",
                ));
            }
            if self.ledger.commit(txn).await? == Outcome::Committed {
                info!(network = %network.id.short(), %vni, subnets = ?network.subnets.iter().map(|s| s.cidr.to_string()).collect::<Vec<_>>(), "network created");
                return Ok(network);
            }
            // Either the VNI went to somebody else, which another round finds out, or the pool did.
            for pool in pools {
                let now = self.ledger.get::<Pool>(&pool.entry.key).await?;
                if now.is_none_or(|now| now.entry.revision != pool.entry.revision) {
                    return Err(DriverError::PoolGone {
                        cidr: pool.record.cidr,
                        why: "was taken by another host in the meantime",
                    });
                }
            }
        }
        Err(DriverError::Contended { what: "a VNI", tries: TRIES })
    }

    async fn pick_vni(&self, options: NetworkOptions, attempt: u32) -> Result<Vni, DriverError> {
        let claims = self.ledger.list::<NetworkClaim>(keys::VNIS).await?;
        let vni_of = |key: &str| key.rsplit('/').next().and_then(|number| number.parse::<Vni>().ok());
        if let Some(vni) = options.vni {
            let Some(held) = claims.iter().find(|claim| vni_of(&claim.entry.key) == Some(vni)) else {
                return Ok(vni);
            };
            let snapshot = self.snapshot();
            let holder = &held.record.network;
            let holder =
                snapshot.networks.get(holder).map_or(holder.short(), |network| network.title()).to_owned();
            return Err(DriverError::VniTaken { vni, holder });
        }
        let taken = claims.iter().filter_map(|claim| vni_of(&claim.entry.key)).collect();
        let skip = if attempt == 0 { 0 } else { rand::random_range(0..=attempt) };
        choose_vni(&taken, skip).ok_or(DriverError::NoVni)
    }

    fn new_network(
        &self,
        new: &NewNetwork,
        options: NetworkOptions,
        vni: Vni,
        pools: &[Held<Pool>],
        ipam: IpamMode,
    ) -> Network {
        let subnets = new.subnets.iter().zip(pools).map(|(subnet, pool)| Subnet {
            cidr: subnet.cidr,
            gateway: subnet.gateway,
            gateway_unlisted: false,
            ip_range: pool.record.ip_range,
            aux: subnet.aux.clone(),
        });
        Network {
            id: new.docker_id.clone(),
            name: None,
            subnets: subnets.collect(),
            vni,
            mtu: options.mtu,
            internal: new.internal,
            attachable: false,
            ipv6: new.ipv6 || new.subnets.iter().any(|subnet| matches!(subnet.cidr, IpNet::V6(_))),
            ipam,
            options: new.options.clone(),
            ipam_options: pools.iter().flat_map(|pool| pool.record.options.clone()).collect(),
            labels: BTreeMap::new(),
            created_by: self.node().clone(),
            created_at: clock::unix_seconds(),
            allocated: new.allocate,
            extra: BTreeMap::new(),
        }
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
        let underlay = *self.underlay_mtu.borrow();
        let most = underlay.saturating_sub(vxlan_overhead(self.config.vtep));
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
        // A swarm's networks come to a host with its first task and leave with the last; the manager
        // says when they end.
        let departure = network.filter(|network| !network.allocated).map(|network| departure_of(&network));
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

fn departure_of(network: &Network) -> Departure {
    Departure { network: network.id.clone(), title: network.title().to_owned(), since: clock::unix_seconds() }
}

fn is_ours(space: &str) -> bool {
    // A swarm's manager leaves the space out when it repeats what our IPAM has chosen.
    matches!(space, super::LOCAL_SPACE | super::GLOBAL_SPACE | "")
}

fn same_subnets(known: &Network, new: &NewNetwork) -> Result<(), DriverError> {
    let old: BTreeSet<_> = known.subnets.iter().map(|subnet| subnet.cidr).collect();
    if old == new.subnets.iter().map(|subnet| subnet.cidr).collect() {
        return Ok(());
    }
    let conflict = "exists with other subnets; remove it first".to_owned();
    Err(DriverError::Conflict { network: known.title().to_owned(), conflict })
}

fn network_txn(network: &Network, pools: &[Held<Pool>]) -> Txn {
    let vni = keys::vni(network.vni);
    let mut txn = Txn::new()
        .absent(keys::network(&network.id))
        .absent(vni.as_str())
        .put(keys::network(&network.id), record::encode(network))
        .put(vni, record::encode(&NetworkClaim { network: network.id.clone() }));
    for pool in pools {
        let bound = Pool { network: Some(network.id.clone()), ..pool.record.clone() };
        txn = txn.unchanged(&pool.entry).put(pool.entry.key.as_str(), record::encode(&bound));
    }
    // Our own IPAM has claimed these already, when the engine asked for them.
    if network.ipam == IpamMode::Engine {
        for subnet in &network.subnets {
            let gateway = subnet.gateway.map(|ip| (ip, ClaimKind::Gateway));
            let aux = subnet.aux.values().map(|ip| (*ip, ClaimKind::Auxiliary));
            for (ip, kind) in gateway.into_iter().chain(aux) {
                let key = keys::address(&subnet.cidr, ip);
                let node = network.created_by.clone();
                let claim = AddressClaim {
                    node,
                    kind,
                    container: None,
                    generation: 0,
                    since_ms: clock::unix_millis(),
                };
                txn = txn.put(key, record::encode(&claim));
            }
        }
    }
    txn
}
