//! A small cluster, and what stands for Docker in a sandbox.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use rs_overlay::{
    dns::Names,
    model::{Endpoint, Network, NodeId, Snapshot},
    names::Zone,
};
use serde_json::json;

use crate::{
    lab::{self, Lab, Net},
    resolver::Resolver,
};

/// What only Docker knows in a sandbox.
pub(crate) const LOCAL: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 9);

/// Two networks: `shop` (a) with two holders of `web` and a thousand of `crowd`, and `back` (b) with `db`.
pub(crate) fn snapshot() -> Snapshot {
    let networks = [('a', "shop", 4096, "10.9.0.0/16"), ('b', "back", 4097, "10.8.0.0/16")].map(
        |(c, name, vni, subnet)| -> Network {
            serde_json::from_value(json!({
            "id": lab::network(c), "name": name, "subnets": [{"cidr": subnet}], "vni": vni, "ipam": "ours",
            "created_by": "n1", "created_at": 1,
        }))
        .unwrap()
        },
    );
    let mut endpoints = vec![
        endpoint(1, 'a', "n1", &["shop-web-1", "web"], "10.9.0.2"),
        endpoint(2, 'a', "n2", &["shop-web-2", "web"], "10.9.0.3"),
        endpoint(3, 'b', "n2", &["db"], "10.8.0.2"),
    ];
    endpoints.extend((0..1000_u32).map(|n| {
        let ip = Ipv4Addr::from(0x0a09_0100 + n).to_string();
        endpoint(1000 + n, 'a', "n3", &[&format!("c{n}"), "crowd"], &ip)
    }));
    let mut snapshot = Snapshot::default();
    snapshot.networks.extend(networks.map(|network| (network.id.clone(), network)));
    for endpoint in endpoints {
        snapshot
            .endpoints
            .entry(endpoint.network.clone())
            .or_default()
            .insert(endpoint.id.clone(), endpoint.into());
    }
    snapshot
}

pub(crate) fn endpoint(n: u32, network: char, node: &str, names: &[&str], ip: &str) -> Endpoint {
    serde_json::from_value(json!({
        "id": format!("{n:064x}"), "network": lab::network(network), "node": node, "vtep": "192.0.2.1",
        "mac": "02:42:0a:09:00:02", "addresses": [ip], "container": names[0], "aliases": names[1..],
        "container_id": format!("{:0<64}", format!("{:012x}", 0xabc0_0000 + n)), "created_at": 7,
    }))
    .unwrap()
}

/// What a sandbox on these networks may know.
pub(crate) fn names(networks: &str) -> Names {
    Names::fixed(
        Zone::of(&snapshot(), &NodeId::new("none").unwrap(), vec![]),
        networks.chars().map(lab::network).collect(),
    )
}

/// A sandbox with a stand-in for Docker's resolver.
pub(crate) fn sandbox(lab: &Lab) -> (Net, Resolver) {
    sandbox_with(lab, "iptables-nft")
}

pub(crate) fn sandbox_with(lab: &Lab, iptables: &str) -> (Net, Resolver) {
    let net = lab.namespace("sandbox");
    let resolver = Resolver::start(&net, iptables, LOCAL);
    (net, resolver)
}

/// Waits until `look` answers nothing to complain about.
pub(crate) async fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Err(last) = look() {
        assert!(Instant::now() < deadline, "{what}: {last}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
