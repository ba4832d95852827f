//! The index.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::life::Lost;
use crate::model::{Endpoint, EndpointId, Network, NetworkId, NodeId, Snapshot};

/// Digits of a container id that Docker answers as a name.
const SHORT_ID: usize = 12;

/// All names of the networks that a host knows. Built anew for each snapshot, in O(n log n); a lookup is
/// O(log n).
#[derive(Debug, Clone, Default)]
pub struct Zone {
    pub(super) segments: BTreeMap<NetworkId, Segment>,
    pub(super) lost: Lost,
}

/// The names of one network.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    /// What people call it; absent for a moment after its creation.
    pub(super) name: Option<String>,
    pub(super) subnets: Vec<IpNet>,
    /// In the order of their ids.
    pub(super) holders: Vec<Holder>,
    /// Name in lower case to places in `holders`, ascending, none twice.
    pub(super) by_name: BTreeMap<Box<str>, Vec<usize>>,
    /// Address to a place in `holders`.
    pub(super) by_address: BTreeMap<IpAddr, usize>,
}

/// An endpoint that has names or addresses.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) endpoint: EndpointId,
    pub(super) node: NodeId,
    pub(super) container: Option<String>,
    /// Those that no endpoint of a higher generation has taken over.
    pub(super) addresses: Vec<IpAddr>,
    created_at: u64,
    named_at: BTreeMap<String, u64>,
}

impl Holder {
    /// Since when it has had `name`, in lower case.
    pub(super) fn since(&self, name: &str) -> u64 {
        self.named_at.get(name).copied().unwrap_or(self.created_at)
    }
}

impl Zone {
    /// The zone of a snapshot on the host `node`, without what is on dead hosts. `own` are that host's
    /// endpoints: what the snapshot says of it is older, as long as the store is away or has not told the
    /// last change yet.
    pub fn of(snapshot: &Snapshot, node: &NodeId, own: &[Endpoint]) -> Self {
        let published =
            snapshot.endpoints.values().flat_map(|endpoints| endpoints.values().map(AsRef::as_ref));
        let others = published.filter(|e| e.node != *node && !snapshot.is_dead(&e.node));
        Self::new(snapshot.networks.values(), others.chain(own))
    }

    /// The zone of some networks and endpoints. Of two records of one endpoint the later one counts;
    /// endpoints of networks that are not listed are left out.
    pub fn new<'a>(
        networks: impl IntoIterator<Item = &'a Network>,
        endpoints: impl IntoIterator<Item = &'a Endpoint>,
    ) -> Self {
        let mut records: BTreeMap<&NetworkId, (&Network, BTreeMap<&EndpointId, &Endpoint>)> =
            networks.into_iter().map(|network| (&network.id, (network, BTreeMap::new()))).collect();
        for endpoint in endpoints {
            if let Some((_, members)) = records.get_mut(&endpoint.network) {
                members.insert(&endpoint.id, endpoint);
            }
        }
        let segments = records.into_iter().map(|(id, (network, members))| {
            let members: Vec<_> = members.into_values().collect();
            (id.clone(), Segment::new(network, &members))
        });
        Self { segments: segments.collect(), lost: Lost::default() }
    }

    /// How many names there are, each counted once per network.
    pub fn len(&self) -> usize {
        self.segments.values().map(|segment| segment.by_name.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Segment {
    fn new(network: &Network, members: &[&Endpoint]) -> Self {
        let mut owners: BTreeMap<IpAddr, (u64, usize)> = BTreeMap::new();
        for (place, member) in members.iter().enumerate() {
            for ip in &member.addresses {
                let claim = (member.generation, place);
                owners.entry(*ip).and_modify(|owner| *owner = claim.max(*owner)).or_insert(claim);
            }
        }
        let subnets = network.subnets.iter().map(|subnet| subnet.cidr).collect();
        let mut segment = Self { name: network.name.clone(), subnets, ..Self::default() };
        for (place, member) in members.iter().enumerate() {
            let held = |ip: &&IpAddr| owners.get(*ip).is_some_and(|(_, owner)| *owner == place);
            let addresses: Vec<_> = member.addresses.iter().filter(held).copied().collect();
            // An endpoint that lost all its addresses is no longer anywhere.
            if !addresses.is_empty() {
                for name in names_of(member) {
                    segment.by_name.entry(name.into()).or_default().push(place);
                }
            }
            segment.holders.push(Holder {
                endpoint: member.id.clone(),
                node: member.node.clone(),
                container: member.container.clone(),
                addresses,
                created_at: member.created_at,
                named_at: member.named_at.clone(),
            });
        }
        segment.by_address = owners.into_iter().map(|(ip, (_, place))| (ip, place)).collect();
        segment
    }
}

/// Each once, in lower case.
fn names_of(endpoint: &Endpoint) -> BTreeSet<String> {
    let short_id = endpoint.container_id.as_deref().and_then(|id| id.get(..SHORT_ID));
    let all = endpoint.container.as_deref().into_iter().chain(short_id);
    all.chain(endpoint.aliases.iter().map(String::as_str))
        .filter(|name| !name.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}
