//! What one watch has told so far.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use tracing::warn;

use crate::store::{Entry, WatchEvent, record};

/// The entries of one watch: those known, and those of a listing under way.
#[derive(Debug, Default)]
pub(super) struct Section {
    known: BTreeMap<String, Entry>,
    listing: Option<BTreeMap<String, Entry>>,
    /// A whole listing has been told at least once.
    pub(super) listed: bool,
}

impl Section {
    /// Takes one event in; `true` if what is known may have changed. A listing counts when it is whole:
    /// until then what was known before stays.
    pub(super) fn take(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Init => {
                self.listing = Some(BTreeMap::new());
                false
            }
            WatchEvent::InitDone => {
                self.known = self.listing.take().unwrap_or_default();
                self.listed = true;
                true
            }
            WatchEvent::Put(entry) => {
                let done = self.listing.is_none();
                self.current().insert(entry.key.clone(), entry);
                done
            }
            WatchEvent::Delete(key) => {
                let done = self.listing.is_none();
                self.current().remove(&key);
                done
            }
            WatchEvent::Lost(_) => false,
        }
    }

    fn current(&mut self) -> &mut BTreeMap<String, Entry> {
        self.listing.as_mut().unwrap_or(&mut self.known)
    }

    /// The record under `key`.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.known.get(key).and_then(parse)
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Whether there is an entry of this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }

    /// All records whose keys `id` makes something of, by that.
    pub(super) fn by_key<T: DeserializeOwned, K: Ord>(
        &self,
        id: impl Fn(&str) -> Option<K>,
    ) -> BTreeMap<K, T> {
        let ours = self.known.values().filter_map(|entry| Some((id(&entry.key)?, entry)));
        ours.filter_map(|(id, entry)| Some((id, parse(entry)?))).collect()
    }

    /// All records, by what `id` makes of each.
    pub(super) fn by_id<T: DeserializeOwned, K: Ord>(&self, id: impl Fn(&T) -> K) -> BTreeMap<K, T> {
        self.known.values().filter_map(parse::<T>).map(|record| (id(&record), record)).collect()
    }
}

/// One bad record must not stop a host.
fn parse<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    match record::decode(&entry.key, &entry.value) {
        Ok(record) => Some(record),
        Err(error) => {
            warn!(%error, "passing over a record");
            None
        }
    }
}
