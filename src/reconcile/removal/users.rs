//! Who uses a network.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{
    local::{Local, Release},
    model::{AddressClaim, Death, Endpoint, Network, NodeId, Pool},
    store::{
        Entry, StoreError, keys,
        ledger::{Held, Ledger},
    },
};

/// Who has a container in a network.
pub(super) struct Users {
    /// Hosts that live, or may.
    pub(super) living: BTreeSet<NodeId>,
    /// The words of death that make the others not count.
    pub(super) deaths: Vec<Entry>,
}

/// Most words of death that a removal is guarded by; beyond that there are none left to return.
const MOST_DEATHS: usize = 16;

/// Hosts that have a container in the network: all but this one by the store's word, this one by its own.
/// What is on a dead host is no use of it.
pub(super) async fn users(
    ledger: &Ledger,
    local: &Local,
    network: &Network,
    pools: &[Held<Pool>],
) -> Result<Users, StoreError> {
    let own = local.node();
    let mut users = hosts_using(ledger, network, pools.iter().map(|pool| pool.record.cidr)).await?;
    users.remove(own);
    let mut deaths = ledger.list::<Death>(keys::DEAD).await?;
    deaths.retain(|death| users.contains(&death.record.id));
    users.retain(|node| deaths.iter().all(|death| death.record.id != *node));
    if local.read(|data| data.networks_in_use().contains(&network.id)) {
        users.insert(own.clone());
    }
    let deaths = deaths.into_iter().take(MOST_DEATHS).map(|death| death.entry).collect();
    Ok(Users { living: users, deaths })
}

/// Hosts that have containers in the network, or some that are about to start or have just ended, all by the store's
/// word; `subnets` are those of the network.
pub(crate) async fn hosts_using(
    ledger: &Ledger,
    network: &Network,
    subnets: impl Iterator<Item = IpNet>,
) -> Result<BTreeSet<NodeId>, StoreError> {
    let mut users = BTreeSet::new();
    // What a swarm's manager has handed out says nothing about who uses it.
    for subnet in subnets.filter(|_| !network.allocated) {
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&subnet)).await?;
        let used = claims.into_iter().filter(|claim| claim.record.kind.is_use());
        users.extend(used.map(|claim| claim.record.node));
    }
    let endpoints = ledger.list::<Endpoint>(&keys::endpoints(&network.id)).await?;
    users.extend(endpoints.into_iter().map(|held| held.record.node));
    Ok(users)
}

/// Whether a container here has, or is about to have, an address of the network: by the book, and by the
/// store where that knows of a claim that is not entered yet.
pub(super) async fn own_claims(
    ledger: &Ledger,
    local: &Local,
    network: &Network,
) -> Result<bool, StoreError> {
    if network.allocated {
        return Ok(local.read(|data| data.uses(&network.id)));
    }
    for subnet in &network.subnets {
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&subnet.cidr)).await?;
        let own = claims.iter().filter(|c| c.record.node == *local.node() && c.record.kind.is_use());
        let own: Vec<_> = own.filter_map(|claim| keys::address_of(&claim.entry.key)).collect();
        // The book and the queue are read afterwards: what has left them since is in the book's own words.
        let in_use = local.read(|data| {
            let unsettled = |ip: &std::net::IpAddr| {
                !data.claims.contains_key(&(subnet.cidr, *ip))
                    && !data.releases.contains_key(&Release::key_of(&subnet.cidr, *ip))
            };
            data.uses(&network.id) || own.iter().any(unsettled)
        });
        if in_use {
            return Ok(true);
        }
    }
    Ok(false)
}
