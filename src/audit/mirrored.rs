//! This host's copy of the store against the store.

use std::collections::BTreeSet;

use super::{Area, Listing, row, unequal};
use crate::{
    admin::DifferenceRow,
    model::{NetworkId, Snapshot},
};

/// All differences, with the endpoints of `followed` networks alone: of all others no copy is kept.
pub fn compare_snapshot(
    store: &Listing,
    copy: &Snapshot,
    followed: &BTreeSet<NetworkId>,
) -> Vec<DifferenceRow> {
    let mut rows = Vec::new();
    let mut tell = |object: String, store: bool, copy: bool| {
        let (expected, found) = match (store, copy) {
            (true, false) => ("there", "missing"),
            (false, true) => ("gone", "still there"),
            _ => ("as in the store", "another state of it"),
        };
        rows.push(row(Area::Copy, object, expected, found));
    };
    if store.meta != copy.meta {
        tell("cluster".into(), store.meta.is_some(), copy.meta.is_some());
    }
    unequal(&store.nodes, &copy.nodes, |id, wanted, found| {
        let name = wanted.or(found).map_or(id.as_str(), |node| node.hostname.as_str());
        tell(format!("host {name}"), wanted.is_some(), found.is_some());
    });
    unequal(&store.hosts, &copy.hosts, |id, wanted, found| {
        let name = wanted.or(found).map_or(id.as_str(), |host| host.hostname.as_str());
        tell(format!("host {name}, which was here"), wanted.is_some(), found.is_some());
    });
    unequal(&store.dead, &copy.dead, |id, wanted, found| {
        let name = wanted.or(found).map_or(id.as_str(), |death| death.hostname.as_str());
        tell(format!("death of host {name}"), wanted.is_some(), found.is_some());
    });
    unequal(&store.removed, &copy.removed, |_, wanted, found| {
        let name = wanted.or(found).map_or("", |removed| removed.title.as_str());
        tell(format!("removal of network {name}"), wanted.is_some(), found.is_some());
    });
    unequal(&store.networks, &copy.networks, |id, wanted, found| {
        let name = wanted.or(found).map_or(id.short(), |network| network.title());
        tell(format!("network {name}"), wanted.is_some(), found.is_some());
    });
    for network in followed {
        let of_network = store.endpoints.iter().filter(|((of, _), _)| of == network);
        let wanted = of_network.map(|((_, id), endpoint)| (id, endpoint));
        let found = copy.endpoints.get(network).into_iter().flatten();
        let found = found.map(|(id, endpoint)| (id, endpoint.as_ref()));
        unequal(wanted, found, |_, wanted, found| {
            let title = wanted.or(found).map_or("an endpoint", |endpoint| endpoint.title());
            let object = format!("{title} in network {}", store.title(network));
            tell(object, wanted.is_some(), found.is_some());
        });
    }
    rows
}
