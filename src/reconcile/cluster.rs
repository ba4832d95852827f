//! Whether the store is still the one that this host knows. One read answers it: the cluster's record, the
//! key that goes with its incarnation, and all marks.

use std::collections::BTreeMap;

use crate::{
    local::{KnownCluster, Local, LocalData, Told},
    model::{Mark, Meta, NodeId, Snapshot},
    store::{Entry, Guard, Store, StoreError, keys, record},
};

/// What this host remembers.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) cluster: Option<KnownCluster>,
    /// Marks of all hosts as they were seen last; this host's own as it was written last.
    pub(super) marks: BTreeMap<NodeId, Told>,
    /// This host.
    pub(super) own: Option<NodeId>,
    /// This host has nothing in its cluster, and neither had any other: there is nothing to protect. So is one
    /// whose daemon ran for a time before it was told of the cluster's store.
    pub(super) nothing: bool,
}

/// What a look at the store has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is the one that is known, and what is not in it was removed.
    Same { meta: Meta, guard: Guard, marks: BTreeMap<NodeId, Mark> },
    /// It has no cluster.
    Empty,
    /// Its cluster's record cannot be read.
    Unreadable(String),
    /// It has another cluster.
    Foreign(String),
    /// It has a cluster that was founded a moment ago by somebody who does not know of this host's: it is this
    /// one's store, which was emptied.
    Usurped { meta: Meta, entry: Entry },
    /// It is the store of this cluster, in an incarnation that this host has not confirmed.
    Turned { meta: Meta, guard: Guard },
    /// It is not as it was, and nobody has noticed yet: `why` is the end of a sentence about it.
    Doubtful { meta: Meta, entry: Entry, why: String },
}

impl Memory {
    pub(super) fn of(local: &Local, snapshot: &Snapshot) -> Self {
        let (cluster, told) = local.read(|data| (data.cluster.clone(), data.told.clone()));
        let seen = |mark: &Mark| Told { incarnation: mark.incarnation.clone(), tide: mark.tide };
        let mut marks: BTreeMap<_, _> =
            snapshot.marks.iter().map(|(node, mark)| (node.clone(), seen(mark))).collect();
        marks.remove(local.node());
        marks.extend(told.map(|told| (local.node().clone(), told)));
        let nothing = snapshot.networks.is_empty() && local.read(LocalData::is_empty);
        Self { cluster, marks, own: Some(local.node().clone()), nothing }
    }
}

/// Looks at the store.
pub(super) async fn look(store: &dyn Store, memory: &Memory) -> Result<Sight, StoreError> {
    Ok(judge(memory, &store.range(keys::CLUSTER).await?))
}

/// Whether what is not in the store was removed. For a host without a memory it was.
pub(crate) async fn is_known(
    store: &dyn Store,
    local: &Local,
    snapshot: &Snapshot,
) -> Result<bool, StoreError> {
    if local.read(|data| data.cluster.is_none()) {
        return Ok(true);
    }
    Ok(matches!(look(store, &Memory::of(local, snapshot)).await?, Sight::Same { .. }))
}

