//! A watch on etcd that outlives its stream: it remembers the last revision that it has seen whole and
//! goes on behind it. Where that is not possible it lists anew.

use etcd_client::{Event, EventType, KeyValue, ResponseHeader, WatchOptions, WatchResponse, WatchStream};

use super::{
    client::{At, Connection, Listing},
    entry,
    failure::Failed,
};
use crate::{
    backoff::Backoff,
    store::{
        WatchEvent,
        feed::{Closed, Feed},
        prefix::Prefix,
        timeouts::Timeouts,
    },
};

/// One watch.
pub(super) struct Watcher {
    connection: Connection,
    prefix: Prefix,
    keys: String,
    timeouts: Timeouts,
}

/// Why a stream ended.
enum End {
    /// The connection or the server went.
    Broken(String),
    /// History does not reach back to where we are.
    Compacted,
}

impl Watcher {
    pub(super) fn new(connection: Connection, prefix: Prefix, keys: &str, timeouts: Timeouts) -> Self {
        Self { connection, prefix, keys: keys.to_owned(), timeouts }
    }

    /// Runs until nobody listens.
    pub(super) async fn run(self, mut feed: Feed) {
        let mut backoff = self.timeouts.backoff();
        // `Closed` is the only end there is.
        while self.round(&mut feed, &mut backoff).await.is_ok() {}
    }

    /// A listing and all that follows it without a gap.
    async fn round(&self, feed: &mut Feed, backoff: &mut Backoff) -> Result<(), Closed> {
        let Listing { entries, at: mut seen } = match self.connection.list(&self.prefix, &self.keys).await {
            Ok(listing) => listing,
            Err(failed) => {
                feed.lost(failed.detail).await?;
                tokio::time::sleep(backoff.pause()).await;
                return Ok(());
            }
        };
        feed.listing(entries).await?;
        let mut fruitless = 0;
        loop {
            let before = seen;
            match self.follow(&mut seen, feed).await? {
                End::Compacted => return Ok(()),
                End::Broken(detail) => {
                    tracing::debug!(keys = self.keys, detail, "a watch on etcd broke");
                    if seen == before {
                        fruitless += 1;
                    } else {
                        fruitless = 0;
                        backoff.reset();
                    }
                    tokio::time::sleep(backoff.pause()).await;
                    // A server that was wiped, or restored from a backup, has another history: going on
                    // behind our revision would miss what it holds.
                    match self.connection.now(&self.prefix, &self.keys).await {
                        Ok(now) if now.cluster == seen.cluster && now.revision == seen.revision => {}
                        // What breaks the stream again and again may be the very next change, one that is
                        // too big for it: a listing gets past that.
                        Ok(now)
                            if now.cluster == seen.cluster
                                && now.revision > seen.revision
                                && fruitless < 2 => {}
                        Ok(_) => return Ok(()),
                        Err(Failed { detail, .. }) => {
                            feed.lost(detail).await?;
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Passes on what comes after `seen`, and moves it along.
    async fn follow(&self, seen: &mut At, feed: &mut Feed) -> Result<End, Closed> {
        let mut stream = match self.open(*seen).await {
            Ok(stream) => stream,
            Err(detail) => return Ok(End::Broken(detail)),
        };
        loop {
            // No deadline: the connection's own pings notice when the other end is gone.
            let answer = match stream.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(End::Broken("it ended the watch".into())),
                Err(error) => return Ok(End::Broken(Failed::from(error).detail)),
            };
            if answer.compact_revision() > 0 {
                return Ok(End::Compacted);
            }
            if answer.canceled() {
                return Ok(End::Broken(answer.cancel_reason().to_owned()));
            }
            self.pass_on(&answer, feed).await?;
            if !answer.created() {
                // All events of a revision come in one answer, and one without events is the promise that
                // there are none up to its revision.
                let last = answer.events().iter().filter_map(Event::kv).map(KeyValue::mod_revision).max();
                let told = last.or_else(|| answer.header().map(ResponseHeader::revision));
                seen.revision = seen.revision.max(told.unwrap_or(0));
            }
        }
    }

    async fn open(&self, seen: At) -> Result<WatchStream, String> {
        let options =
            WatchOptions::new().with_prefix().with_start_revision(seen.revision + 1).with_progress_notify();
        let keys = self.prefix.add(&self.keys);
        let opened = self.connection.call(|mut client| {
            let (keys, options) = (keys.clone(), options.clone());
            async move { client.watch(keys, Some(options)).await }
        });
        opened.await.map_err(|failed| failed.detail)
    }

    async fn pass_on(&self, answer: &WatchResponse, feed: &mut Feed) -> Result<(), Closed> {
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            let gone = || {
                let key = kv.key_str().ok().and_then(|key| self.prefix.strip(key))?;
                Some(WatchEvent::Delete(key.to_owned()))
            };
            let event = match event.event_type() {
                EventType::Put => entry(kv, &self.prefix).map(WatchEvent::Put).or_else(gone),
                EventType::Delete => gone(),
            };
            if let Some(event) = event {
                feed.send(event).await?;
            }
        }
        Ok(())
    }
}
