//! Which hosts, networks and containers a cluster of the figures has, and their records. Pure.
//!
//! Every host has one container in network 0, and the others in nine networks that it shares with nine hosts
//! each, other ones every time.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use rs_overlay::{
    local::{Binding, KnownCluster, LocalEndpoint},
    model::{
        Endpoint, EndpointId, IpamMode, MacAddr, Mark, Meta, Network, NetworkId, Node, NodeId, Presence,
        Subnet, Vni,
    },
    store::{keys, record},
};

/// Networks of a host besides the one of all.
const CIRCLES: usize = 9;
/// Hosts in each of these.
const CIRCLE: usize = 10;
/// Containers of a host in each of these.
const EACH: usize = 11;
/// Distances at which the hosts of a circle stand, none of which has a factor in common with ten.
const STRIDES: [usize; CIRCLES] = [1, 3, 7, 9, 11, 13, 17, 19, 21];
/// The boot in which all is.
pub(crate) const BOOT: &str = "boot";
pub(crate) const INCARNATION: &str = "0123456789abcdef";
const CLUSTER: &str = "fedcba9876543210";

/// A container's place: host, network, number in that network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) host: usize,
    pub(crate) network: usize,
    pub(crate) number: usize,
}

/// A cluster of `hosts` hosts: a multiple of ten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) hosts: usize,
}

impl Layout {
    pub(crate) fn networks(self) -> usize {
        1 + CIRCLES * self.hosts.div_ceil(CIRCLE)
    }

    /// Networks of a host.
    pub(crate) fn networks_of(self, host: usize) -> Vec<usize> {
        std::iter::once(0).chain((0..CIRCLES).map(|circle| self.circle(circle, host).0)).collect()
    }

    /// The containers of a host.
    pub(crate) fn places_of(self, host: usize) -> Vec<Place> {
        let mut places = vec![Place { host, network: 0, number: host }];
        for circle in 0..CIRCLES {
            let (network, seat) = self.circle(circle, host);
            places.extend((0..EACH).map(|n| Place { host, network, number: seat * EACH + n }));
        }
        places
    }

    /// Other hosts' containers that a host has to know.
    pub(crate) fn remote_of(self) -> usize {
        self.hosts - 1 + CIRCLES * (CIRCLE - 1) * EACH
    }

    /// A network, and the seat of a host in it.
    fn circle(self, circle: usize, host: usize) -> (usize, usize) {
        let at = host * STRIDES[circle] % self.hosts;
        (1 + circle * self.hosts.div_ceil(CIRCLE) + at / CIRCLE, at % CIRCLE)
    }

    /// All records of the cluster but those of containers that `of` does not take.
    pub(crate) fn records(self, of: impl Fn(usize) -> bool) -> Result<Vec<(String, String)>> {
        let meta = Meta {
            cluster: CLUSTER.into(),
            incarnation: INCARNATION.into(),
            turns: 0,
            provisional: false,
            void: Vec::new(),
            created_at: 1,
            extra: BTreeMap::new(),
        };
        let mut records = vec![
            (keys::META.to_owned(), record::encode(&meta)),
            (keys::incarnation(INCARNATION), record::encode(&BTreeMap::<String, u8>::new())),
        ];
        for number in 0..self.networks() {
            let network = network(number)?;
            records.push((keys::network(&network.id), record::encode(&network)));
        }
        for host in 0..self.hosts {
            let node = node(host)?;
            let known = serde_json::json!({"id": node.id, "hostname": node.hostname, "vtep": node.vtep,
                "incarnation": 1, "probe": true, "about": node.about()});
            records.push((keys::host(&node.id), record::encode(&known)));
            let mark = Mark { incarnation: INCARNATION.into(), tide: 1, at: 1, extra: BTreeMap::new() };
            records.push((keys::mark(&node.id), record::encode(&mark)));
            for number in self.networks_of(host) {
                let id = network_id(number)?;
                let presence = Presence { docker_id: id.clone(), since: 1, extra: BTreeMap::new() };
                records.push((keys::present(&id, &node.id), record::encode(&presence)));
            }
            records.push((keys::node(&node.id), record::encode(&node)));
            if of(host) {
                for place in self.places_of(host) {
                    records.push(endpoint_record(&published(place)?));
                }
            }
        }
        Ok(records)
    }
}

/// Key and text of an endpoint.
pub(crate) fn endpoint_record(endpoint: &Endpoint) -> (String, String) {
    (keys::endpoint(&endpoint.network, &endpoint.id), record::encode(endpoint))
}

