//! Planning what has changed gives what planning everything gives.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::{collection::vec, prelude::*};
use rs_overlay::{
    model::{Endpoint, EndpointId, MacAddr, Network, NetworkId, NodeId, Snapshot},
    plan::{LocalPort, Planner, Situation, desired},
};
use serde_json::json;

/// One thing that happens in a cluster of three hosts and three networks, of which this host is one.
#[derive(Debug, Clone)]
enum Event {
    Endpoint { network: u8, host: u8, last: u8, generation: u64 },
    End { network: u8, host: u8, last: u8 },
    Death(u8),
    Return(u8),
    Carried { network: u8, mtu: u32 },
    Option { network: u8, flood: bool, checked: bool },
    Own { network: u8, last: u8, here: bool },
    Underlay(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let (network, host, last) = (|| 0..3_u8, || 1..4_u8, || 2..7_u8);
    prop_oneof![
        4 => (network(), host(), last(), 0..3_u64)
            .prop_map(|(network, host, last, generation)| Event::Endpoint { network, host, last, generation }),
        2 => (network(), host(), last()).prop_map(|(network, host, last)| Event::End { network, host, last }),
        1 => host().prop_map(Event::Death),
        1 => host().prop_map(Event::Return),
        1 => (network(), 1300..1500_u32).prop_map(|(network, mtu)| Event::Carried { network, mtu }),
        1 => (network(), any::<bool>(), any::<bool>())
            .prop_map(|(network, flood, checked)| Event::Option { network, flood, checked }),
        3 => (network(), last(), any::<bool>()).prop_map(|(network, last, here)| Event::Own { network, last, here }),
        1 => (1400..1501_u32).prop_map(Event::Underlay),
    ]
}

fn network(n: u8) -> Network {
    let mut network = Network::clone(
        &serde_json::from_value(
            json!({"id": format!("n{n}"), "subnets": [{"cidr": format!("10.{n}.0.0/24")}],
            "vni": 5000 + u32::from(n), "ipam": "ours", "created_by": "h1", "created_at": 0}),
        )
        .unwrap(),
    );
    network.carried = Some(1450);
    network
}

fn node(host: u8) -> NodeId {
    NodeId::new(format!("h{host}")).unwrap()
}

fn ip(network: u8, last: u8) -> IpAddr {
    [10, network, 0, last].into()
}

fn endpoint(network: u8, host: u8, last: u8, generation: u64) -> Endpoint {
    let ip = ip(network, last);
    serde_json::from_value(json!({"id": format!("e{host}x{last}"), "network": format!("n{network}"), "node": node(host),
        "vtep": IpAddr::from([192, 0, 2, host]), "mac": MacAddr::from_ip(ip), "addresses": [ip], "created_at": 0,
        "generation": generation}))
    .unwrap()
}

#[derive(Default)]
struct Cluster {
    snapshot: Snapshot,
    ports: BTreeMap<EndpointId, LocalPort>,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self::default();
        for n in 0..3 {
            cluster.snapshot.networks.insert(network(n).id, network(n));
        }
        (1..4).for_each(|host| cluster.returns(host));
        cluster
    }

    fn returns(&mut self, host: u8) {
        let known = json!({"id": node(host), "hostname": node(host), "vtep": IpAddr::from([192, 0, 2, host]),
            "incarnation": 1, "vxlan_port": 4789, "underlay_mtu": 1500, "daemon_version": "", "scope": "local",
            "boot_id": "", "since": 0});
        self.snapshot.nodes.insert(node(host), serde_json::from_value(known).unwrap());
        self.snapshot.dead.remove(&node(host));
    }

    fn happens(&mut self, event: &Event, mtu: &mut u32) {
        let id = |n: u8| NetworkId::new(format!("n{n}")).unwrap();
        match *event {
            Event::Endpoint { network, host, last, generation } => {
                let endpoint = endpoint(network, host, last, generation);
                let all = self.snapshot.endpoints.entry(id(network)).or_default();
                all.insert(endpoint.id.clone(), endpoint.into());
            }
            Event::End { network, host, last } => {
                let gone = endpoint(network, host, last, 0).id;
                self.snapshot.endpoints.entry(id(network)).or_default().remove(&gone);
            }
            Event::Death(host) => {
                self.snapshot.nodes.remove(&node(host));
                let death =
                    json!({"id": node(host), "hostname": "", "incarnation": 1, "by": "h1", "since": 0});
                self.snapshot.dead.insert(node(host), serde_json::from_value(death).unwrap());
            }
            Event::Return(host) => self.returns(host),
            Event::Carried { network, mtu } => {
                self.snapshot.networks.get_mut(&id(network)).unwrap().carried = Some(mtu);
            }
            Event::Option { network, flood, checked } => {
                let word = |on: bool| if on { "on" } else { "off" }.to_owned();
                let options = &mut self.snapshot.networks.get_mut(&id(network)).unwrap().options;
                options.insert("flood".into(), word(flood));
                options.insert("source-check".into(), word(checked));
            }
            Event::Own { network, last, here } => {
                let own = EndpointId::new(format!("own{network}x{last}")).unwrap();
                let ip = ip(network, last);
                let port = LocalPort { network: id(network), mac: MacAddr::from_ip(ip), addresses: vec![ip] };
                if here {
                    self.ports.insert(own, port);
                } else {
                    self.ports.remove(&own);
                }
            }
            Event::Underlay(now) => *mtu = now,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_has_changed_is_planned_as_if_all_were(events in vec(event(), 1..40)) {
        let (mut cluster, mut planner, mut mtu) = (Cluster::new(), Planner::default(), 1500);
        let mut planned = 0;
        for event in &events {
            cluster.happens(event, &mut mtu);
            let situation = Situation {
                node: &node(1),
                vtep: [192, 0, 2, 1].into(),
                vxlan_port: 4789,
                underlay_mtu: mtu,
                ports: &cluster.ports,
                networks: &BTreeMap::new(),
                refused: &BTreeSet::new(),
                fast_path: true,
            };
            let wanted = desired(&cluster.snapshot, &situation);
            planned += wanted.networks().count();
            prop_assert_eq!(planner.desired(&cluster.snapshot, &situation), wanted);
        }
        // Most runs have something to plan; a test of nothing would pass as well.
        let own = events.iter().any(|event| matches!(event, Event::Own { here: true, .. }));
        prop_assert!(planned > 0 || !own);
    }
}
