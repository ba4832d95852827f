//! Takeovers: what a dead host held may be claimed by others.
//!
//! The word of death is read from the store at that moment, and guards the claim: a host that returns ends
//! its death in a transaction of its own, and from then on nothing is taken from it any more.

use std::{collections::BTreeMap, net::IpAddr};

use tracing::info;

use super::{Driver, DriverError};
use crate::{
    model::{AddressClaim, ClaimKind, Death, NodeId, Pool},
    store::{
        Entry, Txn, keys,
        ledger::{Held, Ledger},
    },
};

/// Leave to take an address from a dead host.
#[derive(Debug, Clone)]
pub(super) struct Leave {
    claim: Entry,
    death: Held<Death>,
    /// What the new claim has to bear.
    pub(super) generation: u64,
}

impl Leave {
    /// `txn`, only if the address is still the dead host's, and that host still dead.
    pub(super) fn guard(&self, txn: Txn) -> Txn {
        txn.unchanged(&self.claim).unchanged(&self.death.entry)
    }

    /// Tells people of the takeover that the store has committed.
    pub(super) fn tell(&self, ip: IpAddr) {
        let generation = self.generation;
        info!(%ip, from = %self.death.record.hostname, generation, "address taken over from a dead host");
    }
}

impl Driver {
    /// Leave to take over what `claim` holds; `None` if its holder is not dead, or the claim is none that a
    /// container can have: gateways and auxiliary addresses are the network's own, and what a swarm's
    /// manager hands out is used on other hosts than on its own.
    pub(super) async fn leave_to_take(
        &self,
        pool: &Pool,
        claim: &Held<AddressClaim>,
    ) -> Result<Option<Leave>, DriverError> {
        if !may_be_taken(pool, &claim.record, self.node()) {
            return Ok(None);
        }
        let death = self.ledger.get::<Death>(&keys::dead(&claim.record.node)).await?;
        Ok(death.map(|death| Leave {
            claim: claim.entry.clone(),
            death,
            generation: claim.record.generation.saturating_add(1),
        }))
    }

    /// Addresses of a pool that dead hosts hold, each with leave to take it: for when nothing else is free.
    pub(super) async fn left_by_the_dead(&self, pool: &Pool) -> Result<BTreeMap<IpAddr, Leave>, DriverError> {
        let dead = deaths(&self.ledger).await?;
        if dead.is_empty() {
            return Ok(BTreeMap::new());
        }
        let claims = self.ledger.list::<AddressClaim>(&keys::addresses(&pool.cidr)).await?;
        let leave = |claim: Held<AddressClaim>| {
            let death =
                dead.get(&claim.record.node).filter(|_| may_be_taken(pool, &claim.record, self.node()))?;
            let generation = claim.record.generation.saturating_add(1);
            let ip = keys::address_of(&claim.entry.key)?;
            Some((ip, Leave { claim: claim.entry, death: death.clone(), generation }))
        };
        Ok(claims.into_iter().filter_map(leave).collect())
    }
}

fn may_be_taken(pool: &Pool, claim: &AddressClaim, own: &NodeId) -> bool {
    claim.node != *own
        && pool.is_claimed_by_users()
        && !matches!(claim.kind, ClaimKind::Gateway | ClaimKind::Auxiliary)
}

async fn deaths(ledger: &Ledger) -> Result<BTreeMap<NodeId, Held<Death>>, DriverError> {
    let deaths = ledger.list::<Death>(keys::DEAD).await?;
    Ok(deaths.into_iter().map(|held| (held.record.id.clone(), held)).collect())
}
