//! Who answers to a name, for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    admin::{NameQuestion, NameReport, NameRow},
    local::Local,
    model::{Endpoint, EndpointId, NetworkId, NodeId, Snapshot},
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
        local.read(|data| data.connected().map(|e| e.publish(local.node(), vtep)).collect());
    lookup(snapshot, local.node(), &own, question)
}

fn lookup(
    snapshot: &Snapshot,
    node: &NodeId,
    own: &[Endpoint],
    question: &NameQuestion,
) -> Result<NameReport, String> {
    let networks = match &question.from {
        Some(from) => networks_of(snapshot, node, own, from)?,
        None => ordered(snapshot, snapshot.networks.keys().collect()),
    };
    let zone = Zone::of(snapshot, node, own.to_vec());
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
    Ok(NameReport { searched, holders: rows.into_values().collect(), trouble: None })
}

/// The networks of a container on any host, in the order in which its engine searches them.
fn networks_of(
    snapshot: &Snapshot,
    node: &NodeId,
    own: &[Endpoint],
    from: &str,
) -> Result<Vec<NetworkId>, String> {
    let published =
        || snapshot.endpoints.values().flat_map(|endpoints| endpoints.values().map(AsRef::as_ref));
    let all = || published().filter(|e| e.node != *node).chain(own);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Network 1 is `blue`, network 2 the internal `amber`; `web` on hosts a and b, the latter on both.
    fn snapshot() -> Snapshot {
        let network = |id: &str, name: &str, internal: bool| {
            json!({"id": id, "name": name, "internal": internal, "subnets": [], "vni": 4096, "ipam": "ours",
                   "created_by": "n1", "created_at": 1})
        };
        let endpoint = |id: &str, network: &str, container: &str, ips: &[&str]| {
            json!({"id": id, "network": network, "node": "n1", "vtep": "192.0.2.1", "mac": "02:42:0a:09:00:02",
                   "addresses": ips, "container": container, "container_id": format!("{container}0123456789"),
                   "aliases": ["web"], "created_at": 7})
        };
        serde_json::from_value(json!({
            "meta": null, "nodes": {},
            "networks": {"1": network("1", "blue", false), "2": network("2", "amber", true)},
            "endpoints": {
                "1": {"e1": endpoint("e1", "1", "aaaa", &["10.0.1.2", "fd00::2"]),
                      "e2": endpoint("e2", "1", "bbbb", &["10.0.1.3"])},
                "2": {"e3": endpoint("e3", "2", "bbbb", &["10.0.2.2"])},
            },
        }))
        .unwrap()
    }

    fn ask(name: &str, from: Option<&str>) -> Result<NameReport, String> {
        let question = NameQuestion { name: name.to_owned(), from: from.map(str::to_owned), explain: false };
        lookup(&snapshot(), &NodeId::new("n2").unwrap(), &[], &question)
    }

    fn records(name: &str, from: Option<&str>) -> Vec<String> {
        ask(name, from).unwrap().holders.into_iter().map(|row| row.record).collect()
    }

    #[test]
    fn all_networks_answer_nobody_and_the_first_one_a_container() {
        let all = ["v1/endpoints/1/e1", "v1/endpoints/1/e2", "v1/endpoints/2/e3"];
        assert_eq!(records("web", None), all);
        assert_eq!(records("WEB", Some("bbbb")), all[..2]);
        assert_eq!(records("web.amber", Some("bbbb0123")), all[2..]);
        assert!(records("web.amber", Some("aaaa")).is_empty());
        assert_eq!(ask("web", Some("bbbb")).unwrap().searched, ["blue", "amber"]);
    }

    #[test]
    fn addresses_of_both_families_are_one_row() {
        let report = ask("aaaa", Some("bbbb")).unwrap();
        let ips: [IpAddr; 2] = ["10.0.1.2", "fd00::2"].map(|ip| ip.parse().unwrap());
        assert_eq!(report.holders[0].addresses, ips);
        assert_eq!((report.holders[0].since, report.holders[0].host.as_str()), (7, "n1"));
        for ip in ["10.0.1.2", "fd00::2", "2.1.0.10.in-addr.arpa"] {
            assert_eq!(records(ip, None), ["v1/endpoints/1/e1"], "{ip}");
        }
    }

    #[test]
    fn unknown_containers_and_odd_names_are_told() {
        assert!(ask("web", Some("cccc")).unwrap_err().contains("no container cccc"));
        assert!(ask("web", Some("")).unwrap_err().contains("no container"));
        for name in ["", ".", "..", "é", "nobody"] {
            assert!(records(name, None).is_empty(), "{name}");
        }
    }
}
