//! Subnets for networks whose IPAM driver is ours: `RequestPool` and `ReleasePool`.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tracing::warn;

use super::{Driver, DriverError, claims::TRIES, network::of_another_mode};
use crate::{
    chance, clock,
    ipam::{AddrPool, Hold, PoolChoice, PoolId, choose_pool},
    model::{JOIN_OPTION, Mode, Network, NetworkId, Pool, Space},
    store::{keys, ledger::Held},
    watched::Watched,
};

/// `RequestPool`, in our terms.
#[derive(Debug, Clone)]
pub struct PoolRequest {
    /// The global address space instead of the local one.
    pub global: bool,
    /// `--subnet`.
    pub pool: Option<IpNet>,
    /// `--ip-range`.
    pub range: Option<IpNet>,
    /// `--ipam-opt`.
    pub options: BTreeMap<String, String>,
    /// IPv6 where no subnet is given.
    pub v6: bool,
}

impl PoolRequest {
    /// Reads the texts of the call.
    pub fn parse(
        space: &str,
        pool: &str,
        range: &str,
        options: BTreeMap<String, String>,
        v6: bool,
    ) -> Result<Self, DriverError> {
        let global = match space {
            super::GLOBAL_SPACE => true,
            super::LOCAL_SPACE => false,
            other => return Err(DriverError::invalid("address space", other, "one of rs-overlay's two")),
        };
        let some = |what, text: &str| {
            if text.is_empty() { Ok(None) } else { super::parse_cidr(what, text).map(Some) }
        };
        let (pool, range) = (some("subnet", pool)?, some("IP range", range)?);
        if let (Some(pool), Some(range)) = (&pool, &range)
            && !pool.contains(range)
        {
            return Err(DriverError::invalid(
                "IP range",
                &range.to_string(),
                &format!("inside subnet {pool}"),
            ));
        }
        if pool.is_none() && range.is_some() {
            return Err(DriverError::invalid("IP range", "", "of use without --subnet"));
        }
        if let Some(unknown) = options.keys().find(|key| *key != JOIN_OPTION) {
            return Err(DriverError::UnknownOption {
                option: unknown.clone(),
                known: JOIN_OPTION.to_owned(),
            });
        }
        let v6 = v6 || matches!(pool, Some(IpNet::V6(_)));
        Ok(Self { global, pool, range, options, v6 })
    }
}

impl Driver {
    /// Claims a subnet, the given one or one of the address pools; or finds the one of the network that
    /// the options name, or that this host has removed and wants back.
    pub async fn request_pool(&self, request: PoolRequest) -> Result<PoolId, DriverError> {
        self.find_pool(request).await.map_err(DriverError::of_new_network)
    }

    async fn find_pool(&self, request: PoolRequest) -> Result<PoolId, DriverError> {
        self.settled().await?;
        if let Some(name) = request.options.get(JOIN_OPTION) {
            return self.pool_to_join(name, &request).await;
        }
        self.settle_departures().await;
        let (space, hold) =
            if request.global { (Space::Global, Hold::Global) } else { (Space::Local, Hold::Local) };
        if let Some(cidr) = request.pool {
            // A swarm node repeats its manager's claim in its own address space.
            if !request.global
                && let Some(known) = self.ledger.get::<Pool>(&keys::pool(&cidr)).await?
                && known.record.space == Space::Global
            {
                return Ok(PoolId { cidr, hold: Hold::Again });
            }
            if request.global
                && let Some(id) = self.allocated_pool(&cidr, &request).await?
            {
                return Ok(id);
            }
            if !request.global
                && let Some(network) = self.departed_network(&cidr).await?
            {
                return pool_of(&network, &request, hold);
            }
            let claimed = self.claim_pool(&self.new_pool(cidr, space, &request), true).await?;
            return Ok(PoolId { cidr: claimed.record.cidr, hold });
        }
        self.claim_any_pool(space, &request).await.map(|claimed| PoolId { cidr: claimed.record.cidr, hold })
    }

    async fn claim_any_pool(&self, space: Space, request: &PoolRequest) -> Result<Held<Pool>, DriverError> {
        let mut beaten = BTreeSet::new();
        // Docker's own IPAM cuts what engines share from the same range, lowest first, and no route of any host
        // shows that: the ingress network of a swarm is 10.0.0.0/24.
        let shared: Vec<IpNet> = match space {
            Space::Global => self.config.pools.iter().filter_map(first_half).collect(),
            Space::Local | Space::Engine => Vec::new(),
        };
        for attempt in 0..TRIES {
            let snapshot = self.snapshot();
            let pools = self.ledger.list::<Pool>(keys::POOLS).await?;
            let routes = snapshot.nodes.values().flat_map(|node| node.routes.iter().map(|route| route.cidr));
            let taken: Vec<IpNet> = pools
                .iter()
                .map(|pool| pool.record.cidr)
                .chain(routes)
                .chain(beaten.iter().copied())
                .collect();
            let cluster = snapshot.meta.as_ref().map_or("", |meta| meta.cluster.as_str());
            let skip = if attempt == 0 { 0 } else { chance::up_to(0..=attempt) };
            let choose = |taken: &[IpNet]| {
                choose_pool(&PoolChoice { pools: &self.config.pools, v6: request.v6, taken, cluster, skip })
            };
            let cidr = choose(&[&taken[..], &shared].concat()).or_else(|| choose(&taken));
            let cidr = cidr.ok_or(DriverError::NoSubnet)?;
            match self.claim_pool(&self.new_pool(cidr, space, request), false).await {
                Err(DriverError::Overlap { .. } | DriverError::Contended { .. }) => beaten.insert(cidr),
                other => return other,
            };
        }
        Err(DriverError::Contended { what: "a subnet", tries: TRIES })
    }

