//! What each host makes of the store: its copy of it, its kernel, and the names that it knows.

use std::collections::{BTreeMap, BTreeSet};

use rs_overlay::{
    model::{Endpoint, Endpoints, KnownHost, Meta, Network, NetworkId, Node, NodeId, Shared, Snapshot},
    names::{Answer, Kind, Zone, lookup},
    plan::{LocalPort, Situation, desired},
    store::{Entry, keys, record},
    watched::Watched,
};

use super::{
    checks::{Live, records},
    host::{self, Daemon},
};

/// Every host knows what the store has, and its kernel is what follows from that.
pub(crate) fn snapshots(
    daemons: &[Daemon],
    networks: &BTreeMap<NetworkId, Network>,
    entries: &[Entry],
    wrong: &mut Vec<String>,
) {
    let nodes: BTreeMap<NodeId, Node> =
        records::<Node>(entries, keys::NODES).into_iter().map(|(_, n)| (n.id.clone(), n)).collect();
    let hosts: BTreeMap<NodeId, KnownHost> =
        records::<KnownHost>(entries, keys::HOSTS).into_iter().map(|(_, h)| (h.id.clone(), h)).collect();
    let meta = entries.iter().find(|entry| entry.key == keys::META);
    let meta = meta.and_then(|entry| record::decode::<Meta>(&entry.key, &entry.value).ok());
    let mut all: BTreeMap<NetworkId, Shared<Endpoints>> = BTreeMap::new();
    for (_, endpoint) in records::<Endpoint>(entries, keys::ENDPOINTS) {
        all.entry(endpoint.network.clone()).or_default().insert(endpoint.id.clone(), endpoint.into());
    }
    for (number, daemon) in daemons.iter().enumerate() {
        let used = daemon.local.read(rs_overlay::local::LocalData::networks_in_use);
        let endpoints = used.into_iter().map(|id| (id.clone(), all.get(&id).cloned().unwrap_or_default()));
        // A part of a snapshot that is new may be of no concern here.
        #[allow(clippy::needless_update, reason = "it is needed as soon as there is such a part")]
        let truth = Snapshot {
            meta: meta.clone(),
            nodes: nodes.clone().into(),
            networks: networks.clone().into(),
            endpoints: endpoints.collect(),
            hosts: hosts.clone().into(),
            ..Snapshot::default()
        };
        let seen = daemon.snapshot.now();
        let same = seen.meta == truth.meta
            && seen.nodes == truth.nodes
            && seen.hosts == truth.hosts
            && seen.dead == truth.dead
            && seen.networks == truth.networks
            && seen.endpoints == truth.endpoints;
        if !same {
            wrong.push(format!("host{number}: does not see what the store has"));
        }
        wrong.extend(kernel_of(number, daemon, &truth));
    }
}

/// What differs between a host's kernel and what it should be.
fn kernel_of(number: usize, daemon: &Daemon, truth: &Snapshot) -> Option<String> {
    let (ports, networks) = daemon.local.read(|data| {
        let ports = data.connected().map(|e| {
            (
                e.id.clone(),
                LocalPort { network: e.network.clone(), mac: e.mac, addresses: e.addresses.clone() },
            )
        });
        let networks = data.bindings.values().map(|b| (b.network.id.clone(), b.network.clone()));
        (ports.collect(), networks.collect())
    });
    let (vtep, overlay) = host::with(number, |host| (host.vtep, host.kernel.overlay()));
    let refused = daemon.driver.refused();
    let now = tokio::time::Instant::now();
    let refused = refused.now().iter().filter(|(_, until)| **until > now).map(|(cidr, _)| *cidr).collect();
    let situation = Situation {
        node: daemon.local.node(),
        vtep,
        vxlan_port: 4789,
        underlay_mtu: 1500,
        ports: &ports,
        networks: &networks,
        refused: &refused,
        fast_path: true,
    };
    let wanted = desired(truth, &situation);
    (overlay != wanted).then(|| format!("host{number}: the kernel has {overlay:?} and not {wanted:?}"))
}

/// Every container is found by its name on every host that shares the network, and nobody else is.
pub(crate) fn names(daemons: &[Daemon], live: &BTreeSet<Live>, wrong: &mut Vec<String>) {
    for (number, daemon) in daemons.iter().enumerate() {
        let vtep = host::with(number, |host| host.vtep);
        let own: Vec<Endpoint> = daemon
            .local
            .read(|data| data.connected().map(|e| e.publish(daemon.local.node(), vtep)).collect());
        let zone = Zone::of(&daemon.snapshot.now(), daemon.local.node(), own);
        for network in daemon.local.read(rs_overlay::local::LocalData::networks_in_use) {
            let names: BTreeSet<_> = live.iter().map(|one| one.name.as_str()).collect();
            for name in names {
                let holders = live.iter().filter(|one| one.network == network && one.name == name);
                let wanted: BTreeSet<_> = holders.flat_map(|one| one.ips.clone()).collect();
                let answers = [Kind::A, Kind::Aaaa].map(|kind| {
                    match lookup(&zone, std::slice::from_ref(&network), name, kind, 0) {
                        Answer::Addresses(addresses) => addresses,
                        _ => Vec::new(),
                    }
                });
                let answered: BTreeSet<_> = answers.concat().into_iter().collect();
                if answered != wanted {
                    wrong.push(format!("host{number}: {name} is {answered:?} and not {wanted:?}"));
                }
            }
        }
    }
}
