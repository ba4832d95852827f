//! Which hosts live, for people.

use std::collections::{BTreeMap, BTreeSet};

use super::view::count;
use crate::{
    admin::NodeRow,
    jury::{Standing, Verdict, standing},
    local::{Local, LocalEndpoint},
    model::{Endpoint, Node, NodeId, Snapshot},
    reconcile::Applied,
};

/// All hosts that are or were here, at `now`, with what they have in use.
pub(super) fn rows(snapshot: &Snapshot, endpoints: &[Endpoint], now: u64) -> Vec<NodeRow> {
    let nodes = snapshot.nodes.keys().chain(snapshot.hosts.keys()).chain(snapshot.dead.keys());
    let nodes: BTreeSet<&NodeId> = nodes.collect();
    let mut rows: Vec<_> = nodes.into_iter().map(|node| row(snapshot, node, endpoints, now)).collect();
    rows.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    rows
}

fn row(snapshot: &Snapshot, id: &NodeId, endpoints: &[Endpoint], now: u64) -> NodeRow {
    let own: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.node == *id).collect();
    let networks: BTreeSet<_> = own.iter().map(|endpoint| &endpoint.network).collect();
    let state = match standing(snapshot, id) {
        Standing::Alive => "alive",
        Standing::Dead(_) => "dead",
        Standing::Suspect(_) | Standing::Unknown => "suspect",
    };
    let (node, host) = (snapshot.nodes.get(id), snapshot.hosts.get(id));
    let vtep = node.map(|node| node.vtep).or_else(|| host.map(|host| host.vtep));
    let about = node.map(Node::about).or_else(|| host.map(|host| host.about.clone())).unwrap_or_default();
    let or_unknown = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    // Where nobody saw a lease end, a word of death, or what the host last told the store, is the next best.
    let left =
        || host.and_then(|host| host.left_at).or_else(|| snapshot.dead.get(id).map(|death| death.since));
    let told = || snapshot.marks.get(id).map_or(0, |mark| mark.at).max(about.since);
    NodeRow {
        id: id.to_string(),
        hostname: snapshot.node_title(id).to_owned(),
        vtep: vtep.unwrap_or_else(|| std::net::Ipv4Addr::UNSPECIFIED.into()),
        networks: count(networks.len()),
        endpoints: count(own.len()),
        since: about.since,
        last_seen: if node.is_some() { now } else { left().unwrap_or_else(told) },
        state: state.to_owned(),
        engine: about.engine_version,
        daemon: or_unknown(about.daemon_version),
        scope: or_unknown(about.scope),
        mode: about.mode.map(|mode| mode.as_str().to_owned()),
    }
}

/// What needs attention: hosts that are missed or dead, containers that were cut off, and a probe device
/// that cannot be made.
pub(super) fn problems(snapshot: &Snapshot, local: &Local, applied: &Applied) -> Vec<String> {
    let mut problems = Vec::new();
    for suspect in snapshot.suspects() {
        let Standing::Suspect(verdict) = standing(snapshot, &suspect.id) else { continue };
        problems.push(format!(
            "host {} ({}) has lost its lease: its daemon, its way to the store, or the host itself is gone; {}",
            suspect.hostname,
            suspect.vtep,
            because(snapshot, &verdict)
        ));
    }
    for death in snapshot.dead.values().filter(|death| snapshot.is_dead(&death.id)) {
        problems.push(format!(
            "host {} is dead (declared by {}): its names are withdrawn, and its addresses are taken over by whoever asks for them with --ip",
            death.hostname,
            snapshot.node_title(&death.by)
        ));
    }
    let cut: Vec<LocalEndpoint> =
        local.read(|data| data.endpoints.values().filter(|e| e.cut_off.is_some()).cloned().collect());
    problems.extend(cut.iter().filter_map(|endpoint| cut_off(snapshot, endpoint)));
    if let Some(trouble) = applied.probe_trouble() {
        problems.push(format!(
            "{trouble}; without a probe device this host is never declared dead, and its names and addresses are not freed when it loses its power"
        ));
    }
    problems
}

fn because(snapshot: &Snapshot, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Dead => "it is about to be declared dead".to_owned(),
        Verdict::Replaced(heir) => format!(
            "host {} has its address now, so it is declared dead unless it tells another one in a moment",
            snapshot.node_title(heir)
        ),
        Verdict::Missed(jurors) => {
            let names: Vec<_> = jurors.iter().map(|juror| snapshot.node_title(juror)).collect();
            format!(
                "it is not declared dead, and all of it stays, while it answers on the underlay or {} has not missed it there",
                names.join(", ")
            )
        }
        Verdict::Unasked => {
            "it is never declared dead, since it had no probe device to be asked on; its own status said why"
                .to_owned()
        }
        Verdict::NoJury => "no host is left that could ask for it, so all of it stays".to_owned(),
    }
}

