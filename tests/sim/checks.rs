//! What must be true: at any moment, once faults have stopped for some time, and when all is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use rs_overlay::{
    model::{
        AddressClaim, ClaimKind, Endpoint, EndpointId, Network, NetworkClaim, NetworkId, Node, NodeId, Pool,
    },
    store::{Entry, keys, record},
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    host::{self, Daemon},
    kernel, store, views,
};

/// A container that can talk on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Live {
    pub(crate) network: NetworkId,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) host: usize,
    pub(crate) endpoint: EndpointId,
    pub(crate) name: String,
}

/// All that can talk now, and that are not those of a host that counts as dead, or were cut off because they
/// had been: what such a container says nobody hears. Which network of the cluster an engine's network is says the daemon there, or
/// `known` what it said last.
pub(crate) fn live(known: &mut BTreeMap<String, NetworkId>) -> BTreeSet<Live> {
    let mut live = BTreeSet::new();
    let dead: BTreeSet<_> = store::with(|store| store.range(keys::DEAD)).into_iter().map(|e| e.key).collect();
    for number in 0..host::count() {
        if let Some(daemon) = host::daemon(number) {
            daemon.local.read(|data| {
                let cut_off = data.endpoints.values().filter(|e| e.cut_off.is_some()).map(|e| e.id.clone());
                host::with(number, |host| {
                    host.cut_off = cut_off.collect();
                    host.node = Some(daemon.local.node().clone());
                });
                for (docker_id, binding) in &data.bindings {
                    known.insert(docker_id.to_string(), binding.network.id.clone());
                }
            });
        }
        host::with(number, |host| {
            if host.node.as_ref().is_some_and(|node| dead.contains(&keys::dead(node))) {
                host.was_dead = true;
                return;
            }
            for (name, container) in host.engine.containers.iter().filter(|(_, c)| c.running) {
                for (docker_id, place) in container.endpoints.iter().filter(|(_, place)| place.joined) {
                    let endpoint = EndpointId::new(place.id.as_str()).unwrap();
                    if let Some(network) = known.get(docker_id).filter(|_| !host.cut_off.contains(&endpoint))
                    {
                        live.insert(Live {
                            network: network.clone(),
                            ips: place.ips.clone(),
                            host: number,
                            endpoint,
                            name: name.clone(),
                        });
                    }
                }
            }
        });
    }
    live
}

/// Two that can talk and have one address.
pub(crate) fn twice(live: &BTreeSet<Live>) -> Option<String> {
    let mut owners: BTreeMap<(&NetworkId, IpAddr), &Live> = BTreeMap::new();
    for one in live {
        for ip in &one.ips {
            if let Some(other) = owners.insert((&one.network, *ip), one) {
                return Some(format!("two live owners of {ip}: {other:?} and {one:?}"));
            }
        }
    }
    None
}

/// For how long a host may have answered again before somebody writes down that it is dead: whoever asked may
/// have been slow to say so.
const LATE: Duration = Duration::from_secs(40);

/// A host that was declared dead although its kernel has answered all the time.
pub(crate) fn unjust_death() -> Result<(), String> {
    for number in 0..host::count() {
        host::with(number, |host| {
            if !kernel::answers(host) {
                host.silent = Some(Instant::now());
            }
            let dead = std::mem::take(&mut host.was_dead);
            let silent = host.silent.is_some_and(|at| at.elapsed() < LATE);
            if dead && !silent && !std::mem::replace(&mut host.excused, true) {
                return Err(format!("host{number} was declared dead, although it answers"));
            }
            host.excused = dead;
            Ok(())
        })?;
    }
    Ok(())
}

/// The records below `prefix`, with their keys.
pub(crate) fn records<T: DeserializeOwned>(entries: &[Entry], prefix: &str) -> Vec<(String, T)> {
    let of = entries.iter().filter(|entry| entry.key.starts_with(prefix));
    of.map(|entry| {
        let record = record::decode(&entry.key, &entry.value);
        (entry.key.clone(), record.unwrap_or_else(|error| panic!("{error}")))
    })
    .collect()
}

