//! The connection to etcd: made when first needed, each call with a deadline.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, ConnectOptions, Error, GetOptions, TlsOptions};
use tokio::{sync::OnceCell, time::Instant};

use super::{
    entry,
    failure::{Failed, Kind},
};
use crate::store::{Entry, prefix::Prefix, timeouts::Timeouts};

/// Entries per answer of a listing.
const PAGE: i64 = 500;

/// Longest answer of a listing that is taken. etcd-client's usual 4 MiB would make a page of long values
/// unreadable.
const LONGEST_PAGE: usize = 256 << 20;

/// How often an idle connection is pinged. etcd drops clients that ping more often than every 5 s.
const PING: Duration = Duration::from_secs(10);

/// Pause before another member is asked.
const NEXT_MEMBER: Duration = Duration::from_millis(50);

/// How to prove who we and they are.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) user: Option<(String, String)>,
}

/// All entries at one revision of the whole store.
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    pub(super) at: At,
}

/// A place in a store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) cluster: u64,
    pub(super) revision: i64,
}

/// A shared connection.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    endpoints: Vec<String>,
    login: Login,
    timeouts: Timeouts,
    client: OnceCell<Client>,
}

impl Connection {
    pub(super) fn new(endpoints: Vec<String>, login: Login, timeouts: Timeouts) -> Self {
        Self(Arc::new(Inner { endpoints, login, timeouts, client: OnceCell::new() }))
    }

    /// Makes one call within the deadline. A member that cannot be reached is no reason to fail while
    /// there are others; only what was certainly not sent is sent again.
    pub(super) async fn call<T, F>(&self, send: impl Fn(Client) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + self.0.timeouts.call;
        let attempts = 2 * self.0.endpoints.len();
        let mut attempt = 1;
        loop {
            let client = self.client(deadline).await?;
            let failed = match tokio::time::timeout_at(deadline, send(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Failed::from(error),
                Err(_) => return Err(Failed::new(Kind::Lost, "it did not answer in time")),
            };
            // An attempt that ran into the deadline while it was still connecting would count as sent.
            let left = deadline.saturating_duration_since(Instant::now());
            let late = left < self.0.timeouts.connect + 4 * NEXT_MEMBER;
            if failed.kind != Kind::NotSent || attempt == attempts || late {
                return Err(failed);
            }
            attempt += 1;
            tokio::time::sleep(NEXT_MEMBER).await;
        }
    }

    /// Every entry that begins with `keys`. A compaction between two pages makes it begin again.
    pub(super) async fn list(&self, prefix: &Prefix, keys: &str) -> Result<Listing, Failed> {
        match self.pages(prefix, keys).await {
            Err(failed) if failed.kind == Kind::Compacted => self.pages(prefix, keys).await,
            listed => listed,
        }
    }

    /// Page after page of the same revision.
    async fn pages(&self, prefix: &Prefix, keys: &str) -> Result<Listing, Failed> {
        let begin = prefix.add(keys);
        let end = end_of(begin.as_bytes());
        let mut from = begin.into_bytes();
        let mut at: Option<At> = None;
        let mut entries = Vec::new();
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if let Some(at) = at {
                options = options.with_revision(at.revision);
            }
            let (key, options) = (&from, &options);
            let answer = self
                .call(|client| {
                    let (key, options) = (key.clone(), options.clone());
                    let mut client = client.kv_client().max_decoding_message_size(LONGEST_PAGE);
                    async move { client.get(key, Some(options)).await }
                })
                .await?;
            if at.is_none() {
                at = answer
                    .header()
                    .map(|header| At { cluster: header.cluster_id(), revision: header.revision() });
            }
            entries.extend(answer.kvs().iter().filter_map(|kv| entry(kv, prefix)));
            match (at, answer.kvs().last()) {
                (None, _) => return Err(Failed::new(Kind::Lost, "its answer has no header")),
                (Some(_), Some(last)) if answer.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                (Some(at), _) => return Ok(Listing { entries, at }),
            }
        }
    }

    /// Where the store is now: asks the leader, and renews an expired login on the way.
    pub(super) async fn now(&self, prefix: &Prefix, keys: &str) -> Result<At, Failed> {
        let begin = prefix.add(keys);
        let answer = self
            .call(|mut client| {
                let begin = begin.clone();
                async move { client.get(begin, Some(GetOptions::new().with_prefix().with_count_only())).await }
            })
            .await?;
        let header = answer.header().ok_or_else(|| Failed::new(Kind::Lost, "its answer has no header"))?;
        Ok(At { cluster: header.cluster_id(), revision: header.revision() })
    }

    async fn client(&self, deadline: Instant) -> Result<Client, Failed> {
        let connect =
            self.0.client.get_or_try_init(|| Client::connect(&self.0.endpoints, Some(self.options())));
        match tokio::time::timeout_at(deadline, connect).await {
            Ok(Ok(client)) => Ok(client.clone()),
            // Only the login has been sent so far.
            Ok(Err(error)) => {
                let failed = Failed::from(error);
                let kind = if failed.kind == Kind::Refused { Kind::Refused } else { Kind::NotSent };
                Err(Failed { kind, ..failed })
            }
            Err(_) => Err(Failed::new(Kind::NotSent, "it did not answer the login in time")),
        }
    }

    fn options(&self) -> ConnectOptions {
        let Inner { login, timeouts, .. } = &*self.0;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(timeouts.connect)
            .with_keep_alive(PING, timeouts.call.max(Duration::from_secs(5)))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((user, password)) = &login.user {
            options = options.with_user(user, password);
        }
        if let Some(tls) = &login.tls {
            options = options.with_tls(tls.clone());
        }
        options
    }
}

/// The first key after all those that begin with `begin`, as etcd's range requests want it.
fn end_of(begin: &[u8]) -> Vec<u8> {
    let mut end = begin.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd reads a single zero byte as "to the very end".
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_just_past_the_prefix() {
        assert_eq!(end_of(b"a/b"), b"a/c");
        assert_eq!(end_of(b"a\xff"), b"b");
        assert_eq!(end_of(b""), b"\0");
    }
}