    fn new_pool(&self, cidr: IpNet, space: Space, request: &PoolRequest) -> Pool {
        Pool {
            cidr,
            space,
            ip_range: request.range,
            options: request.options.clone(),
            network: None,
            node: self.node().clone(),
            since: clock::unix_seconds(),
            term_ms: None,
            closing: false,
            shared: false,
            extra: BTreeMap::new(),
        }
    }

    async fn pool_to_join(&self, name: &str, request: &PoolRequest) -> Result<PoolId, DriverError> {
        let network = self.network_called(name).await?;
        if request.global || network.mode() != Mode::Plain {
            let conflict = of_another_mode(&network);
            return Err(DriverError::Conflict { network: network.title().to_owned(), conflict });
        }
        let fits = |cidr: &IpNet| match request.pool {
            Some(wanted) => wanted == *cidr,
            None => request.v6 == matches!(cidr, IpNet::V6(_)),
        };
        let subnet = network.subnets.iter().find(|subnet| fits(&subnet.cidr)).ok_or_else(|| {
            let has: Vec<_> = network.subnets.iter().map(|subnet| subnet.cidr.to_string()).collect();
            DriverError::Conflict {
                network: network.title().to_owned(),
                conflict: format!("has subnet {}; give just that, or none", has.join(" and ")),
            }
        })?;
        // An engine that has not been given the subnet compares our answer with the host's routes, finds our
        // own guard route, and asks again for ever.
        if let (None, IpNet::V4(cidr)) = (request.pool, subnet.cidr)
            && self.applied.now().overlay.guards.contains(&cidr)
        {
            return Err(DriverError::Conflict {
                network: network.title().to_owned(),
                conflict: format!("has to be joined with its subnet: add --subnet {cidr}"),
            });
        }
        Ok(PoolId { cidr: subnet.cidr, hold: Hold::Local })
    }

    /// The network that has just this subnet and was removed on this host while others went on: whoever
    /// names the subnet here wants that one back. That its name is the same is looked at afterwards.
    pub(super) async fn departed_network(&self, cidr: &IpNet) -> Result<Option<Network>, DriverError> {
        let Some(pool) = self.ledger.get::<Pool>(&keys::pool(cidr)).await? else { return Ok(None) };
        let Some(id) = pool.record.network.filter(|_| !pool.record.closing) else { return Ok(None) };
        let mark = keys::departed(&id, self.node());
        if !self.ledger.store().range(&mark).await?.iter().any(|entry| entry.key == mark) {
            return Ok(None);
        }
        let network = self.ledger.get::<Network>(&keys::network(&id)).await?.map(|held| held.record);
        Ok(network.filter(|network| network.mode() == Mode::Plain))
    }

    /// A network of the cluster by id or name: what the snapshot knows, else what the store has.
    async fn network_called(&self, name: &str) -> Result<Network, DriverError> {
        let snapshot = self.snapshot();
        let id = NetworkId::new(name).ok();
        let known =
            id.as_ref().and_then(|id| snapshot.networks.get(id)).or_else(|| snapshot.network_named(name));
        if let Some(network) = known {
            return Ok(network.clone());
        }
        let all = self.ledger.list::<Network>(keys::NETWORKS).await?;
        let found = all
            .into_iter()
            .map(|held| held.record)
            .find(|network| Some(&network.id) == id.as_ref() || network.name.as_deref() == Some(name));
        found.ok_or_else(|| DriverError::NoSuchNetwork { name: name.to_owned() })
    }

    /// Gives a subnet back if no network has come to hold it. One that a network holds goes with the
    /// network. Towards the engine this always succeeds; what could not be done now is swept up later.
    pub async fn release_pool(&self, id: PoolId) {
        let bound = self.local.read(|data| {
            data.bindings.values().any(|b| b.network.subnets.iter().any(|subnet| subnet.cidr == id.cidr))
        });
        if bound || id.hold == Hold::Again {
            return;
        }
        if let Err(error) = self.release_unbound(&id).await {
            warn!(pool = %id.cidr, %error, "subnet not given back yet");
        }
    }

    async fn release_unbound(&self, id: &PoolId) -> Result<(), DriverError> {
        let Some(pool) = self.ledger.get::<Pool>(&keys::pool(&id.cidr)).await? else { return Ok(()) };
        if pool.record.network.is_none() && pool.record.node == *self.node() {
            self.abandon_pool(&pool).await?;
        }
        Ok(())
    }
}

/// The pool of a network that is joined again by its subnet.
fn pool_of(network: &Network, request: &PoolRequest, hold: Hold) -> Result<PoolId, DriverError> {
    let subnet = network.subnets.iter().find(|subnet| request.pool == Some(subnet.cidr));
    match subnet {
        Some(subnet) if request.range.is_none() || request.range == subnet.ip_range => {
            Ok(PoolId { cidr: subnet.cidr, hold })
        }
        _ => Err(DriverError::Conflict {
            network: network.title().to_owned(),
            conflict: "lives on other hosts with another --ip-range; leave that out to join it again"
                .to_owned(),
        }),
    }
}

fn first_half(pool: &AddrPool) -> Option<IpNet> {
    let length = pool.base.prefix_len().checked_add(1).filter(|length| *length <= pool.size)?;
    pool.base.subnets(length).ok()?.next()
}
