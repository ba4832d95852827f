//! A watch on Consul: blocking queries, each answered with the whole listing, of which only the
//! difference is told.

use std::{collections::BTreeMap, time::Duration};

use super::client::{Client, Failed, Listing, Wait};
use crate::{
    backoff::Backoff,
    store::{
        Entry, WatchEvent,
        feed::{Closed, Feed},
        prefix::Prefix,
        timeouts::Timeouts,
    },
};

/// Least time between two listings: each carries everything, so a burst of changes is worth a short wait.
const BREATH: Duration = Duration::from_millis(20);

/// One watch.
pub(super) struct Watcher {
    client: Client,
    prefix: Prefix,
    keys: String,
    timeouts: Timeouts,
}

impl Watcher {
    pub(super) fn new(client: Client, prefix: Prefix, keys: &str, timeouts: Timeouts) -> Self {
        Self { client, prefix, keys: keys.to_owned(), timeouts }
    }

    /// Runs until nobody listens.
    pub(super) async fn run(self, mut feed: Feed) {
        let mut backoff = self.timeouts.backoff();
        // `Closed` is the only end there is.
        while self.round(&mut feed, &mut backoff).await.is_ok() {}
    }

    /// A listing and all that follows it without a gap.
    async fn round(&self, feed: &mut Feed, backoff: &mut Backoff) -> Result<(), Closed> {
        let Listing { mut entries, mut index } = match self.client.list(&self.prefix, &self.keys, None).await
        {
            Ok(listing) => listing,
            Err(failed) => {
                feed.lost(failed.detail()).await?;
                tokio::time::sleep(backoff.pause()).await;
                return Ok(());
            }
        };
        feed.listing(entries.values().cloned()).await?;
        let mut broken = false;
        loop {
            match self.next(index, broken).await {
                // An index that goes backwards is that of another history: a wiped or restored server.
                Ok(listing) if listing.index < index || listing.index == 0 => {
                    tokio::time::sleep(backoff.pause()).await;
                    return Ok(());
                }
                Ok(listing) => {
                    broken = false;
                    backoff.reset();
                    for event in difference(&entries, &listing.entries) {
                        feed.send(event).await?;
                    }
                    Listing { entries, index } = listing;
                    tokio::time::sleep(BREATH).await;
                }
                // One more try: a connection that only just closed says nothing about the server.
                Err(failed) if !broken => {
                    tracing::debug!(keys = self.keys, detail = failed.detail(), "a watch on Consul broke");
                    broken = true;
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(failed) => {
                    feed.lost(failed.detail()).await?;
                    tokio::time::sleep(backoff.pause()).await;
                    return Ok(());
                }
            }
        }
    }

    /// The next listing. After a break at once: a server that was wiped meanwhile would make us wait for
    /// an index that it reaches much later or never.
    async fn next(&self, index: u64, broken: bool) -> Result<Listing, Failed> {
        let wait = Wait { index: index.max(1), at_most: self.timeouts.silence };
        self.client.list(&self.prefix, &self.keys, (!broken).then_some(wait)).await
    }
}

/// What has to be told to get from one listing to the other.
fn difference(before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) -> Vec<WatchEvent> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).cloned().map(WatchEvent::Delete);
    let new =
        after.values().filter(|entry| before.get(&entry.key) != Some(entry)).cloned().map(WatchEvent::Put);
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;

    fn listing(entries: &[(&str, u64)]) -> BTreeMap<String, Entry> {
        let entry = |key: &str, revision| Entry {
            key: key.to_owned(),
            value: "{}".to_owned(),
            revision: Revision(revision),
        };
        entries.iter().map(|(key, revision)| ((*key).to_owned(), entry(key, *revision))).collect()
    }

    #[test]
    fn only_the_difference_is_told() {
        let before = listing(&[("a", 1), ("b", 2), ("c", 3)]);
        let after = listing(&[("b", 2), ("c", 4), ("d", 5)]);
        let told = difference(&before, &after);
        let put = |key: &str| WatchEvent::Put(after[key].clone());
        assert_eq!(told, [WatchEvent::Delete("a".into()), put("c"), put("d")]);
        assert!(difference(&after, &after).is_empty());
    }
}