fn cut_off(snapshot: &Snapshot, endpoint: &LocalEndpoint) -> Option<String> {
    let cut = endpoint.cut_off.as_ref()?;
    let network = snapshot.networks.get(&endpoint.network).map_or(endpoint.network.short(), |n| n.title());
    let name = endpoint.container.as_deref().unwrap_or(endpoint.id.short());
    // When it was cut off, its successor's name may not have been told yet.
    let successor = || {
        let has = |e: &&Endpoint| e.node == cut.node && e.addresses.contains(&cut.ip);
        snapshot.endpoints_of(&endpoint.network).find(has)?.container.as_ref()
    };
    let holder = cut.container.as_ref().or_else(successor);
    let holder = holder.map_or_else(|| "a container".to_owned(), |name| format!("container {name}"));
    Some(format!(
        "container {name} is cut off network {network}: its address {} was taken over by {holder} on host {} while this host was taken for dead; 'docker restart {name}' gives it another one, unless it was started with --ip",
        cut.ip, cut.host
    ))
}

/// Hosts by their ids.
pub(super) fn by_id<T>(
    records: impl IntoIterator<Item = T>,
    id: impl Fn(&T) -> NodeId,
) -> BTreeMap<NodeId, T> {
    records.into_iter().map(|record| (id(&record), record)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Host 1 lives, host 2 has lost its lease, host 3 is dead.
    fn snapshot() -> Snapshot {
        let host = |n: u8| {
            json!({"id": n.to_string(), "hostname": format!("h{n}"), "vtep": format!("192.0.2.{n}"),
                   "incarnation": 1, "probe": true})
        };
        let mut left = host(2);
        left["left_at"] = 50.into();
        left["about"] = json!({"daemon_version": "1.0", "engine_version": "20.10.5", "scope": "global",
                               "mode": "classic", "since": 5});
        serde_json::from_value(json!({
            "meta": null, "networks": {}, "endpoints": {},
            "nodes": {"1": {"id": "1", "hostname": "h1", "vtep": "192.0.2.1", "vxlan_port": 4789, "underlay_mtu": 1500,
                            "daemon_version": "1.0", "scope": "local", "boot_id": "", "since": 7, "probe": true}},
            "hosts": {"1": host(1), "2": left, "3": host(3)},
            "dead": {"3": {"id": "3", "hostname": "h3", "incarnation": 1, "by": "1", "since": 9}},
        }))
        .unwrap()
    }

    #[test]
    fn every_host_that_was_ever_here_is_listed_with_its_state() {
        let rows = rows(&snapshot(), &[], 100);
        let told: Vec<_> =
            rows.iter().map(|row| (&*row.hostname, &*row.state, row.since, row.last_seen)).collect();
        assert_eq!(told, [("h1", "alive", 7, 100), ("h2", "suspect", 5, 50), ("h3", "dead", 0, 9)]);
        assert_eq!(rows[2].vtep.to_string(), "192.0.2.3");
        assert_eq!(
            (rows[1].mode.as_deref(), &*rows[1].daemon, rows[1].engine.as_deref()),
            (Some("classic"), "1.0", Some("20.10.5"))
        );
    }

    #[test]
    fn whoever_is_missed_or_dead_or_cut_off_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::open(dir.path(), 1).unwrap();
        let endpoint = json!({"id": "e", "network": "n", "docker_network": "n", "mac": "02:42:0a:09:00:02",
            "addresses": ["10.9.0.2"], "mtu": 1450, "container": "db", "created_at": 0, "boot_id": "",
            "cut_off": {"ip": "10.9.0.2", "node": "2", "host": "h2", "since": 0}});
        local.put_endpoint(serde_json::from_value(endpoint).unwrap()).unwrap();
        let mut applied = Applied::default();
        let mut snapshot = snapshot();
        let told = problems(&snapshot, &local, &applied).join("\n");
        assert!(told.contains("taken over by a container on host h2"), "{told}");
        let successor = json!({"id": "s", "network": "n", "node": "2", "vtep": "192.0.2.2", "mac": "02:42:0a:09:00:02",
            "addresses": ["10.9.0.2"], "container": "db2", "created_at": 0});
        let successor: Endpoint = serde_json::from_value(successor).unwrap();
        snapshot
            .endpoints
            .entry(successor.network.clone())
            .or_default()
            .insert(successor.id.clone(), successor.into());
        let told = problems(&snapshot, &local, &applied).join("\n");
        for part in [
            "h2 (192.0.2.2) has lost its lease",
            "h1 has not missed it",
            "h3 is dead (declared by h1)",
            "container db is cut off",
            "container db2 on host h2",
        ] {
            assert!(told.contains(part), "no {part:?} in {told}");
        }
        applied.complaints.insert(crate::model::NetworkId::of_probes(), "probe device: no IPv6".to_owned());
        let told = problems(&Snapshot::default(), &local, &applied).join("\n");
        assert!(told.contains("probe device: no IPv6; without"), "{told}");
    }
}
