//! What the store has of one host: found out once, and asked about after that in a way that costs the store a few
//! comparisons, and no record.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use crate::{
    local::Local,
    model::{Endpoint, NetworkId},
    store::{Entry, Guard, Outcome, Revision, StoreError, TXN_ROOM, Txn, keys, ledger::Ledger},
};

/// A host's records in the store, by key.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<String, Record>);

/// A record, as its host has written or read it.
#[derive(Debug)]
struct Record {
    text: String,
    /// The state in which it was read; absent where it was only written.
    revision: Option<Revision>,
}

impl Records {
    /// Reads those of `networks`, or of all.
    pub(super) async fn read(
        ledger: &Ledger,
        local: &Local,
        networks: Option<&BTreeSet<NetworkId>>,
    ) -> Result<Self, StoreError> {
        let (endpoints, present) = match networks {
            Some(networks) => within(ledger, local, networks).await?,
            None => anywhere(ledger, local).await?,
        };
        if endpoints.len() > local.read(|data| data.endpoints.len()) {
            warn!(
                records = endpoints.len(),
                "the store has endpoints of this host that are gone; removing them"
            );
        }
        let record = |entry: Entry| (entry.key, Record { text: entry.value, revision: Some(entry.revision) });
        Ok(Self(endpoints.into_iter().chain(present).map(record).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks that they are of.
    pub(super) fn networks(&self) -> BTreeSet<NetworkId> {
        networks_of(self.0.keys())
    }

    /// The steps from these to `wanted`: what to delete, and what to write.
    pub(super) fn steps_to(&self, wanted: &BTreeMap<String, String>) -> Vec<(String, Option<String>)> {
        let gone = self.0.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None));
        let has = |key: &str, text: &str| self.0.get(key).is_some_and(|record| record.text == text);
        let stale = wanted.iter().filter(|(key, text)| !has(key, text));
        gone.chain(stale.map(|(key, text)| (key.clone(), Some(text.clone())))).collect()
    }

    /// They have been made equal to `wanted`.
    pub(super) fn become_of(mut self, wanted: BTreeMap<String, String>) -> Self {
        let record = |(key, text): (String, String)| {
            let same = self.0.remove(&key).filter(|record| record.text == text);
            (key, same.unwrap_or(Record { text, revision: None }))
        };
        Self(wanted.into_iter().map(record).collect())
    }

    /// Whether the store still has them all as they were left.
    pub(super) async fn are_there(&mut self, ledger: &Ledger) -> Result<bool, StoreError> {
        for (key, record) in self.0.iter_mut().filter(|(_, record)| record.revision.is_none()) {
            let found = ledger.store().range(key).await?.into_iter().find(|entry| entry.key == *key);
            let same = found.filter(|entry| entry.value == record.text);
            record.revision = same.map(|entry| entry.revision);
            if record.revision.is_none() {
                return Ok(false);
            }
        }
        let left = |(key, record): (&String, &Record)| Some(Guard::Unchanged(key.clone(), record.revision?));
        let guards: Vec<_> = self.0.iter().filter_map(left).collect();
        for some in guards.chunks(TXN_ROOM) {
            let asked = Txn { guards: some.to_vec(), ..Txn::new() };
            if ledger.commit(asked).await? == Outcome::Conflict {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The networks that records with these keys are of.
pub(super) fn networks_of<'a>(keys: impl IntoIterator<Item = &'a String>) -> BTreeSet<NetworkId> {
    let network = |key: &String| {
        let of_endpoint = keys::endpoint_of(key).map(|(network, _)| network);
        of_endpoint.or_else(|| keys::network_and_node(key).map(|(network, _)| network))
    };
    keys.into_iter().filter_map(network).collect()
}

/// Entries of endpoints, and those that say that the host has a network.
type Found = (Vec<Entry>, Vec<Entry>);

async fn within(ledger: &Ledger, local: &Local, networks: &BTreeSet<NetworkId>) -> Result<Found, StoreError> {
    let (mut endpoints, mut present) = (Vec::new(), Vec::new());
    for network in networks {
        endpoints.extend(own_endpoints(ledger, local, &keys::endpoints(network)).await?);
        let key = keys::present(network, local.node());
        present.extend(ledger.store().range(&key).await?.into_iter().filter(|entry| entry.key == key));
    }
    Ok((endpoints, present))
}

async fn anywhere(ledger: &Ledger, local: &Local) -> Result<Found, StoreError> {
    let endpoints = own_endpoints(ledger, local, keys::ENDPOINTS).await?;
    let present = ledger.store().range(keys::PRESENT).await?;
    let here = |key: &str| keys::network_and_node(key).is_some_and(|(_, node)| node == *local.node());
    Ok((endpoints, present.into_iter().filter(|entry| here(&entry.key)).collect()))
}

async fn own_endpoints(ledger: &Ledger, local: &Local, prefix: &str) -> Result<Vec<Entry>, StoreError> {
    let all = ledger.list::<Endpoint>(prefix).await?;
    Ok(all.into_iter().filter(|held| held.record.node == *local.node()).map(|held| held.entry).collect())
}
