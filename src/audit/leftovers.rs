//! Records that nobody will take back by himself any more, or not soon.
//!
//! What belongs to a host that is away is left alone as long as the thing it belongs to is there: a host
//! that returns wants it back.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Listing, Own};
use crate::{
    model::{AddressClaim, ClaimKind, NetworkId, NodeId, Pool},
    store::keys,
};

/// Age, in seconds, from which what this host holds for nobody was left behind: an engine goes from one step
/// to the next in seconds.
const LEFT_BEHIND: u64 = 180;
/// The same for what a host holds that is away: its clock may be another one, and it may be starting.
const LEFT_BEHIND_ELSEWHERE: u64 = 3_600;

/// Something to be collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What kind of thing it is.
    pub kind: &'static str,
    /// Which one.
    pub object: String,
    /// Why nobody needs it.
    pub why: String,
    /// Its keys in the store, which go together and only in the state in which they were seen.
    pub keys: Vec<String>,
    /// Keys that must still be absent then.
    pub absent: Vec<String>,
}

/// Everything that `own`'s host may collect, at `now` in seconds since 1970.
pub fn leftovers(store: &Listing, own: &Own, now: u64) -> Vec<Leftover> {
    let meta = store.meta.as_ref().map(|meta| meta.cluster.as_str());
    // In another cluster's store, or in one that was wiped, nothing is ours to judge.
    if meta.is_none() || own.cluster.as_deref() != meta {
        return Vec::new();
    }
    // Nor in one of which this host does not know that all is there.
    let incarnation = store.meta.as_ref().map_or("", |meta| meta.incarnation.as_str());
    if own.incarnation.as_deref().unwrap_or_default() != incarnation {
        return Vec::new();
    }
    let mut found = Vec::new();
    incarnations(store, incarnation, &mut found);
    calls(store, &mut found);
    pools(store, own, now, &mut found);
    addresses(store, own, now, &mut found);
    pointers(store, &mut found);
    marks(store, own, &mut found);
    endpoints(store, own, &mut found);
    found
}

/// Keys of incarnations that the store no longer has.
fn incarnations(store: &Listing, current: &str, found: &mut Vec<Leftover>) {
    for gone in store.incarnations.iter().filter(|key| *key != current) {
        found.push(Leftover {
            kind: "incarnation",
            object: gone.clone(),
            why: format!("the store is in incarnation {current}"),
            keys: vec![keys::incarnation(gone)],
            absent: Vec::new(),
        });
    }
}

/// Calls for addresses of subnets that are gone.
fn calls(store: &Listing, found: &mut Vec<Leftover>) {
    for (cidr, ip) in store.wanted.iter().filter(|(cidr, _)| !store.pools.contains_key(cidr)) {
        found.push(Leftover {
            kind: "call for an address",
            object: ip.map_or_else(|| cidr.to_string(), |ip| ip.to_string()),
            why: format!("its subnet {cidr} is gone"),
            keys: vec![keys::wanted(cidr, *ip)],
            absent: vec![keys::pool(cidr)],
        });
    }
}

fn gone(network: &NetworkId) -> String {
    format!("network {} is gone", network.short())
}

/// Subnets whose network was never created, with what is claimed in them.
fn pools(store: &Listing, own: &Own, now: u64, found: &mut Vec<Leftover>) {
    for pool in store.pools.values().filter(|pool| pool.network.is_none()) {
        let age = now.saturating_sub(pool.since);
        let left = if pool.node == own.node {
            age > LEFT_BEHIND
        } else {
            !store.nodes.contains_key(&pool.node) && age > LEFT_BEHIND_ELSEWHERE
        };
        if left {
            found.push(Leftover {
                kind: "subnet",
                object: pool.cidr.to_string(),
                why: format!("claimed on host {}, its network was never created", store.host(&pool.node)),
                keys: pool_keys(store, pool),
                absent: Vec::new(),
            });
        }
    }
}

fn pool_keys(store: &Listing, pool: &Pool) -> Vec<String> {
    let inside = store.addresses.keys().filter(|(cidr, _)| *cidr == pool.cidr);
    // The subnet last: as long as it is there, the rest is found again.
    inside.map(|(cidr, ip)| keys::address(cidr, *ip)).chain([keys::pool(&pool.cidr)]).collect()
}

