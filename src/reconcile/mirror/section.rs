//! What one watch has told so far.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use serde::de::DeserializeOwned;
use tracing::warn;

use crate::{
    model::Shared,
    store::{Entry, WatchEvent, record},
};

/// The entries of one watch: those known, and those of a listing under way.
#[derive(Debug, Default)]
pub(super) struct Section {
    known: BTreeMap<String, Known>,
    listing: Option<BTreeMap<String, Known>>,
    /// A whole listing has been told at least once.
    pub(super) listed: bool,
    /// All of what is known, as it was last put together.
    whole: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// An entry, and its record once somebody has asked for it: each is read once, however often the others change.
#[derive(Debug)]
struct Known {
    entry: Entry,
    record: OnceLock<Option<Arc<dyn Any + Send + Sync>>>,
}

impl Section {
    /// Takes one event in; `true` if what is known may have changed. A listing counts when it is whole:
    /// until then what was known before stays.
    pub(super) fn take(&mut self, event: WatchEvent) -> bool {
        let changed = self.enter(event);
        if changed {
            self.whole = OnceLock::new();
        }
        changed
    }

    /// What `make` puts together of all that is known: the same one until that changes. `T` is the same at each call.
    pub(super) fn whole<T: Send + Sync + 'static>(&self, make: impl Fn(&Self) -> T) -> Shared<T> {
        let whole = self.whole.get_or_init(|| Box::new(Shared::from(make(self))));
        whole.downcast_ref::<Shared<T>>().cloned().unwrap_or_else(|| make(self).into())
    }

    fn enter(&mut self, event: WatchEvent) -> bool {
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
                self.current().insert(entry.key.clone(), Known { entry, record: OnceLock::new() });
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

    fn current(&mut self) -> &mut BTreeMap<String, Known> {
        self.listing.as_mut().unwrap_or(&mut self.known)
    }

    /// The record under `key`.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.known.get(key).and_then(|known| parse(&known.entry))
    }

    /// The record under `key`, shared with whoever has asked before. `T` is the same at each call.
    pub(super) fn record<T: DeserializeOwned + Send + Sync + 'static>(&self, key: &str) -> Option<Arc<T>> {
        self.known.get(key)?.record()
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// All records whose keys `id` makes something of, by that. `T` is the same at each call.
    pub(super) fn by_key<T: DeserializeOwned + Send + Sync + 'static, K: Ord>(
        &self,
        id: impl Fn(&str) -> Option<K>,
    ) -> BTreeMap<K, Arc<T>> {
        let ours = self.known.values().filter_map(|known| Some((id(&known.entry.key)?, known)));
        ours.filter_map(|(id, known)| Some((id, known.record()?))).collect()
    }

    /// All records, by what `id` makes of each.
    pub(super) fn by_id<T: DeserializeOwned, K: Ord>(&self, id: impl Fn(&T) -> K) -> BTreeMap<K, T> {
        let records = self.known.values().filter_map(|known| parse::<T>(&known.entry));
        records.map(|record| (id(&record), record)).collect()
    }
}

impl Known {
    fn record<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let read = || parse::<T>(&self.entry).map(|record| Arc::new(record) as Arc<dyn Any + Send + Sync>);
        self.record.get_or_init(read).clone()?.downcast().ok()
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
