//! Which sandboxes are to be served. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    local::LocalData,
    model::{Mode, NetworkId},
};

/// Every sandbox with an endpoint of ours on a network whose names the engine does not share by itself, and
/// those networks in the order in which they are searched: as the engine searches them, those with a way out
/// first, then by name.
pub(super) fn wanted(data: &LocalData) -> BTreeMap<PathBuf, Vec<NetworkId>> {
    let mut found: BTreeMap<PathBuf, Vec<_>> = BTreeMap::new();
    for endpoint in data.endpoints.values() {
        if let Some(sandbox) = endpoint.sandbox.as_deref().filter(|path| !path.is_empty()) {
            let network = data.bindings.get(&endpoint.docker_network).map(|binding| &binding.network);
            if network.is_some_and(|network| network.mode() != Mode::Plain) {
                continue;
            }
            let rank = network.map(|network| (network.internal, network.name.as_deref()));
            found.entry(sandbox.into()).or_default().push((rank, &endpoint.network));
        }
    }
    let sorted = found.into_iter().map(|(path, mut networks)| {
        networks.sort_unstable();
        networks.dedup();
        (path, networks.into_iter().map(|(_, id)| id.clone()).collect())
    });
    sorted.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::local::{Binding, LocalEndpoint};

    fn id(c: char) -> NetworkId {
        NetworkId::new(c.to_string()).unwrap()
    }

    fn data(endpoints: &[(char, Option<&str>)]) -> LocalData {
        let mut data = LocalData::default();
        for (network, name, internal) in [('1', "zoo", false), ('2', "ant", true), ('3', "bee", false)] {
            let binding: Binding = serde_json::from_value(json!({
                "docker_id": format!("d{network}"), "ipam": "ours", "created_at": 1,
                "network": {
                    "id": id(network), "name": name, "internal": internal, "subnets": [], "vni": 4096,
                    "ipam": "ours", "created_by": "n1", "created_at": 1,
                },
            }))
            .unwrap();
            data.bindings.insert(binding.docker_id.clone(), binding);
        }
        for (n, (network, sandbox)) in endpoints.iter().enumerate() {
            let endpoint: LocalEndpoint = serde_json::from_value(json!({
                "id": format!("e{n}"), "network": id(*network), "docker_network": format!("d{network}"),
                "mac": "02:42:0a:09:00:02", "addresses": [], "mtu": 1450, "sandbox": sandbox,
                "created_at": 1, "boot_id": "b",
            }))
            .unwrap();
            data.endpoints.insert(endpoint.id.clone(), endpoint);
        }
        data
    }

    #[test]
    fn one_for_each_sandbox_and_none_without() {
        let data =
            data(&[('1', Some("/a")), ('2', Some("/a")), ('3', Some("/a")), ('3', Some("/b")), ('1', None)]);
        let wanted = wanted(&data);
        assert_eq!(
            wanted.into_iter().collect::<Vec<_>>(),
            [("/a".into(), vec![id('3'), id('1'), id('2')]), ("/b".into(), vec![id('3')])]
        );
    }

    #[test]
    fn an_endpoint_whose_network_is_gone_is_served_all_the_same() {
        let mut data = data(&[('1', Some("/a")), ('2', Some("")), ('9', Some("/a"))]);
        assert_eq!(wanted(&data)[&PathBuf::from("/a")], [id('9'), id('1')]);
        data.bindings.clear();
        assert_eq!(wanted(&data).len(), 1);
    }
}
