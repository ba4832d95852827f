//! Who answers to a name, for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    admin::{NameQuestion, NameReport, NameRow},
    local::Local,
    model::{Endpoint, EndpointId, NetworkId, Snapshot},
    names::{Kind, Zone, explain, reverse_question},
    store::keys,
};

/// Digits of an id from which on it stands for a container.
const ID_DIGITS: usize = 4;

/// Looks a name up as an interceptor would, in IPv4 and IPv6. An error is a sentence for people.
pub(super) fn answer(
    snapshot: &Snapshot,
    local: &Local,
    vtep: IpAddr,
    question: &NameQuestion,
) -> Result<NameReport, String> {
    let own: Vec<Endpoint> =
        local.read(|data| data.endpoints.values().map(|e| e.publish(local.node(), vtep)).collect());
    lookup(snapshot, &own, question)
}

fn lookup(snapshot: &Snapshot, own: &[Endpoint], question: &NameQuestion) -> Result<NameReport, String> {
    let networks = match &question.from {
        Some(from) => networks_of(snapshot, own, from)?,
        None => ordered(snapshot, snapshot.networks.keys().collect()),
    };
    let zone = Zone::of(snapshot, own);
    let reverse = question.name.parse().ok().map(reverse_question);
    let name = reverse.as_ref().unwrap_or(&question.name);
    // Whoever asks from nowhere asks each network for itself; a container gets the first one that answers.
    let together = if question.from.is_some() { networks.len().max(1) } else { 1 };
    let mut rows: BTreeMap<(usize, EndpointId), NameRow> = BTreeMap::new();
    for (group, ids) in networks.chunks(together).enumerate() {
        for kind in [Kind::A, Kind::Aaaa, Kind::Ptr] {
            for found in explain(&zone, ids, name, kind) {
                let row = rows.entry((group, found.endpoint.clone())).or_insert_with(|| NameRow {
                    addresses: Vec::new(),
                    container: found.container.clone(),
                    host: snapshot.node_title(&found.node).to_owned(),
                    network: title(snapshot, &found.network),
                    since: found.since,
                    record: keys::endpoint(&found.network, &found.endpoint),
                    revision: None,
                });
                row.addresses.extend(found.addresses);
            }
        }
    }
    let searched = networks.iter().map(|id| title(snapshot, id)).collect();
    Ok(NameReport { searched, holders: rows.into_values().collect() })
}

/// The networks of a container on any host, in the order in which its engine searches them.
fn networks_of(snapshot: &Snapshot, own: &[Endpoint], from: &str) -> Result<Vec<NetworkId>, String> {
    let all = || snapshot.endpoints.values().flat_map(BTreeMap::values).chain(own);
    let named: Vec<_> = all().filter(|e| e.container.as_deref() == Some(from)).collect();
    let by_id = |e: &&Endpoint| {
        from.len() >= ID_DIGITS && e.container_id.as_deref().is_some_and(|id| id.starts_with(from))
    };
    let chosen = if named.is_empty() { all().filter(by_id).collect() } else { named };
    // Two hosts may each have a container of this name.
    let containers: BTreeSet<_> = chosen.iter().filter_map(|e| e.container_id.as_deref()).collect();
    match (chosen.is_empty(), containers.len()) {
        (true, _) => Err(format!(
            "no container {from} on a network that this host takes part in; `docker ps` lists this host's"
        )),
        (false, 0 | 1) => Ok(ordered(snapshot, chosen.iter().map(|e| &e.network).collect())),
        (false, several) => {
            Err(format!("{several} containers are called {from}; give --from the id of one of them"))
        }
    }
}

/// Those with a way out first, then by name.
fn ordered(snapshot: &Snapshot, networks: BTreeSet<&NetworkId>) -> Vec<NetworkId> {
    let mut networks: Vec<_> = networks.into_iter().collect();
    networks.sort_by_key(|id| {
        (snapshot.networks.get(id).map(|network| (network.internal, network.name.as_deref())), *id)
    });
    networks.into_iter().cloned().collect()
}

fn title(snapshot: &Snapshot, id: &NetworkId) -> String {
    snapshot.networks.get(id).map_or(id.short(), |network| network.title()).to_owned()
}