/// Everything that is not as it must be once nothing is wrong any more.
pub(crate) fn unsettled(known: &mut BTreeMap<String, NetworkId>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut daemons = Vec::new();
    for number in 0..host::count() {
        match host::daemon(number) {
            Some(daemon) => daemons.push(daemon),
            None => wrong.push(format!("host{number}: no daemon")),
        }
        if host::with(number, |host| host.engine.containers.values().any(|c| c.busy)) {
            wrong.push(format!("host{number}: the engine is busy"));
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    let entries = store::with(|store| store.range(""));
    let networks: BTreeMap<NetworkId, Network> =
        records::<Network>(&entries, keys::NETWORKS).into_iter().map(|(_, n)| (n.id.clone(), n)).collect();
    let live = live(known);
    wrong.extend(twice(&live));
    wrong.extend(
        store::with(|store| store.range(keys::DEAD)).into_iter().map(|e| format!("still dead: {}", e.key)),
    );
    engines(&daemons, &networks, &entries, &mut wrong);
    own_states(&daemons, &live, &mut wrong);
    claims(&daemons, &networks, &entries, &live, &mut wrong);
    published(&daemons, &entries, &live, &mut wrong);
    views::snapshots(&daemons, &networks, &entries, &mut wrong);
    views::names(&daemons, &live, &mut wrong);
    wrong
}

/// Engines have the cluster's networks, and no others of our driver.
fn engines(
    daemons: &[Daemon],
    networks: &BTreeMap<NetworkId, Network>,
    entries: &[Entry],
    wrong: &mut Vec<String>,
) {
    for (number, daemon) in daemons.iter().enumerate() {
        let data = daemon.local.data();
        let here = host::with(number, |host| host.engine.networks.clone());
        for id in here.keys().filter(|id| !data.bindings.keys().any(|known| known.as_str() == id.as_str())) {
            wrong.push(format!(
                "host{number}: the engine has {} ({}), the daemon not",
                here[id].info.name,
                &id[..12]
            ));
        }
        for (id, binding) in &data.bindings {
            match here.get(id.as_str()) {
                None => wrong.push(format!("host{number}: the daemon has {id:?}, the engine not")),
                Some(net) if binding.network.name.as_ref() != Some(&net.info.name) => {
                    wrong.push(format!(
                        "host{number}: {id:?} is {} and {:?}",
                        net.info.name, binding.network.name
                    ));
                }
                Some(_) => {}
            }
            if !networks.contains_key(&binding.network.id) {
                wrong.push(format!("host{number}: has {:?}, which is gone", binding.network.id));
            }
        }
        for network in networks.values() {
            let departed = keys::departed(&network.id, daemon.local.node());
            let departed = entries.iter().any(|entry| entry.key == departed);
            if data.binding_of(&network.id).is_none() && !departed {
                wrong.push(format!("host{number}: lacks network {} {:?}", network.title(), network.id));
            }
        }
    }
}

/// What a host remembers is what its engine has.
fn own_states(daemons: &[Daemon], live: &BTreeSet<Live>, wrong: &mut Vec<String>) {
    for (number, daemon) in daemons.iter().enumerate() {
        let data = daemon.local.data();
        let here: BTreeSet<_> =
            live.iter().filter(|l| l.host == number).map(|l| l.endpoint.clone()).collect();
        let known: BTreeSet<_> = data.connected().map(|endpoint| endpoint.id.clone()).collect();
        if here != known {
            wrong.push(format!("host{number}: has endpoints {known:?}, the engine {here:?}"));
        }
        if !data.releases.is_empty() || !data.departures.is_empty() {
            wrong
                .push(format!("host{number}: has still to settle {:?} {:?}", data.releases, data.departures));
        }
    }
}

/// Addresses, subnets, VNIs and names are held for what is there, and for nothing else.
fn claims(
    daemons: &[Daemon],
    networks: &BTreeMap<NetworkId, Network>,
    entries: &[Entry],
    live: &BTreeSet<Live>,
    wrong: &mut Vec<String>,
) {
    let mut wanted: BTreeMap<String, Option<NodeId>> = BTreeMap::new();
    let mut structure: BTreeSet<String> = BTreeSet::new();
    for network in networks.values() {
        structure.insert(keys::vni(network.vni));
        match &network.name {
            Some(name) => _ = structure.insert(keys::name(name)),
            None => wrong.push(format!("network {:?} has no name", network.id)),
        }
        for subnet in &network.subnets {
            structure.insert(keys::pool(&subnet.cidr));
            wanted.extend(subnet.gateway.map(|ip| (keys::address(&subnet.cidr, ip), None)));
            for one in live.iter().filter(|l| l.network == network.id) {
                let node = daemons[one.host].local.node();
                let here = one.ips.iter().filter(|ip| subnet.cidr.contains(*ip));
                wanted.extend(here.map(|ip| (keys::address(&subnet.cidr, *ip), Some(node.clone()))));
            }
        }
    }
    // A container that is cut off because one of its addresses is another's keeps the other one until it ends.
    let mut cut_off: BTreeSet<(String, NodeId)> = BTreeSet::new();
    for daemon in daemons {
        daemon.local.read(|data| {
            for one in data.endpoints.values().filter(|one| one.cut_off.is_some()) {
                let subnets = networks.get(&one.network).map_or(&[][..], |network| &network.subnets);
                for (ip, subnet) in one.addresses.iter().flat_map(|ip| subnets.iter().map(move |s| (ip, s))) {
                    cut_off.insert((keys::address(&subnet.cidr, *ip), daemon.local.node().clone()));
                }
            }
        });
    }
    let held: BTreeMap<_, _> = records::<AddressClaim>(entries, "v1/addresses/")
        .into_iter()
        .filter(|(_, claim)| !super::parts::is_reserve(claim))
        .filter(|(key, claim)| !cut_off.contains(&(key.clone(), claim.node.clone())))
        .map(|(key, claim)| {
            let reserved = matches!(claim.kind, ClaimKind::Gateway | ClaimKind::Auxiliary);
            (key, (!reserved).then_some(claim.node))
        })
        .collect();
    difference("addresses", &wanted, &held, wrong);
    let parts = ["v1/vnis/", "v1/names/", "v1/pools/"];
    let there = entries.iter().filter(|entry| parts.iter().any(|part| entry.key.starts_with(part)));
    let there: BTreeSet<String> = there.map(|entry| entry.key.clone()).collect();
    if structure != there {
        let more: Vec<_> = there.difference(&structure).collect();
        let less: Vec<_> = structure.difference(&there).collect();
        wrong.push(format!("store: has {more:?} for nothing, lacks {less:?}"));
    }
    for (key, pool) in records::<Pool>(entries, keys::POOLS) {
        if pool.closing || pool.network.as_ref().is_none_or(|id| !networks.contains_key(id)) {
            wrong.push(format!("store: {key} is closing, or of no network"));
        }
    }
    for (key, claim) in records::<NetworkClaim>(entries, "v1/names/") {
        if !networks.contains_key(&claim.network) {
            wrong.push(format!("store: {key} is of no network"));
        }
    }
}

fn difference<V: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &BTreeMap<String, V>,
    there: &BTreeMap<String, V>,
    wrong: &mut Vec<String>,
) {
    for (key, value) in wanted {
        match there.get(key) {
            None => wrong.push(format!("{what}: {key} is missing")),
            Some(other) if other != value => {
                wrong.push(format!("{what}: {key} is {other:?} and not {value:?}"));
            }
            Some(_) => {}
        }
    }
    for (key, value) in there.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        wrong.push(format!("{what}: {key} ({value:?}) is left over"));
    }
}

