//! What all back ends do the same way: name themselves in errors and check a transaction before it is
//! sent.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{Change, Guard, StoreError, TXN_LIMIT, Txn};

/// The address of a store as the user gave it. Its parser refuses credentials, so it may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Address(Arc<str>);

impl Address {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }

    pub(crate) fn unavailable(&self, detail: impl fmt::Display) -> StoreError {
        StoreError::Unavailable { store: self.0.to_string(), detail: detail.to_string() }
    }

    pub(crate) fn unknown(&self, detail: impl fmt::Display) -> StoreError {
        StoreError::Unknown { store: self.0.to_string(), detail: detail.to_string() }
    }

    pub(crate) fn refused(&self, detail: impl fmt::Display) -> StoreError {
        StoreError::Refused { store: self.0.to_string(), detail: detail.to_string() }
    }

    /// Refuses what one of the back ends could not carry out: too long a transaction, a key outside the
    /// contract, a key that is changed twice (etcd takes no such transaction).
    pub(crate) fn check(&self, txn: &Txn) -> Result<(), StoreError> {
        if txn.len() > TXN_LIMIT {
            return Err(self.refused(format_args!(
                "a transaction of {} guards and changes is too long, {TXN_LIMIT} is the most: split it",
                txn.len()
            )));
        }
        let mut changed = BTreeSet::new();
        for key in txn.guards.iter().map(guard_key).chain(txn.changes.iter().map(change_key)) {
            if !is_key(key) {
                return Err(self.refused(format_args!(
                    "{key:?} is no key: it must be ASCII text that neither begins nor ends with /"
                )));
            }
        }
        for key in txn.changes.iter().map(change_key) {
            if !changed.insert(key) {
                return Err(self.refused(format_args!("the transaction changes {key:?} twice")));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn guard_key(guard: &Guard) -> &str {
    match guard {
        Guard::Absent(key) | Guard::Unchanged(key, _) => key,
    }
}

fn change_key(change: &Change) -> &str {
    match change {
        Change::Put { key, .. } | Change::Delete { key } => key,
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| (b' '..0x7f).contains(&byte))
        && !key.starts_with('/')
        && !key.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(txn: &Txn) -> Result<(), StoreError> {
        Address::new("etcd://192.0.2.1:2379").check(txn)
    }

    #[test]
    fn sixty_four_is_the_most() {
        let txn = (0..32).fold(Txn::new(), |txn, n| txn.absent(format!("k{n}")).put(format!("k{n}"), "{}"));
        assert!(check(&txn).is_ok());
        let error = check(&txn.delete("one-more")).unwrap_err();
        assert!(matches!(&error, StoreError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("65 guards and changes is too long"), "{error}");
    }

    #[test]
    fn keys_outside_the_contract_are_refused() {
        for key in ["", "/a", "a/", "a\nb", "ä"] {
            assert!(check(&Txn::new().delete(key)).is_err(), "{key:?}");
            assert!(check(&Txn::new().absent(key)).is_err(), "{key:?}");
        }
        assert!(check(&Txn::new().put("a", "1").delete("a")).is_err());
    }
}
