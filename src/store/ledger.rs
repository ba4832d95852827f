//! The store seen as records instead of text.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tracing::warn;

use super::{Entry, Outcome, Store, StoreError, Txn, record};

/// A record and the entry that holds it, which guards later changes.
#[derive(Debug, Clone)]
pub struct Held<T> {
    /// The entry.
    pub entry: Entry,
    /// The record.
    pub record: T,
}

/// Typed access to a store.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
}

impl Ledger {
    /// Wraps `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The record under exactly `key`.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Held<T>>, StoreError> {
        let entries = self.store.range(key).await?;
        Ok(entries.into_iter().find(|entry| entry.key == key).and_then(held))
    }

    /// All records under `prefix`. An unreadable one is passed over with a warning: one bad record must
    /// not stop a host.
    pub async fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<Held<T>>, StoreError> {
        Ok(self.store.range(prefix).await?.into_iter().filter_map(held).collect())
    }

    /// Commits a transaction.
    pub async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.store.txn(txn).await
    }
}

fn held<T: DeserializeOwned>(entry: Entry) -> Option<Held<T>> {
    match record::decode(&entry.key, &entry.value) {
        Ok(record) => Some(Held { entry, record }),
        Err(error) => {
            warn!(%error, "passing over a record");
            None
        }
    }
}
