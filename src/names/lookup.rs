//! Questions and answers.

use std::net::IpAddr;

use super::{
    reverse,
    zone::{Holder, Segment, Zone},
};
use crate::model::{EndpointId, NetworkId, NodeId};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Mail exchangers: no container has one, and Docker's resolver says so.
    Mx,
    /// Anything else, which Docker's resolver passes on whatever the name.
    Other,
}

/// What the cluster has to say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses of one family, of all holders on all hosts.
    Addresses(Vec<IpAddr>),
    /// The name of an address: `container.network`.
    Name(String),
    /// The name exists, and has nothing of this kind.
    NoData,
    /// No name of ours.
    NotOurs,
}

/// Which record answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The network in which the name was found.
    pub network: NetworkId,
    /// The endpoint that holds it.
    pub endpoint: EndpointId,
    /// The host of that endpoint.
    pub node: NodeId,
    /// Its container, once known.
    pub container: Option<String>,
    /// Its addresses of the kind that was asked for; all for a PTR.
    pub addresses: Vec<IpAddr>,
    /// Since when it holds the name, in seconds since 1970.
    pub since: u64,
}

/// Answers a question that comes from a sandbox on `networks`, in the order in which they are searched.
/// Holders begin at a place that `seed` chooses.
///
/// As in Docker's resolver, `a.b.c` is first the name `a.b.c` in any of the networks, then `a.b` in the
/// network `c`, then `a` in the network `b.c`; the first network that has an address answers alone.
/// Network names distinguish upper and lower case, others do not. The root's dot is optional.
pub fn lookup(zone: &Zone, networks: &[NetworkId], name: &str, kind: Kind, seed: u64) -> Answer {
    if kind == Kind::Ptr {
        return match reverse::address(name).and_then(|ip| owner(zone, networks, ip)) {
            Some((_, segment, holder)) => title(segment, holder).map_or(Answer::NoData, Answer::Name),
            None => Answer::NotOurs,
        };
    }
    if kind == Kind::Other {
        return Answer::NotOurs;
    }
    match find(zone, networks, name, kind) {
        Some(Found { segment, label, .. }) => {
            let held = segment.named(label).flat_map(Holder::addresses);
            let mut addresses: Vec<_> = held.filter(|ip| of_kind(*ip, kind)).collect();
            if addresses.is_empty() {
                return Answer::NoData;
            }
            let count = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
            addresses.rotate_left(usize::try_from(seed % count).unwrap_or(0));
            Answer::Addresses(addresses)
        }
        None => Answer::NotOurs,
    }
}

/// The records that [`lookup`] answers from, none if the name is not ours.
pub fn explain(zone: &Zone, networks: &[NetworkId], name: &str, kind: Kind) -> Vec<Evidence> {
    let evidence = |network: &NetworkId, holder: &Holder, name: &str| Evidence {
        network: network.clone(),
        endpoint: holder.record.id.clone(),
        node: holder.record.node.clone(),
        container: holder.record.container.clone(),
        addresses: holder.addresses().filter(|ip| kind == Kind::Ptr || of_kind(*ip, kind)).collect(),
        since: holder.since(&name.to_ascii_lowercase()),
    };
    match kind {
        Kind::Ptr => reverse::address(name)
            .and_then(|ip| owner(zone, networks, ip))
            .map(|(network, _, holder)| {
                evidence(network, holder, holder.record.container.as_deref().unwrap_or_default())
            })
            .into_iter()
            .collect(),
        Kind::Other => Vec::new(),
        Kind::A | Kind::Aaaa | Kind::Mx => find(zone, networks, name, kind)
            .map(|Found { network, segment, label }| {
                segment.named(label).map(|holder| evidence(network, holder, label)).collect()
            })
            .unwrap_or_default(),
    }
}

/// Whether a name that nobody has now may be that of a container in a moment, so that "there is no such
/// name" must not be remembered: single labels, names below a network of the sandbox, and names of
/// addresses in its subnets.
pub fn could_come(zone: &Zone, networks: &[NetworkId], name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.contains('.') {
        return !name.is_empty();
    }
    if let Some(ip) = reverse::address(name) {
        return segments(zone, networks).any(|(_, segment)| segment.subnets.iter().any(|s| s.contains(&ip)));
    }
    segments(zone, networks).any(|(_, segment)| {
        let rest = segment.name.as_deref().and_then(|network| name.strip_suffix(network));
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    })
}

/// The network that answers, and its holders of the name; they may have no address of the kind.
struct Found<'a> {
    network: &'a NetworkId,
    segment: &'a Segment,
    /// The name in that network.
    label: &'a str,
}

/// The ways to read a name, in their order: a name in any network, or one in the network behind it.
pub(super) fn labels(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let splits = name.rmatch_indices('.').map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    std::iter::once((name, None)).chain(splits)
}

fn find<'a>(zone: &'a Zone, networks: &'a [NetworkId], name: &'a str, kind: Kind) -> Option<Found<'a>> {
    for (label, wanted) in labels(name) {
        let mut without = None;
        for (network, segment) in segments(zone, networks) {
            if wanted.is_some() && segment.name.as_deref() != wanted {
                continue;
            }
            let mut holders = segment.named(label).peekable();
            if holders.peek().is_none() {
                continue;
            }
            let found = Found { network, segment, label };
            if holders.any(|holder| holder.addresses().any(|ip| of_kind(ip, kind))) {
                return Some(found);
            }
            without.get_or_insert(found);
        }
        if without.is_some() {
            return without;
        }
    }
    None
}

fn owner<'a>(
    zone: &'a Zone,
    networks: &'a [NetworkId],
    ip: IpAddr,
) -> Option<(&'a NetworkId, &'a Segment, &'a Holder)> {
    segments(zone, networks).find_map(|(id, segment)| Some((id, segment, segment.owner(ip)?)))
}

/// The networks that the zone knows.
pub(super) fn segments<'a>(
    zone: &'a Zone,
    networks: &'a [NetworkId],
) -> impl Iterator<Item = (&'a NetworkId, &'a Segment)> {
    networks.iter().filter_map(|id| zone.segments.get_key_value(id))
}

fn title(segment: &Segment, holder: &Holder) -> Option<String> {
    let container = holder.record.container.as_deref().filter(|name| !name.is_empty())?;
    Some(segment.name.as_ref().map_or_else(|| container.to_owned(), |name| format!("{container}.{name}")))
}

fn of_kind(ip: IpAddr, kind: Kind) -> bool {
    match kind {
        Kind::A => ip.is_ipv4(),
        Kind::Aaaa => ip.is_ipv6(),
        Kind::Ptr | Kind::Mx | Kind::Other => false,
    }
}

#[cfg(test)]
mod tests;
