//! The store's records against this host's own state, and against each other.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Area, Listing, Own, row};
use crate::{
    admin::DifferenceRow,
    model::{Endpoint, Mode, Network, NetworkId},
    store::keys,
};

/// All differences.
pub fn compare_records(store: &Listing, own: &Own) -> Vec<DifferenceRow> {
    let meta = store.meta.as_ref().map(|meta| meta.cluster.as_str());
    if own.cluster.as_deref() != meta {
        // A store that holds something else differs in everything; the list would hide that.
        let name = |cluster: Option<&str>| cluster.map_or("none".to_owned(), |id| format!("cluster {id}"));
        return vec![row(Area::Store, "cluster", name(own.cluster.as_deref()), name(meta))];
    }
    let mut rows = Vec::new();
    if !store.nodes.contains_key(&own.node) {
        rows.push(row(Area::Store, "this host", "registered", "not registered"));
    }
    let confirmed = own.incarnation.as_deref().unwrap_or_default();
    let incarnation = store.meta.as_ref().map_or("", |meta| meta.incarnation.as_str());
    if confirmed != incarnation {
        let expected = format!("incarnation {confirmed}, which this host has filled");
        return vec![row(Area::Store, "cluster", expected, format!("incarnation {incarnation}"))];
    }
    cluster(store, own, incarnation, &mut rows);
    for key in &store.unreadable {
        rows.push(row(Area::Store, format!("record {key}"), "readable", "unreadable for this release"));
    }
    endpoints(store, own, &mut rows);
    networks_here(store, own, &mut rows);
    claims(store, own, &mut rows);
    networks(store, &mut rows);
    loose_claims(store, &mut rows);
    twice(store, &mut rows);
    rows
}

/// What tells whether the store is as it was, and who is in the cluster.
fn cluster(store: &Listing, own: &Own, incarnation: &str, rows: &mut Vec<DifferenceRow>) {
    let mut tell = |object: String, expected: &str, found: &str| {
        rows.push(row(Area::Store, object, expected, found));
    };
    if !incarnation.is_empty() {
        if !store.incarnations.contains(incarnation) {
            tell(format!("key of incarnation {incarnation}"), "there", "missing");
        }
        match store.marks.get(&own.node) {
            Some(mark) if mark.incarnation == incarnation => {}
            Some(_) => tell("mark of this host".into(), "of this incarnation", "of an earlier one"),
            None => tell("mark of this host".into(), "there", "missing"),
        }
    }
    for gone in store.incarnations.iter().filter(|key| *key != incarnation) {
        tell(format!("key of incarnation {gone}"), "none: the store has another one", "there");
    }
    if store.nodes.get(&own.node).is_some_and(|node| node.incarnation > 0) {
        if !store.hosts.contains_key(&own.node) {
            tell("record that this host was here".into(), "there", "missing");
        }
        if store.dead.contains_key(&own.node) {
            tell("this host".into(), "alive", "declared dead");
        }
    }
    for (network, removed) in store.removed.iter().filter(|(id, _)| store.networks.contains_key(*id)) {
        tell(format!("network {} ({})", removed.title, network.short()), "removed", "there");
    }
}

fn title(endpoint: &Endpoint) -> String {
    match &endpoint.container {
        Some(name) => format!("container {name}"),
        None => format!("endpoint {}", endpoint.id.short()),
    }
}

fn endpoints(store: &Listing, own: &Own, rows: &mut Vec<DifferenceRow>) {
    for (id, endpoint) in own.endpoints.iter().filter(|(_, endpoint)| !endpoint.cut_off) {
        let wanted = &endpoint.record;
        let object = format!("record of {}", title(wanted));
        match store.endpoints.get(&(wanted.network.clone(), id.clone())) {
            None => rows.push(row(Area::Store, object, "there", "missing")),
            Some(found) if told(found) != told(wanted) => {
                rows.push(row(Area::Store, object, told(wanted), told(found)));
            }
            Some(_) => {}
        }
    }
    let gone = store.endpoints.values().filter(|e| e.node == own.node && !own.tells(&e.id));
    for endpoint in gone {
        let object = format!("record of {} in network {}", title(endpoint), store.title(&endpoint.network));
        rows.push(row(Area::Store, object, "none: it is gone from this host", "there"));
    }
}

/// What of a record decides where packets and names go.
fn told(endpoint: &Endpoint) -> String {
    let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
    let mut names: Vec<_> = endpoint.container.iter().chain(&endpoint.aliases).map(String::as_str).collect();
    names.sort_unstable();
    format!("{} at {} behind {} as {}", addresses.join(", "), endpoint.mac, endpoint.vtep, names.join(", "))
}

