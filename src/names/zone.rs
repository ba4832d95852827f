//! The names of networks and of the endpoints on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    index::{Index, hash_of_address, hash_of_name},
    life::Lost,
};
use crate::model::{Endpoint, Network, NetworkId, NodeId, Snapshot};

/// Digits of a container id that Docker answers as a name.
const SHORT_ID: usize = 12;

/// All names of the networks that a host knows. Built anew for each snapshot, in O(n log n), from the records that
/// the snapshot holds, of which it keeps no copies; a lookup is O(log n).
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
    holders: Vec<Holder>,
    /// Places of those holders that have an address.
    by_name: Index,
    by_address: Index,
    /// How many names there are, each counted once.
    names: usize,
}

/// An endpoint that has names or addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) record: Arc<Endpoint>,
    /// Addresses of its record that an endpoint of a higher generation has taken over.
    lost: Box<[IpAddr]>,
}

impl Holder {
    /// Addresses that are its own.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.record.addresses.iter().copied().filter(|ip| !self.lost.contains(ip))
    }

    /// All it is called, as it is written.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let Endpoint { container, container_id, aliases, .. } = &*self.record;
        let short_id = container_id.as_deref().and_then(|id| id.get(..SHORT_ID));
        let all = container.as_deref().into_iter().chain(short_id);
        all.chain(aliases.iter().map(String::as_str)).filter(|name| !name.is_empty())
    }

    /// Whether it is called `name`, in whatever case.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Since when it has had `name`, in lower case.
    pub(super) fn since(&self, name: &str) -> u64 {
        self.record.named_at.get(name).copied().unwrap_or(self.record.created_at)
    }
}

impl Zone {
    /// The zone of a snapshot on the host `node`, without what is on dead hosts. `own` are that host's
    /// endpoints: what the snapshot says of it is older, as long as the store is away or has not told the
    /// last change yet.
    pub fn of(snapshot: &Snapshot, node: &NodeId, own: Vec<Endpoint>) -> Self {
        let published = snapshot.endpoints.values().flat_map(|endpoints| endpoints.values());
        let others = published.filter(|e| e.node != *node && !snapshot.is_dead(&e.node)).cloned();
        Self::new(snapshot.networks.values(), others.chain(own.into_iter().map(Arc::new)))
    }

    /// The zone of some networks and endpoints. Of two records of one endpoint the later one counts;
    /// endpoints of networks that are not listed are left out.
    pub fn new<'a>(
        networks: impl IntoIterator<Item = &'a Network>,
        endpoints: impl IntoIterator<Item = impl Into<Arc<Endpoint>>>,
    ) -> Self {
        let mut records: BTreeMap<&NetworkId, (&Network, Vec<Arc<Endpoint>>)> =
            networks.into_iter().map(|network| (&network.id, (network, Vec::new()))).collect();
        for endpoint in endpoints {
            let endpoint = endpoint.into();
            if let Some((_, members)) = records.get_mut(&endpoint.network) {
                members.push(endpoint);
            }
        }
        let segments = records
            .into_iter()
            .map(|(id, (network, members))| (id.clone(), Segment::new(network, each_once(members))));
        Self { segments: segments.collect(), lost: Lost::default() }
    }

    /// How many names there are, each counted once per network.
    pub fn len(&self) -> usize {
        self.segments.values().map(|segment| segment.names).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Segment {
    /// `members` in the order of their ids.
    fn new(network: &Network, members: Vec<Arc<Endpoint>>) -> Self {
        let mut claims: Vec<(IpAddr, u64, u32)> = (0..)
            .zip(&members)
            .flat_map(|(place, member)| {
                member.addresses.iter().map(move |ip| (*ip, member.generation, place))
            })
            .collect();
        // The last claim on an address is the one that counts.
        claims.sort_unstable();
        let taken_over = claims.windows(2).filter_map(|pair| match *pair {
            [(ip, _, place), (next, _, by)] if ip == next && place != by => Some((place, ip)),
            _ => None,
        });
        let mut lost: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        taken_over.for_each(|(place, ip)| {
            lost.entry(place).or_default().insert(ip);
        });
        let owners = claims.chunk_by(|one, next| one.0 == next.0).filter_map(<[_]>::last);
        let by_address = Index::of(owners.map(|(ip, _, place)| (hash_of_address(*ip), *place)));
        let holders: Vec<_> = (0..)
            .zip(members)
            .map(|(place, record)| Holder {
                record,
                lost: lost.remove(&place).into_iter().flatten().collect(),
            })
            .collect();
        // An endpoint that lost all its addresses is no longer anywhere.
        let there = (0..).zip(&holders).filter(|(_, holder)| holder.addresses().next().is_some());
        let by_name = Index::of(
            there.flat_map(|(place, holder)| holder.names().map(move |name| (hash_of_name(name), place))),
        );
        let subnets = network.subnets.iter().map(|subnet| subnet.cidr).collect();
        let mut segment =
            Self { name: network.name.clone(), subnets, holders, by_name, by_address, names: 0 };
        segment.names = segment.by_name.groups().map(|group| segment.names_in(group)).sum();
        segment
    }

    /// In the order of their ids.
    pub(super) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Those who are called `name`, in whatever case, in the order of their ids.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Holder> {
        let places = self.by_name.places(hash_of_name(name));
        places.filter_map(|place| self.at(place)).filter(move |holder| holder.has_name(name))
    }

    /// Who has this address.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<&Holder> {
        let mut places = self.by_address.places(hash_of_address(ip)).filter_map(|place| self.at(place));
        places.find(|holder| holder.addresses().any(|own| own == ip))
    }

    fn at(&self, place: u32) -> Option<&Holder> {
        self.holders.get(usize::try_from(place).ok()?)
    }

    /// How many different names share this hash: one, as good as always.
    fn names_in(&self, group: &[(u32, u32)]) -> usize {
        let mut names: Vec<&str> = Vec::new();
        for (hash, place) in group {
            for name in self.at(*place).into_iter().flat_map(Holder::names) {
                if hash_of_name(name) == *hash && !names.iter().any(|known| known.eq_ignore_ascii_case(name))
                {
                    names.push(name);
                }
            }
        }
        names.len()
    }
}

/// In the order of their ids; of two with one id the later one.
fn each_once(mut members: Vec<Arc<Endpoint>>) -> Vec<Arc<Endpoint>> {
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            std::mem::swap(later, kept);
        }
        same
    });
    members
}
