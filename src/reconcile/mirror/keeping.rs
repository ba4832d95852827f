//! What stays in the snapshot although the store does not have it: all of it while the store is not known to
//! be the one of before, and then the endpoints of those hosts that have not filled it again yet.

use std::{collections::BTreeSet, sync::Arc};

use crate::model::{Endpoint, NetworkId, NodeId, Snapshot, changes::gone};

/// The snapshot as it was, in a store that cannot be believed. Only the cluster's record is new, and what
/// this host itself uses no longer goes.
pub(super) fn frozen(old: &Snapshot, told: Snapshot) -> Snapshot {
    let mut new = Snapshot { meta: told.meta, ..old.clone() };
    new.endpoints.retain(|network, _| told.endpoints.contains_key(network));
    new
}

/// Networks and hosts whose endpoints would vanish now that the host has told all anew.
pub(super) fn to_be_checked(old: &Snapshot, told: &Snapshot, incarnation: &str) -> Vec<(NetworkId, NodeId)> {
    let done = |node: &NodeId| told.marks.get(node).is_some_and(|mark| mark.incarnation == incarnation);
    let gone = told.endpoints.iter().flat_map(|(network, now)| {
        let same = old.endpoints.get(network).is_some_and(|before| before.is(now));
        let before = old.endpoints.get(network).filter(|_| !same);
        let gone = before.into_iter().flat_map(|before| gone(before, now));
        gone.map(|(_, endpoint)| (network.clone(), endpoint.node.clone()))
    });
    let gone: BTreeSet<_> =
        gone.filter(|(_, node)| is_behind(old, node, incarnation) && done(node)).collect();
    gone.into_iter().collect()
}

/// The snapshot with the endpoints of hosts that are behind as they were before, those in `late` included.
pub(super) fn kept(old: &Snapshot, told: Snapshot, incarnation: &str, late: &BTreeSet<NodeId>) -> Snapshot {
    let mut new = told;
    if !old.marks.is(&new.marks) {
        let gone = gone(&old.marks, &new.marks).filter(|(_, mark)| mark.incarnation != incarnation);
        let late = old.marks.iter().filter(|(node, _)| late.contains(node));
        let kept: Vec<_> = gone.chain(late).map(|(node, mark)| (node.clone(), mark.clone())).collect();
        if !kept.is_empty() {
            new.marks.extend(kept);
        }
    }
    let behind = new.marks.iter().filter(|(_, mark)| mark.incarnation != incarnation);
    let behind: BTreeSet<NodeId> = behind.map(|(node, _)| node.clone()).collect();
    if behind.is_empty() {
        return new;
    }
    for (network, endpoints) in &mut new.endpoints {
        // What a store that was set back says of such a host is older than what is known of it.
        endpoints.retain(|_, endpoint| !behind.contains(&endpoint.node));
        let taken: BTreeSet<_> = endpoints.values().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        let free = |endpoint: &&Arc<Endpoint>| endpoint.addresses.iter().all(|ip| !taken.contains(ip));
        let before = old.endpoints.get(network).into_iter().flat_map(|endpoints| endpoints.values());
        let before = before.filter(|endpoint| behind.contains(&endpoint.node));
        endpoints.extend(before.filter(free).map(|endpoint| (endpoint.id.clone(), endpoint.clone())));
    }
    new
}