/// Records of endpoints and of presence are those of what is there.
fn published(daemons: &[Daemon], entries: &[Entry], live: &BTreeSet<Live>, wrong: &mut Vec<String>) {
    let wanted: BTreeMap<_, _> = live
        .iter()
        .map(|one| {
            let node = daemons[one.host].local.node().clone();
            (keys::endpoint(&one.network, &one.endpoint), (node, one.ips.clone(), Some(one.name.clone())))
        })
        .collect();
    let there = records::<Endpoint>(entries, keys::ENDPOINTS).into_iter();
    let there: BTreeMap<_, _> = there.map(|(key, e)| (key, (e.node, e.addresses, e.container))).collect();
    difference("endpoints", &wanted, &there, wrong);
    let mut present = BTreeSet::new();
    for daemon in daemons {
        daemon.local.read(|data| {
            let bound = data.bindings.values();
            present.extend(bound.map(|b| keys::present(&b.network.id, daemon.local.node())));
        });
    }
    let told: BTreeSet<_> =
        entries.iter().filter(|e| e.key.starts_with(keys::PRESENT)).map(|e| e.key.clone()).collect();
    if present != told {
        wrong.push(format!("present: {told:?} and not {present:?}"));
    }
    let nodes: BTreeSet<_> = records::<Node>(entries, keys::NODES).into_iter().map(|(_, n)| n.id).collect();
    let all: BTreeSet<_> = daemons.iter().map(|daemon| daemon.local.node().clone()).collect();
    if nodes != all {
        wrong.push(format!("nodes: {nodes:?} and not {all:?}"));
    }
}

/// What is left although everything has been removed.
pub(crate) fn left_over() -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in store::with(|store| store.range("")) {
        if entry.key != keys::META
            && !entry.key.starts_with(keys::NODES)
            && !super::parts::may_stay(&entry.key)
        {
            wrong.push(format!("store: {} = {}", entry.key, entry.value));
        }
    }
    for number in 0..host::count() {
        let overlay = host::with(number, |host| host.kernel.overlay());
        if overlay.networks().next().is_some() || !overlay.guards.is_empty() {
            wrong.push(format!("host{number}: kernel {overlay:?}"));
        }
        let Some(daemon) = host::daemon(number) else {
            wrong.push(format!("host{number}: no daemon"));
            continue;
        };
        let data = daemon.local.data();
        if !data.bindings.is_empty()
            || !data.endpoints.is_empty()
            || !data.claims.is_empty()
            || !data.releases.is_empty()
            || !data.departures.is_empty()
        {
            wrong.push(format!("host{number}: own state {data:?}"));
        }
    }
    wrong
}
