//! What became of this host's addresses while it had no lease.
//!
//! Nothing is taken from a host that is not declared dead, and what was taken bears another host's name in
//! the store: no clock has to be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::{error, warn};

use crate::{
    clock,
    local::{CutOff, Local, LocalEndpoint},
    model::{AddressClaim, Endpoint, EndpointId, KnownHost, NetworkId, NodeId, Pool},
    store::{
        StoreError, Txn, keys,
        ledger::{Held, Ledger},
    },
};

/// An endpoint of this host, an address of it, and the claim by which another host holds that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its network.
    pub network: NetworkId,
    /// The address.
    pub ip: IpAddr,
    /// Who holds it.
    pub holder: NodeId,
    /// Name of the container that it was claimed for, where the engine told it.
    pub container: Option<String>,
}

/// Looks for addresses of this host's endpoints that others hold. Addresses that it only has in reserve are
/// struck out of its book, so that no container gets one. In pools whose addresses are not claimed by those who
/// use them, claims say nothing about where a container is.
pub async fn find_lost(ledger: &Ledger, local: &Local) -> Result<Vec<Lost>, StoreError> {
    let wanted = local.read(|data| {
        let mut wanted: BTreeMap<IpNet, BTreeMap<IpAddr, LocalEndpoint>> =
            data.claims.values().map(|claim| (claim.cidr, BTreeMap::new())).collect();
        for endpoint in data.connected() {
            let Some(binding) = data.bindings.get(&endpoint.docker_network) else { continue };
            for ip in &endpoint.addresses {
                if let Some(subnet) = binding.network.subnet_of(*ip) {
                    wanted.entry(subnet.cidr).or_default().insert(*ip, endpoint.clone());
                }
            }
        }
        wanted
    });
    let mut lost = Vec::new();
    for (cidr, users) in wanted {
        let pool = ledger.get::<Pool>(&keys::pool(&cidr)).await?;
        if pool.is_none_or(|pool| !pool.record.is_claimed_by_users()) {
            continue;
        }
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await?;
        for claim in claims.iter().filter(|claim| claim.record.node != *local.node()) {
            let Some(ip) = keys::address_of(&claim.entry.key) else { continue };
            if claim.record.generation > local.read(|data| data.generation_of(&cidr, ip)) {
                local.mark_lost(&cidr, ip, Some(&claim.record.node)).map_err(|error| {
                    StoreError::Refused { store: ledger.store().kind().to_owned(), detail: error.to_string() }
                })?;
            }
        }
        lost.extend(claims.iter().filter_map(|claim| lost_to(claim, &users, local.node())));
    }
    Ok(lost)
}

fn lost_to(
    claim: &Held<AddressClaim>,
    users: &BTreeMap<IpAddr, LocalEndpoint>,
    own: &NodeId,
) -> Option<Lost> {
    let ip = keys::address_of(&claim.entry.key)?;
    let endpoint = users.get(&ip)?;
    // A takeover raises the generation. A claim of the same one is what a store that was set back remembers.
    let taken = claim.record.node != *own && claim.record.generation > endpoint.generation;
    (taken && !claim.record.kind.is_fixed()).then(|| Lost {
        endpoint: endpoint.id.clone(),
        network: endpoint.network.clone(),
        ip,
        holder: claim.record.node.clone(),
        container: claim.record.container.clone(),
    })
}

/// Cuts the endpoints off their networks and takes their records out of the store, so that no peer meets
/// an address twice. They stay off until their containers end.
pub async fn cut_off(ledger: &Ledger, local: &Local, lost: Vec<Lost>) -> Result<(), StoreError> {
    let mut done = BTreeSet::new();
    for one in lost {
        if !done.insert(one.endpoint.clone()) {
            continue;
        }
        let known = ledger.get::<KnownHost>(&keys::host(&one.holder)).await?;
        let host = known.map_or_else(|| one.holder.to_string(), |held| held.record.hostname);
        let others = ledger.list::<Endpoint>(&keys::endpoints(&one.network)).await?;
        let new = others.iter().find(|held| {
            held.record.id != one.endpoint
                && held.record.node == one.holder
                && held.record.addresses.contains(&one.ip)
        });
        let container = one.container.clone().or_else(|| new.and_then(|held| held.record.container.clone()));
        let old = local.read(|data| data.endpoints.get(&one.endpoint).map(name_of));
        let since = clock::unix_seconds();
        let why = CutOff { ip: one.ip, node: one.holder, host: host.clone(), container, since };
        let holder = why.container.clone().unwrap_or_else(|| "a container".to_owned());
        match local.cut_off(&one.endpoint, why) {
            Ok(true) => {
                let container = old.unwrap_or_default();
                warn!(%container, ip = %one.ip, %holder, %host, "a container is cut off its network: its address was taken over while this host was away");
            }
            Ok(false) => {}
            // It stays in the way of its address's new owner: people have to know.
            Err(error) => {
                error!(%error, endpoint = one.endpoint.short(), "an endpoint whose address is another's is not cut off");
            }
        }
        ledger.commit(Txn::new().delete(keys::endpoint(&one.network, &one.endpoint))).await?;
    }
    Ok(())
}

fn name_of(endpoint: &LocalEndpoint) -> String {
    endpoint.container.clone().unwrap_or_else(|| endpoint.id.short().to_owned())
}