/// Whether a host has told all it has in an earlier incarnation and not in this one. One that has never said
/// so is of a release that does not.
fn is_behind(snapshot: &Snapshot, node: &NodeId, incarnation: &str) -> bool {
    snapshot.marks.get(node).is_some_and(|mark| mark.incarnation != incarnation)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use super::*;
    use crate::model::{EndpointId, MacAddr, Mark};

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn network() -> NetworkId {
        NetworkId::new("n").unwrap()
    }

    fn endpoint(id: &str, host: &str, last: u8) -> Endpoint {
        let ip = IpAddr::from([10, 9, 0, last]);
        Endpoint {
            id: EndpointId::new(id).unwrap(),
            network: network(),
            node: node(host),
            vtep: [192, 0, 2, 1].into(),
            mac: MacAddr::from_ip(ip),
            addresses: vec![ip],
            container: None,
            container_id: None,
            aliases: vec![],
            named_at: BTreeMap::new(),
            generation: 0,
            created_at: 0,
            extra: BTreeMap::new(),
        }
    }

    fn snapshot(endpoints: &[Endpoint], marks: &[(&str, &str)]) -> Snapshot {
        let by_id = endpoints.iter().map(|e| (e.id.clone(), e.clone().into())).collect();
        let mark = |incarnation: &str| Mark {
            incarnation: incarnation.into(),
            tide: 1,
            at: 0,
            extra: BTreeMap::new(),
        };
        Snapshot {
            endpoints: BTreeMap::from([(network(), by_id)]),
            marks: marks.iter().map(|(id, incarnation)| (node(id), mark(incarnation).into())).collect(),
            ..Snapshot::default()
        }
    }

    fn ids(snapshot: &Snapshot) -> Vec<String> {
        snapshot.endpoints_of(&network()).map(|e| e.id.to_string()).collect()
    }

    #[test]
    fn hosts_that_have_not_told_anew_keep_what_they_had() {
        let old = snapshot(&[endpoint("b1", "b", 2), endpoint("c1", "c", 3)], &[("b", "i"), ("c", "i")]);
        // The emptied store: `b` has filled it with less than before, `c` has not.
        let told = snapshot(&[], &[("b", "j")]);
        assert_eq!(to_be_checked(&old, &told, "j"), [(network(), node("b"))]);
        let new = kept(&old, told.clone(), "j", &BTreeSet::new());
        assert_eq!(ids(&new), ["c1"]);
        assert_eq!(new.marks.get(&node("c")).unwrap().incarnation, "i");
        // The records of `b` are only late.
        assert_eq!(ids(&kept(&old, told, "j", &BTreeSet::from([node("b")]))), ["b1", "c1"]);
        // Later `c` is back with another container.
        let told = snapshot(&[endpoint("c2", "c", 4)], &[("b", "j"), ("c", "j")]);
        assert_eq!(ids(&kept(&new, told, "j", &BTreeSet::new())), ["c2"]);
    }

    #[test]
    fn what_a_store_of_an_earlier_time_says_of_a_host_that_is_behind_counts_for_nothing() {
        let old = snapshot(&[endpoint("b2", "b", 2)], &[("b", "i")]);
        let told = snapshot(&[endpoint("b1", "b", 9), endpoint("d1", "d", 7)], &[("b", "i")]);
        assert_eq!(ids(&kept(&old, told, "j", &BTreeSet::new())), ["b2", "d1"]);
    }

    #[test]
    fn an_address_that_somebody_has_now_is_no_longer_kept_for_a_host_that_is_away() {
        let old = snapshot(&[endpoint("c1", "c", 3)], &[("b", "i"), ("c", "i")]);
        let told = snapshot(&[endpoint("b1", "b", 3)], &[("b", "j")]);
        assert_eq!(ids(&kept(&old, told, "j", &BTreeSet::new())), ["b1"]);
    }

    #[test]
    fn within_one_incarnation_the_store_is_right() {
        let old = snapshot(&[endpoint("b1", "b", 2)], &[("b", "i"), ("c", "i")]);
        let told = snapshot(&[], &[("b", "i")]);
        assert!(to_be_checked(&old, &told, "i").is_empty());
        let new = kept(&old, told, "i", &BTreeSet::new());
        assert_eq!((ids(&new).len(), new.marks.len()), (0, 1));
        // A host of a release that writes no marks.
        let old = snapshot(&[endpoint("b1", "b", 2)], &[]);
        assert!(ids(&kept(&old, snapshot(&[], &[]), "j", &BTreeSet::new())).is_empty());
    }

    #[test]
    fn a_frozen_snapshot_lets_only_go_what_this_host_does_not_use() {
        let old = snapshot(&[endpoint("b1", "b", 2)], &[("b", "i")]);
        let new = frozen(&old, snapshot(&[endpoint("x", "x", 9)], &[]));
        assert_eq!((ids(&new), new.marks.len()), (vec!["b1".to_owned()], 1));
        assert!(frozen(&old, Snapshot::default()).endpoints.is_empty());
    }
}
