//! Claims of addresses that a store has lost: those that belong to a network, and those in use here.

use tracing::warn;

use crate::{
    local::{Local, LocalEndpoint},
    model::{AddressClaim, ClaimKind, Network, NetworkId, Pool},
    reconcile::housekeeping::Unfinished,
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger, record},
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

/// Claims the addresses of this host's endpoints, where nobody holds them.
pub(super) async fn in_use(ledger: &Ledger, local: &Local) -> Result<(), Unfinished> {
    let data = local.data();
    for binding in data.bindings.values() {
        let network = &binding.network;
        for subnet in &network.subnets {
            let of_network = data.endpoints.values().filter(|endpoint| endpoint.network == network.id);
            let used = of_network.flat_map(|e| e.addresses.iter().map(move |ip| (*ip, e)));
            let used = used.filter(|(ip, _)| subnet.cidr.contains(ip));
            let wanted: Vec<_> =
                used.map(|(ip, e)| (keys::address(&subnet.cidr, ip), claim_of(local, e, ip))).collect();
            let held = put_missing(ledger, &network.id, &subnet.cidr, &wanted).await?;
            for (key, _) in &wanted {
                let other = held.iter().find(|claim| claim.0 == *key && claim.1.node != *local.node());
                if let (Some(other), Some(ip)) = (other, keys::address_of(key)) {
                    warn!(%ip, network = network.title(), host = %other.1.node, "an address of a container here is held by another host");
                }
            }
        }
    }
    Ok(())
}

fn claim_of(local: &Local, endpoint: &LocalEndpoint, ip: std::net::IpAddr) -> AddressClaim {
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
        generation: 0,
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
) -> Result<Vec<(String, AddressClaim)>, StoreError> {
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
            return Ok(there.into_iter().map(|held| (held.entry.key, held.record)).collect());
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
