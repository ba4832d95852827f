//! Listings.

use rs_overlay::store::{Store, Txn};

use super::commit;
use crate::watched::map;

pub(super) async fn sorted_and_by_plain_prefix(store: &dyn Store) {
    let keys = ["plain/a", "plain/a/1", "plain/ab", "plain/a-", "plain/b", "plain", "plainer"];
    commit(store, keys.iter().fold(Txn::new(), |txn, key| txn.put(*key, "1"))).await;
    let listed = async |prefix: &'static str| -> Vec<String> {
        store.range(prefix).await.unwrap().into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(listed("plain/a").await, ["plain/a", "plain/a-", "plain/a/1", "plain/ab"]);
    assert_eq!(listed("plain/").await, ["plain/a", "plain/a-", "plain/a/1", "plain/ab", "plain/b"]);
    assert_eq!(listed("plain").await.len(), keys.len());
    assert_eq!(listed("plain/a/1").await, ["plain/a/1"]);
    assert!(listed("plain/z").await.is_empty());
    let odd = "plain-odd/my%20net%2F%C3%A4/2001:db8::1?x=1&y#z+";
    commit(store, Txn::new().put(odd, "1")).await;
    assert_eq!(listed("plain-odd/my%20net%2F%C3%A4/2001:db8::1?x=1&y#").await, [odd]);
}

pub(super) async fn values_come_back_as_they_were(store: &dyn Store) {
    let big = "x".repeat(100_000);
    let values = ["", "{}", "{\"name\":\"Grüße 🦀 \u{202e}\"}", "\0\n\r\"\\", &big];
    let txn =
        values.iter().enumerate().fold(Txn::new(), |txn, (n, value)| txn.put(format!("value/{n}"), *value));
    commit(store, txn).await;
    let found: Vec<_> = map(store, "value/").await.into_values().collect();
    assert_eq!(found, values);
}

pub(super) async fn many_entries_come_whole(store: &dyn Store) {
    const ENTRIES: usize = 1200;
    for first in (0..ENTRIES).step_by(60) {
        let numbers = first..first + 60;
        commit(store, numbers.fold(Txn::new(), |txn, n| txn.put(format!("whole/{n:05}"), n.to_string())))
            .await;
    }
    let entries = store.range("whole/").await.unwrap();
    assert_eq!(entries.len(), ENTRIES);
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!((&entry.key, &entry.value), (&format!("whole/{n:05}"), &n.to_string()));
    }
}
