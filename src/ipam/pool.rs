//! Choice of a subnet, and what a wanted subnet collides with.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::{Network, NetworkId, Node};

/// A range from which subnets of one size are cut, as dockerd's `default-address-pools` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddrPool {
    /// The whole range.
    pub base: IpNet,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// What a subnet collides with; `Display` is the part of a sentence behind "overlaps".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overlap {
    /// Another network of the cluster, or one that is just being created.
    #[error("{cidr} of network {network} ({detail})")]
    Network {
        /// Its subnet.
        cidr: IpNet,
        /// Its name.
        network: String,
        /// Where it was made.
        detail: String,
    },
    /// Something that a host's routing table leads to.
    #[error("{cidr}, which host {host} reaches through {dev}")]
    Route {
        /// Destination.
        cidr: IpNet,
        /// The host.
        host: String,
        /// Its interface.
        dev: String,
    },
}

/// Whether two subnets share an address.
pub fn overlapping(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first thing that `wanted` collides with: a network of the cluster, then a route of any host.
pub fn first_overlap<'a>(
    wanted: &IpNet,
    networks: impl IntoIterator<Item = &'a Network>,
    nodes: impl IntoIterator<Item = &'a Node>,
    except: Option<&NetworkId>,
) -> Option<Overlap> {
    for network in networks.into_iter().filter(|network| Some(&network.id) != except) {
        if let Some(subnet) = network.subnets.iter().find(|subnet| overlapping(&subnet.cidr, wanted)) {
            let detail = format!("VNI {}", network.vni);
            return Some(Overlap::Network { cidr: subnet.cidr, network: network.title().to_owned(), detail });
        }
    }
    for node in nodes {
        let hit = node.routes.iter().find(|route| counts(&route.cidr) && overlapping(&route.cidr, wanted));
        if let Some(route) = hit {
            let (host, dev) = (node.hostname.clone(), route.dev.clone());
            return Some(Overlap::Route { cidr: route.cidr, host, dev });
        }
    }
    None
}

/// Very short prefixes are a VPN's way to say "everything": as little a claim on addresses as a default
/// route is.
fn counts(route: &IpNet) -> bool {
    match route {
        IpNet::V4(net) => net.prefix_len() >= 8,
        IpNet::V6(net) => net.prefix_len() >= 16,
    }
}

/// The question: which subnet to claim next.
#[derive(Debug, Clone)]
pub struct PoolChoice<'a> {
    /// Ranges to cut from, in order.
    pub pools: &'a [AddrPool],
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Everything that must not be touched: pools of the cluster and routes of its hosts.
    pub taken: &'a [IpNet],
    /// The cluster's id, from which a private IPv6 range follows where none is configured (RFC 4193).
    pub cluster: &'a str,
    /// Free subnets to pass over, drawn by a host that has just lost a race for one.
    pub skip: u32,
}

/// The subnet to claim, or `None` when every one is taken.
pub fn choose_pool(choice: &PoolChoice<'_>) -> Option<IpNet> {
    let own = AddrPool { base: private_v6(choice.cluster), size: 64 };
    let mut pools: Vec<_> = choice.pools.iter().filter(|pool| is_v6(&pool.base) == choice.v6).collect();
    if pools.is_empty() && choice.v6 {
        pools.push(&own);
    }
    let mut skip = choice.skip;
    let mut passed = None;
    for pool in pools {
        let mut at = IpNet::new(pool.base.network(), pool.size).ok();
        while let Some(candidate) = at.filter(|net| pool.base.contains(net)) {
            let hit = choice.taken.iter().find(|net| counts(net) && overlapping(net, &candidate));
            match hit {
                None if skip == 0 => return Some(candidate),
                None => {
                    skip -= 1;
                    passed.get_or_insert(candidate);
                    at = behind(&candidate, pool.size);
                }
                // Jumps over the whole obstacle, so that a /8 in the way costs one step.
                Some(obstacle) if obstacle.prefix_len() < pool.size => at = behind(obstacle, pool.size),
                Some(_) => at = behind(&candidate, pool.size),
            }
        }
    }
    passed
}

