//! Claims of addresses that a store has lost: those that belong to a network, and those in use here.

use std::{collections::BTreeMap, net::IpAddr};

use tracing::{info, warn};

use crate::{
    local::{Local, LocalEndpoint},
    model::{AddressClaim, ClaimKind, IpamMode, Mode, Network, NetworkId, NodeId, Pool},
    store::{
        Outcome, StoreError, Txn, keys,
        ledger::{self, Ledger},
        record,
    },
};

/// Claims in one transaction.
const BATCH: usize = 16;
/// How often to look again after a lost race.
const TRIES: u32 = 16;

/// Claims the gateway and the auxiliary addresses of a network, where nobody holds them.
pub(super) async fn reserved(ledger: &Ledger, network: &Network) -> Result<(), StoreError> {
    for subnet in &network.subnets {
        let gateway = subnet.gateway.map(|ip| (ip, ClaimKind::Gateway));
        let aux = subnet.aux.values().map(|ip| (*ip, ClaimKind::Auxiliary));
        let wanted: Vec<_> = gateway
            .into_iter()
            .chain(aux)
            .map(|(ip, kind)| {
                let claim = AddressClaim {
                    node: network.created_by.clone(),
                    kind,
                    container: None,
                    generation: 0,
                    since_ms: network.created_at.saturating_mul(1000),
                };
                (keys::address(&subnet.cidr, ip), claim)
            })
            .collect();
        put_missing(ledger, &network.id, &subnet.cidr, &wanted).await?;
    }
    Ok(())
}

/// An address of an endpoint here that another host holds.
pub(super) struct Held {
    claim: ledger::Held<AddressClaim>,
    ip: IpAddr,
    endpoint: LocalEndpoint,
}

/// Takes claims of this host out that nothing here uses: those that a store which was set back has of
/// containers that are gone.
pub(super) async fn withdraw(ledger: &Ledger, local: &Local) -> Result<(), StoreError> {
    for pool in ledger.list::<Pool>(keys::POOLS).await? {
        if !pool.record.is_claimed_by_users() || pool.record.network.is_none() {
            continue;
        }
        let cidr = pool.record.cidr;
        for claim in ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await? {
            let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
            let unused = || {
                local.read(|data| data.user_of(&cidr, ip).is_none() && !data.claims.contains_key(&(cidr, ip)))
            };
            if claim.record.node == *local.node() && !claim.record.kind.is_fixed() && unused() {
                ledger.commit(Txn::new().unchanged(&claim.entry).delete(claim.entry.key.as_str())).await?;
            }
        }
    }
    Ok(())
}

/// Claims the addresses of this host's endpoints, where nobody holds them; answers those that others hold.
pub(super) async fn in_use(ledger: &Ledger, local: &Local) -> Result<Vec<Held>, StoreError> {
    let data = local.data();
    let mut held = Vec::new();
    for binding in data.bindings.values() {
        let network = &binding.network;
        // Where engines share addresses, they alone know of them.
        if network.mode() == Mode::Classic && network.ipam == IpamMode::Engine {
            continue;
        }
        for subnet in &network.subnets {
            let of_network = data.endpoints.values().filter(|endpoint| endpoint.network == network.id);
            let used = of_network.flat_map(|e| e.addresses.iter().map(move |ip| (*ip, e)));
            let used: BTreeMap<_, _> = used.filter(|(ip, _)| subnet.cidr.contains(ip)).collect();
            let wanted: Vec<_> = used
                .iter()
                .map(|(ip, e)| (keys::address(&subnet.cidr, *ip), claim_of(local, e, *ip)))
                .collect();
            for claim in put_missing(ledger, &network.id, &subnet.cidr, &wanted).await? {
                let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
                let endpoint = used.get(&ip).filter(|_| claim.record.node != *local.node());
                held.extend(endpoint.map(|e| Held { claim, ip, endpoint: LocalEndpoint::clone(e) }));
            }
        }
    }
    Ok(held)
}

/// Time is up for hosts to give up what they no longer have. What one of them holds that has not come back
/// is older than the endpoint here, which could not have got the address before that was free; what one
/// holds that has come back it uses.
pub(super) async fn insist(
    ledger: &Ledger,
    local: &Local,
    held: &[Held],
    done: impl Fn(&NodeId) -> bool,
) -> Result<(), StoreError> {
    for Held { claim, ip, endpoint } in held {
        let container = endpoint.container.as_deref().unwrap_or(endpoint.id.short());
        let host = &claim.record.node;
        if done(host) || claim.record.generation > endpoint.generation {
            warn!(%ip, container, %host, "the address of a container here is held by another host");
            continue;
        }
        info!(%ip, container, %host, "an address is taken from a host that the store remembers to have had it");
        let key = claim.entry.key.as_str();
        let own = record::encode(&claim_of(local, endpoint, *ip));
        ledger.commit(Txn::new().unchanged(&claim.entry).put(key, own)).await?;
    }
    Ok(())
}

fn claim_of(local: &Local, endpoint: &LocalEndpoint, ip: IpAddr) -> AddressClaim {
    let chosen_by_engine = endpoint.claimed.iter().any(|(_, claimed)| *claimed == ip);
    let kind = if chosen_by_engine {
        ClaimKind::Engine { endpoint: endpoint.id.clone() }
    } else {
        ClaimKind::Container
    };
    AddressClaim {
        node: local.node().clone(),
        kind,
        container: endpoint.container.clone(),
        generation: endpoint.generation,
        // Before any release of it that may be queued.
        since_ms: endpoint.created_at.saturating_mul(1000),
    }
}

/// Puts those of `wanted` that nobody holds, and answers who holds the subnet's addresses then.
async fn put_missing(
    ledger: &Ledger,
    network: &NetworkId,
    cidr: &ipnet::IpNet,
    wanted: &[(String, AddressClaim)],
) -> Result<Vec<ledger::Held<AddressClaim>>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    for _ in 0..TRIES {
        // A subnet that is another network's now is none of ours.
        let pool = ledger.get::<Pool>(&keys::pool(cidr)).await?;
        let Some(pool) = pool.filter(|pool| pool.record.network.as_ref() == Some(network)) else {
            return Ok(Vec::new());
        };
        let there = ledger.list::<AddressClaim>(&keys::addresses(cidr)).await?;
        let missing: Vec<_> =
            wanted.iter().filter(|(key, _)| there.iter().all(|held| held.entry.key != *key)).collect();
        if missing.is_empty() {
            return Ok(there);
        }
        for batch in missing.chunks(BATCH) {
            let txn = batch.iter().fold(Txn::new().unchanged(&pool.entry), |txn, (key, claim)| {
                txn.absent(key.as_str()).put(key.as_str(), record::encode(claim))
            });
            if ledger.commit(txn).await? == Outcome::Conflict {
                break;
            }
        }
    }
    Err(StoreError::Unavailable {
        store: ledger.store().kind().to_owned(),
        detail: format!("the claims on {cidr} keep changing"),
    })
}
