//! Addresses that a swarm's manager handed out and that were given back while nobody managed: whoever manages
//! next does not ask for them again.

use tracing::info;

use crate::{
    clock,
    local::Local,
    model::{AddressClaim, ClaimKind, Endpoint, Pool},
    store::{StoreError, Txn, keys, ledger::Ledger},
};

/// How long, in milliseconds, a manager that begins may take to ask for all that is in use.
const ASKS_WITHIN: u64 = 180_000;

/// Gives back what the engine here, which manages the swarm, has not asked for since it began. An address that an
/// endpoint has stays, whatever the manager says.
pub(super) async fn sweep(ledger: &Ledger, local: &Local) -> Result<(), StoreError> {
    let now = clock::unix_millis();
    for pool in ledger.list::<Pool>(keys::POOLS).await? {
        let Some(network) = &pool.record.network else { continue };
        let over = pool.record.term_ms.is_some_and(|term| now.saturating_sub(term) > ASKS_WITHIN);
        if !over || pool.record.node != *local.node() {
            continue;
        }
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&pool.record.cidr)).await?;
        let endpoints = ledger.list::<Endpoint>(&keys::endpoints(network)).await?;
        for claim in claims {
            let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
            let used = || endpoints.iter().any(|endpoint| endpoint.record.addresses.contains(&ip));
            if claim.record.kind == ClaimKind::Container
                && pool.record.is_of_an_earlier_term(&claim.record)
                && !used()
            {
                info!(%ip, "giving back an address that the swarm has not asked for again");
                let gone = Txn::new().unchanged(&pool.entry).unchanged(&claim.entry);
                ledger.commit(gone.delete(claim.entry.key.as_str())).await?;
            }
        }
    }
    Ok(())
}