/// The cluster as its hosts remember it.
pub(crate) fn known_cluster() -> KnownCluster {
    KnownCluster { id: CLUSTER.into(), incarnation: Some(INCARNATION.into()), turns: 0, provisional: false }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Ids of the length that an engine gives them, well mixed as those are.
fn hex(kind: u64, n: usize) -> String {
    let mut seed = kind.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n as u64;
    let mut text = String::new();
    for _ in 0..4 {
        // SplitMix64.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = format!("{:016x}", z ^ (z >> 31));
        text.push_str(&part);
    }
    text
}

pub(crate) fn network_id(n: usize) -> Result<NetworkId> {
    Ok(NetworkId::new(hex(1, n))?)
}

/// The id that a host draws from its number.
pub(crate) fn node_id(host: usize) -> Result<NodeId> {
    Ok(NodeId::new(format!("{:016x}", node_number(host)))?)
}

/// What it draws.
pub(crate) fn node_number(host: usize) -> u64 {
    (host as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub(crate) fn vtep(host: usize) -> IpAddr {
    let [_, _, c, d] = (number(host) + 1).to_be_bytes();
    [198, 18, c, d].into()
}

pub(crate) fn node(host: usize) -> Result<Node> {
    Ok(Node {
        id: node_id(host)?,
        hostname: format!("host{host}.example.com"),
        vtep: vtep(host),
        vxlan_port: 4789,
        underlay_mtu: 1500,
        daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_version: Some("20.10.24".to_owned()),
        scope: "local".to_owned(),
        mode: None,
        boot_id: "6b8b3f0e-6a5c-4d1f-9d43-1c2e3f405162".to_owned(),
        since: 1,
        routes: Vec::new(),
        vxlans: Vec::new(),
        incarnation: 1,
        probe: true,
        unreachable: BTreeMap::new(),
        extra: BTreeMap::new(),
    })
}

/// Network 0 has a /12 to itself, the others a /22 each.
fn first_address(network: usize) -> (u32, u8) {
    if network == 0 { (0x0a10_0000, 12) } else { (0x0a80_0000 + ((number(network) - 1) << 10), 22) }
}

pub(crate) fn network(n: usize) -> Result<Network> {
    let (first, length) = first_address(n);
    let cidr = ipnet::Ipv4Net::new(first.into(), length)?;
    let gateway = std::net::Ipv4Addr::from(first + 1);
    let subnet = Subnet {
        cidr: cidr.into(),
        gateway: Some(gateway.into()),
        gateway_unlisted: false,
        ip_range: None,
        aux: BTreeMap::new(),
    };
    Ok(Network {
        id: network_id(n)?,
        name: Some(format!("network-{n}")),
        subnets: vec![subnet],
        vni: Vni::new(4096 + number(n))?,
        mtu: None,
        carried: Some(1450),
        internal: false,
        attachable: false,
        ipv6: false,
        ipam: IpamMode::Ours,
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
        labels: BTreeMap::new(),
        created_by: node_id(0)?,
        created_at: 1,
        allocated: false,
        shared: false,
        extra: BTreeMap::new(),
    })
}

/// The network as an engine has it.
pub(crate) fn binding(n: usize) -> Result<Binding> {
    let network = network(n)?;
    Ok(Binding { docker_id: network.id.clone(), network, ipam: IpamMode::Ours, created_at: 1 })
}

pub(crate) fn address(place: Place) -> IpAddr {
    std::net::Ipv4Addr::from(first_address(place.network).0 + 2 + number(place.number)).into()
}

/// A container as its own host knows it: with a name, an alias and its short id, as compose makes them.
pub(crate) fn local(place: Place) -> Result<LocalEndpoint> {
    let Place { network, number, .. } = place;
    let ip = address(place);
    let identity = network * 1_000_000 + number;
    let container = hex(3, identity);
    Ok(LocalEndpoint {
        id: EndpointId::new(hex(2, identity))?,
        network: network_id(network)?,
        docker_network: network_id(network)?,
        mac: MacAddr::from_ip(ip),
        addresses: vec![ip],
        claimed: Vec::new(),
        mtu: 1450,
        sandbox: None,
        container: Some(format!("project_service-{network}-{number}_1")),
        aliases: vec![format!("service-{network}-{}", number / 2)],
        container_id: Some(container),
        named_at: BTreeMap::new(),
        created_at: 1_700_000_000,
        boot_id: BOOT.to_owned(),
        generation: 0,
        cut_off: None,
    })
}

/// The same as all others know it.
pub(crate) fn published(place: Place) -> Result<Endpoint> {
    Ok(local(place)?.publish(&node_id(place.host)?, vtep(place.host)))
}