/// Addresses held for nobody.
fn addresses(store: &Listing, own: &Own, now: u64, found: &mut Vec<Leftover>) {
    for ((cidr, ip), claim) in &store.addresses {
        let age = now.saturating_sub(claim.since_ms / 1000);
        let key = keys::address(cidr, *ip);
        let (why, absent) = match store.pools.get(cidr) {
            None if age > LEFT_BEHIND => (format!("its subnet {cidr} is gone"), vec![keys::pool(cidr)]),
            Some(pool) if age > LEFT_BEHIND && lives(store, pool) && unused(pool, own, claim, *ip) => {
                (format!("no endpoint of this host uses it in {cidr}"), Vec::new())
            }
            _ => continue,
        };
        found.push(Leftover { kind: "address", object: ip.to_string(), why, keys: vec![key], absent });
    }
}

/// The subnet of a network that is there: of others the claims go with the subnet.
fn lives(store: &Listing, pool: &Pool) -> bool {
    pool.network.as_ref().is_some_and(|network| store.networks.contains_key(network))
}

fn unused(pool: &Pool, own: &Own, claim: &AddressClaim, ip: IpAddr) -> bool {
    let cidr: &IpNet = &pool.cidr;
    pool.is_claimed_by_users()
        && claim.node == own.node
        && matches!(claim.kind, ClaimKind::Container | ClaimKind::Engine { .. })
        && !own.uses(cidr, ip)
        && !own.releases.contains(&(*cidr, ip))
}

/// Names, VNIs and subnets of networks that are gone. They are written and deleted together with the network.
fn pointers(store: &Listing, found: &mut Vec<Leftover>) {
    let mut tell = |kind, object: String, network: &NetworkId, keys: Vec<String>| {
        if !store.networks.contains_key(network) {
            let absent = vec![keys::network(network)];
            found.push(Leftover { kind, object, why: gone(network), keys, absent });
        }
    };
    for (key, network) in &store.names {
        tell("name", key.strip_prefix(keys::NAMES).unwrap_or(key).to_owned(), network, vec![key.clone()]);
    }
    for (vni, network) in &store.vnis {
        tell("VNI", vni.to_string(), network, vec![keys::vni(*vni)]);
    }
    for pool in store.pools.values() {
        if let Some(network) = &pool.network {
            tell("subnet", pool.cidr.to_string(), network, pool_keys(store, pool));
        }
    }
}

/// Marks of networks that are gone, of hosts that will not take them back: those that are away, and this one
/// where its engine has no such network.
fn marks(store: &Listing, own: &Own, found: &mut Vec<Leftover>) {
    let stays = |network: &NetworkId, node: &NodeId| {
        let taken_back = if *node == own.node { own.has(network) } else { store.nodes.contains_key(node) };
        store.networks.contains_key(network) || taken_back
    };
    let mut tell = |kind, network: &NetworkId, node: &NodeId, key: String| {
        if !stays(network, node) {
            found.push(Leftover {
                kind,
                object: format!("{} on host {}", network.short(), store.host(node)),
                why: gone(network),
                keys: vec![key],
                absent: vec![keys::network(network)],
            });
        }
    };
    for (network, node) in &store.present {
        tell("present mark", network, node, keys::present(network, node));
    }
    for (network, node) in &store.departed {
        tell("departed mark", network, node, keys::departed(network, node));
    }
}

/// Endpoints that are this host's and that it does not have, and those of gone networks and hosts.
fn endpoints(store: &Listing, own: &Own, found: &mut Vec<Leftover>) {
    for ((network, id), endpoint) in &store.endpoints {
        let mine = endpoint.node == own.node;
        let (why, absent) = if mine && !own.tells(id) {
            ("it is gone from this host".to_owned(), Vec::new())
        } else if !mine && !store.networks.contains_key(network) && !store.nodes.contains_key(&endpoint.node)
        {
            (gone(network), vec![keys::network(network)])
        } else {
            continue;
        };
        found.push(Leftover {
            kind: "endpoint",
            object: format!("{} of host {}", endpoint.title(), store.host(&endpoint.node)),
            why,
            keys: vec![keys::endpoint(network, id)],
            absent,
        });
    }
}
