//! The cluster store in etcd 3.

mod client;
mod failure;
mod watch;

use std::time::Duration;

use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, TxnOp};
use futures_util::FutureExt as _;

pub(crate) use self::client::Login;
use self::{client::Connection, failure::Kind};
use super::{
    Change, Entry, Guard, LeaseId, Outcome, Revision, Store, StoreError, StoreFuture, Txn, Watch,
    address::Address, feed::Feed, prefix::Prefix, timeouts::Timeouts,
};

/// etcd as a store. Connects when it is first used; clones share the connection.
#[derive(Clone)]
pub struct Etcd {
    connection: Connection,
    prefix: Prefix,
    address: Address,
    timeouts: Timeouts,
}

impl Etcd {
    /// `endpoints` are URLs with scheme. Sends nothing yet.
    pub(crate) fn new(
        endpoints: Vec<String>,
        login: Login,
        prefix: Prefix,
        address: Address,
        timeouts: Timeouts,
    ) -> Self {
        Self { connection: Connection::new(endpoints, login, timeouts), prefix, address, timeouts }
    }

    async fn transact(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.address.check(&txn)?;
        if txn.is_empty() {
            return Ok(Outcome::Committed);
        }
        let compares: Result<Vec<_>, _> = txn.guards.iter().map(|guard| self.compare(guard)).collect();
        let ops: Result<Vec<_>, _> = txn.changes.iter().map(|change| self.op(change)).collect();
        let request = etcd_client::Txn::new().when(compares?).and_then(ops?);
        let sent = self.connection.call(|mut client| {
            let request = request.clone();
            async move { client.txn(request).await }
        });
        match sent.await {
            Ok(answer) if answer.succeeded() => Ok(Outcome::Committed),
            Ok(_) => Ok(Outcome::Conflict),
            Err(failed) if failed.kind == Kind::NotFound => Err(match txn.leases().next() {
                Some(lease) => StoreError::LeaseEnded(lease.clone()),
                None => self.address.refused(failed.detail),
            }),
            Err(failed) => Err(failed.of_change(&self.address)),
        }
    }

    fn compare(&self, guard: &Guard) -> Result<Compare, StoreError> {
        Ok(match guard {
            Guard::Absent(key) => Compare::create_revision(self.prefix.add(key), CompareOp::Equal, 0),
            Guard::Unchanged(key, revision) => {
                let revision = i64::try_from(revision.0)
                    .map_err(|_| self.address.refused(format_args!("{revision} is no revision of etcd")))?;
                Compare::mod_revision(self.prefix.add(key), CompareOp::Equal, revision)
            }
        })
    }

    fn op(&self, change: &Change) -> Result<TxnOp, StoreError> {
        Ok(match change {
            Change::Put { key, value, lease } => {
                let options = match lease {
                    Some(lease) => Some(PutOptions::new().with_lease(number(lease)?)),
                    None => None,
                };
                TxnOp::put(self.prefix.add(key), value.as_str(), options)
            }
            Change::Delete { key } => TxnOp::delete(self.prefix.add(key), None::<DeleteOptions>),
        })
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
        let granted =
            self.connection.call(|mut client| async move { client.lease_grant(seconds, None).await });
        match granted.await {
            Ok(answer) => Ok(LeaseId(format!("{:x}", answer.id()))),
            // A lease nobody knows of holds no key and ends by itself: nothing was changed.
            Err(failed) => Err(failed.of_read(&self.address)),
        }
    }

    async fn renew(&self, lease: &LeaseId) -> Result<(), StoreError> {
        let id = number(lease)?;
        let renewed = self.connection.call(|mut client| async move { client.lease_keep_alive(id).await });
        match renewed.await {
            Ok(_) => Ok(()),
            Err(failed) if failed.kind == Kind::NotFound => Err(StoreError::LeaseEnded(lease.clone())),
            Err(failed) => Err(failed.of_read(&self.address)),
        }
    }

    async fn end(&self, lease: &LeaseId) -> Result<(), StoreError> {
        let Ok(id) = number(lease) else { return Ok(()) };
        match self.connection.call(|mut client| async move { client.lease_revoke(id).await }).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.kind == Kind::NotFound => Ok(()),
            Err(failed) => Err(failed.of_change(&self.address)),
        }
    }
}

impl Store for Etcd {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        async move {
            // Each page has a deadline, and all together have one as well.
            let listing = self.connection.list(&self.prefix, prefix);
            match tokio::time::timeout(self.timeouts.call, listing).await {
                Ok(listed) => listed.map(|listing| listing.entries).map_err(|no| no.of_read(&self.address)),
                Err(_) => Err(self.address.unavailable("it did not answer in time")),
            }
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        self.transact(txn).boxed()
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (feed, events) = Feed::new();
        let watcher =
            watch::Watcher::new(self.connection.clone(), self.prefix.clone(), prefix, self.timeouts);
        Watch::new(events, tokio::spawn(watcher.run(feed)))
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        self.grant(ttl).boxed()
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.renew(lease).boxed()
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.end(lease).boxed()
    }

    fn kind(&self) -> &'static str {
        "etcd"
    }
}

/// The lease's number; a name that etcd did not give cannot be alive.
fn number(lease: &LeaseId) -> Result<i64, StoreError> {
    i64::from_str_radix(&lease.0, 16).map_err(|_| StoreError::LeaseEnded(lease.clone()))
}

/// etcd's record as ours; `None` for one outside the prefix or with bytes that are no text.
fn entry(kv: &etcd_client::KeyValue, prefix: &Prefix) -> Option<Entry> {
    let key = kv.key_str().ok()?;
    let Ok(value) = kv.value_str() else {
        tracing::warn!(key, "a value in etcd is no text; it counts as absent");
        return None;
    };
    Some(Entry {
        key: prefix.strip(key)?.to_owned(),
        value: value.to_owned(),
        revision: Revision(u64::try_from(kv.mod_revision()).ok()?),
    })
}
