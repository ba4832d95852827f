//! What the watch of one network's endpoints has told so far. There may be a hundred thousand, so each is kept once,
//! as the record that all others share, and nothing of the text that it was read from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::warn;

use crate::{
    model::{Endpoint, Endpoints, NetworkId, NodeId, Shared, Snapshot},
    store::{
        Entry, WatchEvent, keys,
        record::{self, RecordError},
    },
};

/// The endpoints of a network, and those of a listing under way.
#[derive(Debug)]
pub(super) struct Members {
    network: NetworkId,
    known: Told,
    listing: Option<Told>,
    /// A whole listing has been told at least once.
    pub(super) listed: bool,
    /// One copy of each host's id.
    nodes: BTreeSet<NodeId>,
}

/// What a listing, and what came after it, has told.
#[derive(Debug, Default)]
struct Told {
    records: Shared<Endpoints>,
    /// Keys of entries that cannot be read.
    unread: BTreeSet<String>,
}

impl Members {
    /// Begins with what is known from before.
    pub(super) fn of(network: NetworkId, records: Shared<Endpoints>) -> Self {
        let nodes = records.values().map(|endpoint| endpoint.node.clone()).collect();
        let known = Told { records, unread: BTreeSet::new() };
        Self { network, known, listing: None, listed: false, nodes }
    }

    /// Takes one event in; `true` if what is known may have changed. A listing counts when it is whole:
    /// until then what was known before stays.
    pub(super) fn take(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Init => self.listing = Some(Told::default()),
            WatchEvent::InitDone => {
                let mut told = self.listing.take().unwrap_or_default();
                if told.records == self.known.records {
                    told.records = self.known.records.clone();
                }
                self.known = told;
                self.listed = true;
            }
            WatchEvent::Put(entry) => self.put(entry),
            WatchEvent::Delete(key) => self.current().forget(&key),
            WatchEvent::Lost(_) => return false,
        }
        self.listing.is_none()
    }

    /// All that is known, by id.
    pub(super) fn records(&self) -> &Shared<Endpoints> {
        &self.known.records
    }

    /// Whether there is an entry of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        let known = |key| self.known.records.contains_key(&keys::endpoint_of(key)?.1).then_some(());
        self.known.unread.contains(key) || known(key).is_some()
    }

    fn current(&mut self) -> &mut Told {
        self.listing.as_mut().unwrap_or(&mut self.known)
    }

    fn put(&mut self, entry: Entry) {
        match self.read(&entry) {
            Ok(mut endpoint) => {
                frugal(&self.network, &mut self.nodes, &mut endpoint);
                // What a new listing repeats is not kept twice, nor is it a change.
                let same = self.known.records.get(&endpoint.id).filter(|known| ***known == endpoint);
                let endpoint = same.cloned().unwrap_or_else(|| Arc::new(endpoint));
                self.current().keep(&entry.key, endpoint);
            }
            Err(error) => {
                // One bad record must not stop a host.
                warn!(%error, "passing over a record");
                self.current().forget(&entry.key);
                self.current().unread.insert(entry.key);
            }
        }
    }

    fn read(&self, entry: &Entry) -> Result<Endpoint, RecordError> {
        let endpoint: Endpoint = record::decode(&entry.key, &entry.value)?;
        if keys::endpoint(&self.network, &endpoint.id) == entry.key {
            Ok(endpoint)
        } else {
            Err(RecordError::new(&entry.key, format!("the record of endpoint {}", endpoint.id)))
        }
    }
}

impl Told {
    fn keep(&mut self, key: &str, endpoint: Arc<Endpoint>) {
        self.unread.remove(key);
        if self.records.get(&endpoint.id).is_none_or(|known| !Arc::ptr_eq(known, &endpoint)) {
            self.records.insert(endpoint.id.clone(), endpoint);
        }
    }

    fn forget(&mut self, key: &str) {
        self.unread.remove(key);
        if let Some((_, id)) = keys::endpoint_of(key)
            && self.records.contains_key(&id)
        {
            self.records.remove(&id);
        }
    }
}

/// The same snapshot in less memory.
pub(super) fn make_frugal(snapshot: &mut Snapshot) {
    let mut nodes = BTreeSet::new();
    for (network, endpoints) in &mut snapshot.endpoints {
        let all: BTreeMap<_, _> = std::mem::take(&mut **endpoints)
            .into_values()
            .map(|mut endpoint| {
                frugal(network, &mut nodes, Arc::make_mut(&mut endpoint));
                (endpoint.id.clone(), endpoint)
            })
            .collect();
        *endpoints = all.into();
    }
}

