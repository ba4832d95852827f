//! What people are told about a store that was lost, or that is not this cluster's.

use crate::{model::Snapshot, store::gate::Footing};

/// For how many seconds it is told that a network had to give way.
const TOLD: u64 = 3600;

/// A sentence for each.
pub(super) fn problems(footing: &Footing, snapshot: &Snapshot, now: u64) -> Vec<String> {
    let mut problems = Vec::new();
    match footing {
        Footing::Foreign(why) => problems.push(format!("the cluster store {why}")),
        Footing::Refilling | Footing::Sure { settles: Some(_), .. } => problems.push(
            "the cluster store has lost its data and the hosts are filling it again: new networks and addresses wait a few seconds for that"
                .to_owned(),
        ),
        _ => {}
    }
    let recent = snapshot.removed.iter().filter(|(_, removed)| now.saturating_sub(removed.since) < TOLD);
    problems.extend(recent.filter(|(_, removed)| removed.gave_way.is_some()).map(|(id, removed)| {
        format!("network {} was removed{}", removed.title, snapshot.gave_way_because(id))
    }));
    problems
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{GaveWay, NetworkId, NodeId, Removed};

    #[test]
    fn a_network_that_gave_way_is_told_for_a_while_and_one_that_was_removed_is_not() {
        let id = |text: &str| NetworkId::new(text).unwrap();
        let removed = |gave_way| Removed {
            title: "blue".into(),
            by: NodeId::new("a").unwrap(),
            since: 1000,
            gave_way,
            extra: BTreeMap::new(),
        };
        let over = GaveWay { to: id("g"), title: "green".into(), over: "VNI 4096".into() };
        let mut snapshot = Snapshot::default();
        snapshot.removed.insert(id("b"), removed(None));
        assert!(problems(&Footing::Unsure, &snapshot, 1001).is_empty());
        snapshot.removed.insert(id("c"), removed(Some(over)));
        let told = problems(&Footing::Unsure, &snapshot, 1001);
        assert_eq!(told.len(), 1, "{told:?}");
        for part in ["blue", "green", "VNI 4096"] {
            assert!(told[0].contains(part), "{told:?}");
        }
        assert!(problems(&Footing::Unsure, &snapshot, 1000 + TOLD).is_empty());
    }
}
