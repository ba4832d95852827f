//! A watch with its reader: keeps the map that a correct reader would have, and checks the order of events.

use std::{collections::BTreeMap, time::Duration};

use rs_overlay::store::{Store, Watch, WatchEvent};
use tokio::time::{Instant, timeout_at};

use super::servers::PATIENCE;

/// Key to value.
pub(crate) type Map = BTreeMap<String, String>;

/// What a watch has told so far.
pub(crate) struct Watched {
    watch: Watch,
    known: Map,
    listing: Option<Map>,
    /// How many listings have begun.
    pub(crate) inits: usize,
    /// How many outages were told.
    pub(crate) losts: usize,
    lost: bool,
}

impl Watched {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { watch, known: Map::new(), listing: None, inits: 0, losts: 0, lost: false }
    }

    /// Reads until the map, outside a listing, satisfies `wanted`.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Map) -> bool) {
        self.until_state(what, |watched| wanted(&watched.known)).await;
    }

    /// Reads until `wanted`, which is asked outside of listings only.
    pub(crate) async fn until_state(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.listing.is_some() || self.inits == 0 && !self.lost || !wanted(self) {
            let event = timeout_at(deadline, self.watch.next()).await.unwrap_or_else(|_| {
                let Self { known, listing, inits, losts, .. } = self;
                panic!(
                    "waited for {what}; known {known:?}, listing {listing:?}, {inits} inits, {losts} losts"
                )
            });
            self.take(event.unwrap_or_else(|| panic!("the watch ended before {what}")));
        }
    }

    /// Reads until the map is what the store holds.
    pub(crate) async fn until_equal(&mut self, what: &str, store: &dyn Store, prefix: &str) {
        let wanted = map(store, prefix).await;
        self.until(what, |known| *known == wanted).await;
    }

    /// Reads whatever comes within `time`; for what must not come.
    pub(crate) async fn for_a_while(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(event) = timeout_at(end, self.watch.next()).await {
            self.take(event.expect("the watch ended"));
        }
    }

    /// The next event as it is.
    pub(crate) async fn raw(&mut self) -> WatchEvent {
        let next = tokio::time::timeout(PATIENCE, self.watch.next()).await;
        next.expect("no event came").expect("the watch ended")
    }

    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Init => {
                self.inits += 1;
                self.listing = Some(Map::new());
            }
            WatchEvent::InitDone => {
                self.known = self.listing.take().expect("an InitDone without Init");
                self.lost = false;
            }
            WatchEvent::Put(entry) => {
                assert!(self.inits > 0, "a Put before the first Init: {entry:?}");
                self.listing.as_mut().unwrap_or(&mut self.known).insert(entry.key, entry.value);
            }
            WatchEvent::Delete(key) => {
                assert!(self.listing.is_none(), "a Delete of {key} within a listing");
                self.known.remove(&key);
            }
            WatchEvent::Lost(_) => {
                assert!(!self.lost, "an outage was told twice");
                self.lost = true;
                self.losts += 1;
                self.listing = None;
            }
        }
    }
}

/// What the store holds.
pub(crate) async fn map(store: &dyn Store, prefix: &str) -> Map {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.range(prefix).await {
            Ok(entries) => return entries.into_iter().map(|entry| (entry.key, entry.value)).collect(),
            Err(error) => assert!(Instant::now() < deadline, "the store does not answer: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
