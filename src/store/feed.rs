//! The sending end of a watch, which keeps its promises: an outage is told once, and ends with a listing.

use tokio::sync::mpsc;

use super::{Entry, WatchEvent};

/// Events that wait for a slow reader; more than that and the back end stops reading from its store.
const QUEUE: usize = 256;

/// Nobody listens any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// Where a back end puts the events of one watch.
#[derive(Debug)]
pub(crate) struct Feed {
    events: mpsc::Sender<WatchEvent>,
    lost: bool,
}

impl Feed {
    pub(crate) fn new() -> (Self, mpsc::Receiver<WatchEvent>) {
        let (events, receiver) = mpsc::channel(QUEUE);
        (Self { events, lost: false }, receiver)
    }

    /// A whole listing, read at one moment.
    pub(crate) async fn listing(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), Closed> {
        self.send(WatchEvent::Init).await?;
        for entry in entries {
            self.send(WatchEvent::Put(entry)).await?;
        }
        self.send(WatchEvent::InitDone).await
    }

    /// One event as it is; an `InitDone` ends an outage.
    pub(crate) async fn send(&mut self, event: WatchEvent) -> Result<(), Closed> {
        if event == WatchEvent::InitDone {
            self.lost = false;
        }
        self.events.send(event).await.map_err(|_| Closed)
    }

    /// The store is away. Only the first call of an outage is told.
    pub(crate) async fn lost(&mut self, detail: impl ToString) -> Result<(), Closed> {
        if self.lost {
            return if self.events.is_closed() { Err(Closed) } else { Ok(()) };
        }
        self.lost = true;
        self.send(WatchEvent::Lost(detail.to_string())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_outage_is_told_once_and_ends_with_a_listing() {
        let (mut feed, mut events) = Feed::new();
        feed.lost("a").await.unwrap();
        feed.lost("b").await.unwrap();
        feed.listing([]).await.unwrap();
        feed.lost("c").await.unwrap();
        drop(feed);
        let mut seen = Vec::new();
        while let Some(event) = events.recv().await {
            seen.push(event);
        }
        let lost = |text: &str| WatchEvent::Lost(text.into());
        assert_eq!(seen, [lost("a"), WatchEvent::Init, WatchEvent::InitDone, lost("c")]);
    }
}
