//! The claim of a new network: its record, its VNI, its subnets and the addresses that nobody may have.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tracing::info;

use super::{NewNetwork, NewSubnet};
use crate::{
    chance, clock,
    driver::{Driver, DriverError, NetworkOptions, claims::TRIES},
    ipam::{choose_vni, foreign_vnis},
    model::{AddressClaim, ClaimKind, IpamMode, Network, NetworkClaim, Pool, Space, Subnet, Vni},
    plan::carried_by_all,
    store::{Outcome, TXN_ROOM, Txn, keys, ledger::Held, record},
    watched::Watched,
};

impl Driver {
    pub(super) async fn claim_engine_network(
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
                term_ms: None,
                closing: false,
                shared: false,
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
                let advice = match cidr {
                    IpNet::V4(_) => format!(
                        "{advice}, or run the command again if Docker chose it: it will choose another"
                    ),
                    // It looks at no route when it chooses one of IPv6.
                    IpNet::V6(_) => format!(
                        "{advice}, or add --ipam-driver rs-overlay if Docker chose it: it would choose this one again"
                    ),
                };
                DriverError::Overlap { cidr, overlap, advice }
            }
            other => other,
        }
    }

    /// Writes the network's record, its claims on subnets, VNI, gateways and auxiliary addresses, all in
    /// one transaction.
    pub(super) async fn claim_network(
        &self,
        new: &NewNetwork,
        options: NetworkOptions,
        pools: &[Held<Pool>],
        ipam: IpamMode,
    ) -> Result<Network, DriverError> {
        for attempt in 0..TRIES {
            let first = if new.allocate { Vni::FIRST_IN_SWARMS } else { Vni::FIRST_AUTOMATIC };
            let vni = self.pick_vni(options, first, attempt).await?;
            let network = self.new_network(new, options, vni, pools, ipam);
            let txn = network_txn(&network, pools);
            if txn.len() > TXN_ROOM {
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

    async fn pick_vni(&self, options: NetworkOptions, first: u32, attempt: u32) -> Result<Vni, DriverError> {
        let claims = self.ledger.list::<NetworkClaim>(keys::VNIS).await?;
        let vni_of = |key: &str| key.rsplit('/').next().and_then(|number| number.parse::<Vni>().ok());
        let snapshot = self.snapshot();
        if let Some(vni) = options.vni {
            let foreign = snapshot.nodes.values().find_map(|node| Some((node, node.holder_of(vni)?)));
            if let Some((node, device)) = foreign {
                return Err(DriverError::VniForeign {
                    vni,
                    port: device.port,
                    device: device.dev.clone(),
                    host: node.hostname.clone(),
                });
            }
            let Some(held) = claims.iter().find(|claim| vni_of(&claim.entry.key) == Some(vni)) else {
                return Ok(vni);
            };
            let holder = &held.record.network;
            let holder =
                snapshot.networks.get(holder).map_or(holder.short(), |network| network.title()).to_owned();
            return Err(DriverError::VniTaken { vni, holder });
        }
        let mut taken: BTreeSet<_> = claims.iter().filter_map(|claim| vni_of(&claim.entry.key)).collect();
        taken.extend(foreign_vnis(snapshot.nodes.values()));
        let skip = if attempt == 0 { 0 } else { chance::up_to(0..=attempt) };
        choose_vni(&taken, first, skip).ok_or(DriverError::NoVni)
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
        let underlay = self.underlay.now();
        Network {
            id: new.docker_id.clone(),
            name: None,
            subnets: subnets.collect(),
            vni,
            mtu: options.mtu,
            carried: Some(carried_by_all(&self.snapshot(), underlay.vtep, underlay.mtu)),
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
            shared: !new.allocate && new.subnets.iter().any(NewSubnet::is_shared),
            extra: BTreeMap::new(),
        }
        .in_incarnation(self.local.read(|data| data.store_incarnation().map(str::to_owned)).as_deref())
    }
}

fn network_txn(network: &Network, pools: &[Held<Pool>]) -> Txn {
    let vni = keys::vni(network.vni);
    let mut txn = Txn::new()
        .absent(keys::network(&network.id))
        .absent(vni.as_str())
        .put(keys::network(&network.id), record::encode(network))
        .put(vni, record::encode(&NetworkClaim { network: network.id.clone() }));
    if network.allocated {
        // One that was allocated in vain has left it.
        txn = txn.delete(keys::removed(&network.id));
    }
    for pool in pools {
        let bound = Pool { network: Some(network.id.clone()), shared: network.shared, ..pool.record.clone() };
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
