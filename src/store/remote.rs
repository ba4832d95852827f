//! The embedded store of another daemon of this machine, reached through the unix socket that it offers.

use std::{error::Error as _, path::Path, time::Duration};

use futures_util::FutureExt as _;
use reqwest::{Client, Response};

use super::{
    Entry, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch,
    address::Address,
    feed::{Closed, Feed},
    protocol::{
        self, Call, Failure, KeepAliveCall, LeaseCall, Lines, RangeCall, RevokeCall, TxnCall, WatchCall,
    },
    timeouts::Timeouts,
};
use crate::{backoff::Backoff, http_client};

/// HTTP needs a host name; the socket decides where requests go.
const BASE: &str = "http://store";

/// A client of the socket. Connects when it is first used, and again whenever that is needed.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    address: Address,
    timeouts: Timeouts,
}

impl Remote {
    /// `socket` need not exist yet. Fails only when no HTTP client can be built at all.
    pub fn new(socket: &Path, timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        let client = http_client::builder()
            .unix_socket(socket)
            .connect_timeout(timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, address: Address::new(format_args!("unix://{}", socket.display())), timeouts })
    }

    /// One call; `late` makes the error of one whose answer did not come.
    async fn call<C: Call>(
        &self,
        call: C,
        late: impl Fn(&Address, String) -> StoreError,
    ) -> Result<C::Answer, StoreError> {
        let sent = self.client.post(format!("{BASE}{}", C::PATH)).json(&call).timeout(self.timeouts.call);
        let answer = async {
            let response = sent.send().await?;
            Ok((response.status().is_success(), response.bytes().await?))
        };
        let (good, body) = answer.await.map_err(|error: reqwest::Error| {
            let unsent = error.is_connect() || error.is_builder();
            if is_forbidden(&error) {
                return self.address.refused("only the user whose daemon holds it, usually root, may use it");
            }
            let detail = chain(error);
            if unsent { self.address.unavailable(detail) } else { late(&self.address, detail) }
        })?;
        let odd =
            |error: serde_json::Error| late(&self.address, format!("its answer was not understood: {error}"));
        if good {
            serde_json::from_slice(&body).map_err(odd)
        } else {
            Err(serde_json::from_slice::<Failure>(&body).map_err(odd)?.into_error(&self.address))
        }
    }

    /// Copies one watch of the other daemon until it breaks.
    async fn follow(&self, prefix: &str, feed: &mut Feed, backoff: &mut Backoff) -> Result<String, Closed> {
        let request = self.client.post(format!("{BASE}{}", protocol::WATCH));
        let request = request.json(&WatchCall { prefix: prefix.to_owned() }).send();
        let mut response = match tokio::time::timeout(self.timeouts.call, request).await {
            Ok(Ok(response)) if response.status().is_success() => response,
            Ok(Ok(response)) => return Ok(format!("it answered {}", response.status())),
            Ok(Err(error)) => return Ok(chain(error)),
            Err(_) => return Ok("it did not answer in time".into()),
        };
        let mut lines = Lines::default();
        loop {
            let piece = match self.piece(&mut response).await {
                Ok(piece) => piece,
                Err(detail) => return Ok(detail),
            };
            match lines.take(&piece) {
                Ok(events) => {
                    for event in events {
                        backoff.reset();
                        feed.send(event).await?;
                    }
                }
                Err(detail) => return Ok(detail),
            }
        }
    }

    async fn piece(&self, response: &mut Response) -> Result<Vec<u8>, String> {
        match tokio::time::timeout(self.timeouts.silence, response.chunk()).await {
            Ok(Ok(Some(piece))) => Ok(piece.to_vec()),
            Ok(Ok(None)) => Err("the daemon that holds it ended".into()),
            Ok(Err(error)) => Err(chain(error)),
            Err(_) => Err("the daemon that holds it is silent".into()),
        }
    }
}

impl Store for Remote {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.call(RangeCall { prefix: prefix.to_owned() }, Address::unavailable).boxed()
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        async move {
            self.address.check(&txn)?;
            self.call(TxnCall { txn }, Address::unknown).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (mut feed, events) = Feed::new();
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let mut backoff = self.timeouts.backoff();
        let task = tokio::spawn(async move {
            while let Ok(detail) = store.follow(&prefix, &mut feed, &mut backoff).await {
                if feed.lost(detail).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff.pause()).await;
            }
        });
        Watch::new(events, task)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.call(LeaseCall { ttl_ms }, Address::unavailable).boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.call(KeepAliveCall { lease: lease.clone() }, Address::unavailable).boxed()
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.call(RevokeCall { lease: lease.clone() }, Address::unknown).boxed()
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }
}

/// Whether the file system keeps us from the socket.
fn is_forbidden(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    })
}

/// An error with all its causes: reqwest's own text says little more than "error sending request".
pub(crate) fn chain(error: reqwest::Error) -> String {
    causes(&error.without_url())
}

/// An error's text and that of all its causes.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    causes_below("", error)
}

/// `head`, then an error's text and that of all its causes. What has been said is not said again: most
/// layers of a connection repeat the one below.
pub(crate) fn causes_below(head: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Some(head.to_owned()).filter(|head| !head.is_empty()).into_iter().collect();
    for text in std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string) {
        if !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_are_told_once() {
        let refused = Layer("Connection refused", None);
        let tcp = Layer("tcp connect error", Some(Box::new(refused)));
        let error = Layer("transport error", Some(Box::new(Layer("tcp connect error", Some(Box::new(tcp))))));
        assert_eq!(
            causes_below("tcp connect error", &error),
            "tcp connect error: transport error: Connection refused"
        );
    }
}