fn judge(memory: &Memory, entries: &[Entry]) -> Sight {
    let find = |key: &str| entries.iter().find(|entry| entry.key == key);
    let Some(entry) = find(keys::META) else { return Sight::Empty };
    let meta = match record::decode::<Meta>(&entry.key, &entry.value) {
        Ok(meta) => meta,
        Err(error) => return Sight::Unreadable(error.to_string()),
    };
    // Whoever has only known a cluster that had just been founded, or has nothing in its own, takes what it
    // finds.
    let settled = |known: &KnownCluster| !known.provisional && !memory.nothing;
    if memory.cluster.as_ref().is_some_and(|known| known.id != meta.cluster && settled(known)) {
        let entry = entry.clone();
        return if meta.provisional { Sight::Usurped { meta, entry } } else { Sight::Foreign(meta.cluster) };
    }
    let doubtful = |meta, why: String| Sight::Doubtful { meta, entry: entry.clone(), why };
    let key = (!meta.incarnation.is_empty()).then(|| keys::incarnation(&meta.incarnation));
    let Some(guard) = key.as_deref().and_then(find) else {
        return doubtful(meta, "has lost the key of its incarnation".to_owned());
    };
    let guard = Guard::Unchanged(guard.key.clone(), guard.revision);
    let known = memory.cluster.as_ref().and_then(|known| known.incarnation.as_deref());
    if known != Some(meta.incarnation.as_str()) {
        return Sight::Turned { meta, guard };
    }
    let marks = entries.iter().filter_map(|entry| {
        Some((keys::marked(&entry.key)?, record::decode::<Mark>(&entry.key, &entry.value).ok()?))
    });
    let marks: BTreeMap<NodeId, Mark> = marks.collect();
    for (node, told) in memory.marks.iter().filter(|(_, told)| told.incarnation == meta.incarnation) {
        let lower = match marks.get(node) {
            Some(mark) => mark.tide < told.tide,
            // Those of hosts that do not come back are swept.
            None => memory.own.as_ref() == Some(node),
        };
        if lower {
            return doubtful(meta, format!("has gone back in time: it lacks changes of host {node}"));
        }
    }
    Sight::Same { meta, guard, marks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;

    fn meta(incarnation: &str) -> Meta {
        Meta {
            cluster: "c".into(),
            incarnation: incarnation.into(),
            turns: 0,
            provisional: false,
            void: vec![],
            created_at: 0,
            extra: BTreeMap::new(),
        }
    }

    fn entry(key: &str, value: String) -> Entry {
        Entry { key: key.to_owned(), value, revision: Revision(5) }
    }

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn mark(id: &str, tide: u64) -> Entry {
        let mark = Mark { incarnation: "i".into(), tide, at: 0, extra: BTreeMap::new() };
        entry(&keys::mark(&node(id)), record::encode(&mark))
    }

    fn store(incarnation: &str, marks: &[Entry]) -> Vec<Entry> {
        let mut entries = vec![
            entry(keys::META, record::encode(&meta(incarnation))),
            entry(&keys::incarnation(incarnation), "{}".into()),
        ];
        entries.extend(marks.iter().cloned());
        entries
    }

    fn memory(incarnation: Option<&str>, marks: &[(&str, u64)]) -> Memory {
        let told = |(id, tide): &(&str, u64)| (node(id), Told { incarnation: "i".into(), tide: *tide });
        Memory {
            cluster: Some(KnownCluster {
                id: "c".into(),
                incarnation: incarnation.map(str::to_owned),
                turns: 0,
                provisional: false,
            }),
            marks: marks.iter().map(told).collect(),
            own: Some(node("a")),
            nothing: false,
        }
    }

    fn same(sight: &Sight) -> bool {
        matches!(sight, Sight::Same { .. })
    }

    fn doubtful(sight: &Sight) -> bool {
        matches!(sight, Sight::Doubtful { .. })
    }

    #[test]
    fn the_store_is_the_same_while_no_mark_is_lower() {
        let now = memory(Some("i"), &[("a", 3), ("b", 9)]);
        assert!(same(&judge(&now, &store("i", &[mark("a", 3), mark("b", 10)]))));
        assert!(doubtful(&judge(&now, &store("i", &[mark("a", 3), mark("b", 8)]))));
        assert!(doubtful(&judge(&now, &store("i", &[mark("a", 2), mark("b", 9)]))));
        // Another host's may have been swept, our own not.
        assert!(same(&judge(&now, &store("i", &[mark("a", 3)]))));
        assert!(doubtful(&judge(&now, &store("i", &[mark("b", 9)]))));
    }

    #[test]
    fn marks_of_an_earlier_incarnation_count_for_nothing() {
        let mut now = memory(Some("j"), &[("a", 3), ("b", 9)]);
        assert!(same(&judge(&now, &store("j", &[mark("b", 1)]))));
        now.marks.get_mut(&node("b")).unwrap().incarnation = "j".into();
        assert!(doubtful(&judge(&now, &store("j", &[mark("b", 1)]))));
    }

    #[test]
    fn another_incarnation_is_not_another_cluster() {
        assert!(matches!(judge(&memory(Some("i"), &[]), &store("k", &[])), Sight::Turned { .. }));
        assert!(matches!(judge(&memory(None, &[]), &store("k", &[])), Sight::Turned { .. }));
        assert!(matches!(judge(&Memory::default(), &store("k", &[])), Sight::Turned { .. }));
        let mut other = memory(Some("i"), &[]);
        other.cluster.as_mut().unwrap().id = "d".into();
        assert_eq!(judge(&other, &store("i", &[])), Sight::Foreign("c".into()));
        // Unless one of the two has only just been founded.
        let new = Meta { provisional: true, ..meta("i") };
        let mut founded = store("i", &[]);
        founded[0].value = record::encode(&new);
        assert!(matches!(judge(&other, &founded), Sight::Usurped { .. }));
        assert!(same(&judge(&memory(Some("i"), &[]), &founded)));
        // Or there is nothing to lose.
        other.nothing = true;
        assert!(matches!(judge(&other, &store("k", &[])), Sight::Turned { .. }));
        other.nothing = false;
        other.cluster.as_mut().unwrap().provisional = true;
        assert!(matches!(judge(&other, &store("k", &[])), Sight::Turned { .. }));
    }

    #[test]
    fn what_is_missing_or_no_record_is_told_apart() {
        assert_eq!(judge(&memory(Some("i"), &[]), &[]), Sight::Empty);
        assert_eq!(judge(&memory(Some("i"), &[]), &[mark("a", 1)]), Sight::Empty);
        let odd = [entry(keys::META, "[]".into())];
        assert!(matches!(judge(&memory(Some("i"), &[]), &odd), Sight::Unreadable(_)));
        // A cluster of before there were incarnations.
        let old = [entry(keys::META, r#"{"format":1,"cluster":"c","created_at":1}"#.into())];
        assert!(doubtful(&judge(&memory(None, &[]), &old)));
        let halved = &store("i", &[])[..1];
        assert!(doubtful(&judge(&memory(Some("i"), &[]), halved)));
    }
}