fn networks_here(store: &Listing, own: &Own, rows: &mut Vec<DifferenceRow>) {
    for here in own.networks.values() {
        let network = &here.network;
        let object = format!("network {}", network.title());
        match store.networks.get(&network.id) {
            None => rows.push(row(Area::Store, object, "there: this host's engine has it", "missing")),
            Some(record) => {
                if identity(record) != identity(network) {
                    rows.push(row(Area::Store, object, identity(network), identity(record)));
                }
                if !store.present.contains(&(network.id.clone(), own.node.clone())) {
                    let object = format!("mark that network {} is on this host", network.title());
                    rows.push(row(Area::Store, object, "there", "missing"));
                }
            }
        }
    }
    for (network, _) in store.present.iter().filter(|(network, node)| *node == own.node && !own.has(network))
    {
        let object = format!("mark that network {} is on this host", store.title(network));
        rows.push(row(Area::Store, object, "not there", "there"));
    }
}

/// What never changes about a network.
fn identity(network: &Network) -> String {
    let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.cidr.to_string()).collect();
    format!("VNI {}, {}", network.vni, subnets.join(", "))
}

/// Every address of an endpoint here has a claim of this host.
fn claims(store: &Listing, own: &Own, rows: &mut Vec<DifferenceRow>) {
    for endpoint in own.endpoints.values().filter(|own| !own.cut_off).map(|own| &own.record) {
        // What a swarm's manager hands out it claims for all, or its engine's own IPAM does, and nobody here.
        if store.networks.get(&endpoint.network).is_some_and(|network| network.allocated) {
            continue;
        }
        let pools = || store.pools.values().filter(|pool| pool.network.as_ref() == Some(&endpoint.network));
        for ip in &endpoint.addresses {
            let Some(pool) = pools().find(|pool| pool.cidr.contains(ip) && pool.is_claimed_by_users()) else {
                continue;
            };
            let object = format!("claim of {ip} for {}", title(endpoint));
            match store.addresses.get(&(pool.cidr, *ip)) {
                None => rows.push(row(Area::Store, object, "held by this host", "nobody's")),
                Some(claim) if claim.node != own.node => {
                    let holder = format!("held by host {}", store.host(&claim.node));
                    rows.push(row(Area::Store, object, "held by this host", holder));
                }
                Some(_) => {}
            }
        }
    }
}

/// A network's name, VNI and subnets are its own, and none of them points nowhere.
fn networks(store: &Listing, rows: &mut Vec<DifferenceRow>) {
    let mut tell = |object: String, holder: Option<&NetworkId>, wanted: &NetworkId| {
        let found = holder.map_or("nobody's".to_owned(), |id| format!("network {}'s", store.title(id)));
        rows.push(row(Area::Store, object, format!("network {}'s", store.title(wanted)), found));
    };
    for network in store.networks.values() {
        let holder = store.vnis.get(&network.vni);
        if holder != Some(&network.id) {
            tell(format!("VNI {}", network.vni), holder, &network.id);
        }
        // Engines that share a network see to its name themselves.
        if let Some(name) = network.name.as_ref().filter(|_| network.mode() == Mode::Plain) {
            let holder = store.names.get(&keys::name(name));
            if holder != Some(&network.id) {
                tell(format!("name {name}"), holder, &network.id);
            }
        }
        for subnet in &network.subnets {
            let holder = store.pools.get(&subnet.cidr).and_then(|pool| pool.network.as_ref());
            if holder != Some(&network.id) {
                tell(format!("subnet {}", subnet.cidr), holder, &network.id);
            }
        }
    }
    let vnis = store.vnis.iter().map(|(vni, network)| (format!("VNI {vni}"), network));
    let names = store.names.iter().map(|(key, network)| (format!("record {key}"), network));
    let pools = store.pools.values();
    let pools = pools.filter_map(|pool| Some((format!("subnet {}", pool.cidr), pool.network.as_ref()?)));
    for (object, network) in vnis.chain(names).chain(pools) {
        if !store.networks.contains_key(network) {
            let found = format!("held for network {}, which is gone", network.short());
            rows.push(row(Area::Store, object, "free", found));
        }
    }
}

/// Every claim lies in a subnet that somebody holds.
fn loose_claims(store: &Listing, rows: &mut Vec<DifferenceRow>) {
    for (cidr, ip) in store.addresses.keys().filter(|(cidr, _)| !store.pools.contains_key(cidr)) {
        rows.push(row(Area::Store, format!("claim of {ip}"), "none", format!("its subnet {cidr} is gone")));
    }
}

/// No address of a network is two endpoints'.
fn twice(store: &Listing, rows: &mut Vec<DifferenceRow>) {
    let mut holders: BTreeMap<(&NetworkId, IpAddr), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in store.endpoints.values() {
        for ip in &endpoint.addresses {
            holders.entry((&endpoint.network, *ip)).or_default().push(endpoint);
        }
    }
    for ((network, ip), mut endpoints) in holders {
        // A takeover leaves a record of a lower generation behind, which nobody follows.
        let highest = endpoints.iter().map(|endpoint| endpoint.generation).max();
        endpoints.retain(|endpoint| Some(endpoint.generation) == highest);
        if endpoints.len() > 1 {
            let object = format!("address {ip} of network {}", store.title(network));
            let found: Vec<_> =
                endpoints.iter().map(|e| format!("{} on host {}", title(e), store.host(&e.node))).collect();
            rows.push(row(Area::Store, object, "one holder", found.join(" and ")));
        }
    }
}