/// The first subnet of `size` whose addresses all lie behind `net`.
fn behind(net: &IpNet, size: u8) -> Option<IpNet> {
    let first = match net.broadcast() {
        IpAddr::V4(last) => IpAddr::V4(u32::from(last).checked_add(1)?.into()),
        IpAddr::V6(last) => IpAddr::V6(u128::from(last).checked_add(1)?.into()),
    };
    IpNet::new(first, size).ok()
}

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// A /48 under `fd00::/8` that depends on the cluster alone.
fn private_v6(cluster: &str) -> IpNet {
    let hash = cluster.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&hash.to_be_bytes()[3..]);
    IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::from(bytes), 48))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pick(pools: &[AddrPool], taken: &[IpNet], v6: bool) -> Option<IpNet> {
        choose_pool(&PoolChoice { pools, v6, taken, cluster: "c", skip: 0 })
    }

    #[test]
    fn passes_over_what_is_taken() {
        let pools = [AddrPool { base: net("10.0.0.0/8"), size: 24 }];
        assert_eq!(pick(&pools, &[], false), Some(net("10.0.0.0/24")));
        assert_eq!(pick(&pools, &[net("10.0.0.0/24")], false), Some(net("10.0.1.0/24")));
        assert_eq!(pick(&pools, &[net("10.0.0.0/9")], false), Some(net("10.128.0.0/24")));
        assert_eq!(pick(&pools, &[net("10.0.0.128/25")], false), Some(net("10.0.1.0/24")));
        assert_eq!(pick(&pools, &[net("10.0.0.0/8")], false), None);
        assert_eq!(pick(&pools, &[net("0.0.0.0/1")], false), Some(net("10.0.0.0/24")));
    }

    #[test]
    fn ipv6_comes_from_a_private_range_of_the_cluster() {
        let got = pick(&[], &[], true).unwrap();
        assert_eq!(got.prefix_len(), 64);
        assert!(net("fd00::/8").contains(&got));
        assert_eq!(pick(&[], &[], false), None);
    }

    #[test]
    fn names_what_is_in_the_way() {
        let node = Node {
            id: crate::model::NodeId::new("b").unwrap(),
            hostname: "node2".into(),
            vtep: [192, 0, 2, 2].into(),
            vxlan_port: 4789,
            underlay_mtu: 1500,
            daemon_version: String::new(),
            engine_version: None,
            scope: "local".into(),
            mode: None,
            boot_id: String::new(),
            since: 0,
            vxlans: vec![],
            incarnation: 0,
            probe: false,
            unreachable: std::collections::BTreeMap::new(),
            routes: vec![
                crate::model::HostRoute { cidr: net("0.0.0.0/1"), dev: "tun0".into() },
                crate::model::HostRoute { cidr: net("192.0.2.0/24"), dev: "eth1".into() },
            ],
            extra: std::collections::BTreeMap::new(),
        };
        let hit = first_overlap(&net("192.0.2.128/25"), [], [&node], None).unwrap();
        assert_eq!(hit.to_string(), "192.0.2.0/24, which host node2 reaches through eth1");
        assert_eq!(first_overlap(&net("10.0.0.0/24"), [], [&node], None), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free(six in any::<bool>(), taken in prop::collection::vec((any::<u32>(), 8u8..=32), 0..12), skip in 0u32..4) {
            // The same bits behind either base: an IPv6 prefix is longer by as much as the base is.
            let net = |bits: u32, len: u8| if six {
                let address = 0xfd00_0000_0000_0000 | u64::from(bits & 0x00ff_ffff) << 8;
                IpNet::new(IpAddr::V6((u128::from(address) << 64).into()), len + 24).unwrap().trunc()
            } else {
                IpNet::new(IpAddr::V4(((bits & 0x00ff_ffff) | 0x0a00_0000).into()), len).unwrap().trunc()
            };
            let taken: Vec<IpNet> = taken.into_iter().map(|(bits, len)| net(bits, len)).collect();
            let pools = [AddrPool { base: net(0, 8), size: if six { 48 } else { 24 } }];
            if let Some(got) = choose_pool(&PoolChoice { pools: &pools, v6: six, taken: &taken, cluster: "", skip }) {
                prop_assert!(pools[0].base.contains(&got) && got.prefix_len() == pools[0].size);
                prop_assert!(!taken.iter().any(|t| overlapping(t, &got)), "{} in {:?}", got, taken);
            }
        }
    }
}