/// Has the record share what it has in common with others.
fn frugal(network: &NetworkId, nodes: &mut BTreeSet<NodeId>, endpoint: &mut Endpoint) {
    if endpoint.network == *network {
        endpoint.network = network.clone();
    }
    match nodes.get(&endpoint.node) {
        Some(node) => endpoint.node = node.clone(),
        None => drop(nodes.insert(endpoint.node.clone())),
    }
    endpoint.addresses.shrink_to_fit();
    endpoint.aliases.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Revision;

    fn entry(id: &str, name: &str) -> Entry {
        let value = json!({"format": 1, "id": id, "network": "n", "node": "b", "vtep": "192.0.2.2",
            "mac": "02:42:0a:09:00:02", "addresses": ["10.9.0.2"], "container": name, "created_at": 7});
        Entry { key: format!("v1/endpoints/n/{id}"), value: value.to_string(), revision: Revision(1) }
    }

    fn members() -> Members {
        Members::of(NetworkId::new("n").unwrap(), Shared::default())
    }

    fn list(members: &mut Members, entries: &[Entry]) {
        assert!(!members.take(WatchEvent::Init));
        for entry in entries {
            assert!(!members.take(WatchEvent::Put(entry.clone())), "a listing counts when it is whole");
        }
        assert!(members.take(WatchEvent::InitDone));
    }

    fn names(members: &Members) -> Vec<&str> {
        members.records().values().map(|endpoint| endpoint.title()).collect()
    }

    #[test]
    fn changes_follow_a_listing_and_another_listing_replaces_all() {
        let mut members = members();
        list(&mut members, &[entry("e1", "web"), entry("e2", "db")]);
        assert_eq!((names(&members), members.listed), (vec!["web", "db"], true));
        assert!(members.take(WatchEvent::Put(entry("e2", "cache"))));
        assert!(members.take(WatchEvent::Delete("v1/endpoints/n/e1".into())));
        assert!(members.take(WatchEvent::Delete("v1/endpoints/n/e9".into())));
        assert_eq!(names(&members), ["cache"]);
        members.take(WatchEvent::Init);
        members.take(WatchEvent::Put(entry("e3", "new")));
        assert_eq!(names(&members), ["cache"]);
        members.take(WatchEvent::InitDone);
        assert_eq!(names(&members), ["new"]);
    }

    #[test]
    fn what_is_told_again_is_the_same_record() {
        let mut members = members();
        list(&mut members, &[entry("e1", "web"), entry("e2", "db")]);
        let before = members.records().clone();
        list(&mut members, &[entry("e1", "web"), entry("e2", "db")]);
        assert!(members.records().is(&before));
        members.take(WatchEvent::Put(entry("e1", "web")));
        assert!(members.records().is(&before));
        list(&mut members, &[entry("e1", "web"), entry("e2", "other")]);
        let now = members.records();
        let shared = |id: &str| {
            let id = crate::model::EndpointId::new(id).unwrap();
            Arc::ptr_eq(&before[&id], &now[&id])
        };
        assert!(shared("e1") && !shared("e2"));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_there_and_tells_nothing() {
        let mut members = members();
        let odd = |value: &str| Entry { value: value.to_owned(), ..entry("e1", "web") };
        let strange = Entry { key: "v1/endpoints/n/e7".into(), ..entry("e8", "elsewhere") };
        list(&mut members, &[entry("e2", "db"), odd("{"), strange]);
        assert_eq!(names(&members), ["db"]);
        assert!(["e1", "e2", "e7"].iter().all(|id| members.has(&format!("v1/endpoints/n/{id}"))));
        assert!(!members.has("v1/endpoints/n/e8") && !members.has("elsewhere"));
        members.take(WatchEvent::Put(entry("e1", "web")));
        assert_eq!(names(&members), ["web", "db"]);
        members.take(WatchEvent::Put(odd("[]")));
        assert_eq!(names(&members), ["db"]);
        members.take(WatchEvent::Delete("v1/endpoints/n/e1".into()));
        assert!(!members.has("v1/endpoints/n/e1"));
    }

    #[test]
    fn a_frugal_snapshot_is_the_same_one() {
        let mut members = members();
        list(&mut members, &[entry("e1", "web"), entry("e2", "db")]);
        let endpoints = BTreeMap::from([(NetworkId::new("n").unwrap(), members.records().clone())]);
        let text = serde_json::to_string(&Snapshot { endpoints, ..Snapshot::default() }).unwrap();
        let before: Snapshot = serde_json::from_str(&text).unwrap();
        let mut after = before.clone();
        make_frugal(&mut after);
        assert_eq!(after, before);
        let records = after.endpoints.values().next().unwrap();
        let ids: Vec<_> = records.values().map(|endpoint| endpoint.node.as_str().as_ptr()).collect();
        assert_eq!(ids[0], ids[1], "one copy of a host's id");
    }
}
