//! Stores that can be lost, and what the hosts should make of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use rs_overlay::{
    model::{AddressClaim, ClaimKind, Mark, Meta},
    store::{Entry, Outcome, Store, Txn, keys, record},
};

use crate::{
    servers::{Server, answers},
    support::host::{Host, until},
};

/// Deletes all data of a server, as by hand.
pub(crate) async fn wipe(server: &mut impl Server, store: &dyn Store) {
    server.process().kill();
    remove(&server.data());
    server.process().revive();
    answers(store).await;
}

/// Deletes everything at once.
pub(crate) async fn clear(store: &dyn Store) {
    let all = store.range("").await.unwrap();
    let txn = all.into_iter().fold(Txn::new(), |txn, entry| txn.delete(entry.key));
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Committed);
}

/// A copy of a server's data.
pub(crate) async fn save(server: &mut impl Server, store: &dyn Store, to: &Path) {
    server.process().kill();
    copy(&server.data(), &to.join("backup"));
    server.process().revive();
    answers(store).await;
}

/// Puts a server back to where it was.
pub(crate) async fn restore(server: &mut impl Server, store: &dyn Store, from: &Path) {
    server.process().kill();
    remove(&server.data());
    copy(&from.join("backup"), &server.data());
    server.process().revive();
    answers(store).await;
}

fn remove(path: &PathBuf) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success(), "cp -a {} {}: {done}", from.display(), to.display());
}

/// All that the store has of networks, without what changes by itself, as the reserve does.
pub(crate) async fn contents(store: &dyn Store) -> BTreeSet<String> {
    let all: Vec<Entry> = store.range("v1/").await.unwrap();
    let lasting = [keys::CLUSTER, keys::NODES, keys::REMOVED];
    let reserve = |entry: &Entry| {
        record::decode::<AddressClaim>(&entry.key, &entry.value)
            .is_ok_and(|claim| claim.kind == ClaimKind::Reserve)
    };
    let keys = all.into_iter().filter(|entry| !reserve(entry)).map(|entry| entry.key);
    keys.filter(|key| lasting.iter().all(|beginning| !key.starts_with(beginning))).collect()
}

/// The cluster's record, if there is one that can be read.
pub(crate) async fn meta(store: &dyn Store) -> Option<Meta> {
    let entries = store.range(keys::META).await.ok()?;
    let entry = entries.into_iter().find(|entry| entry.key == keys::META)?;
    record::decode(&entry.key, &entry.value).ok()
}

/// Waits until all these hosts have told the store all they have, in one incarnation that is not `before`;
/// the answer is that incarnation.
pub(crate) async fn settled(hosts: &[&Host], before: Option<&str>) -> String {
    let store = Arc::clone(&hosts[0].store);
    until("all hosts to have confirmed the store", async || {
        let Some(meta) = meta(&*store).await else { return Some("no cluster".to_owned()) };
        let marks = store.range(keys::MARKS).await.unwrap_or_default();
        let marks: BTreeMap<_, _> = marks
            .iter()
            .filter_map(|e| Some((keys::marked(&e.key)?, record::decode::<Mark>(&e.key, &e.value).ok()?)))
            .collect();
        let done = |host: &&Host| {
            marks.get(host.local.node()).is_some_and(|mark| mark.incarnation == meta.incarnation)
                && host.local.read(|data| data.store_incarnation() == Some(meta.incarnation.as_str()))
        };
        let good = before != Some(meta.incarnation.as_str()) && hosts.iter().all(done);
        (!good).then(|| format!("{meta:?}, {marks:?}"))
    })
    .await;
    meta(&*store).await.unwrap().incarnation
}

/// Waits until the cluster of these hosts is no longer one that was only just founded.
pub(crate) async fn endorsed(hosts: &[&Host]) {
    until("the cluster to be endorsed", async || {
        let known: Vec<_> = hosts.iter().map(|host| host.local.data().cluster).collect();
        let done = known.iter().flatten().filter(|known| !known.provisional).count() == hosts.len();
        (!done).then(|| format!("{known:?}"))
    })
    .await;
}

/// Waits until the store has all addresses of these hosts as they have them.
pub(crate) async fn booked(hosts: &[&Host]) {
    let store = Arc::clone(&hosts[0].store);
    until("the store to have all addresses as the hosts have them", async || {
        let told = store.range(keys::ADDRESSES).await.unwrap_or_default();
        let record = |key: &str| {
            let entry = told.iter().find(|entry| entry.key == key)?;
            record::decode::<AddressClaim>(&entry.key, &entry.value).ok()
        };
        let all = hosts.iter().flat_map(|host| {
            let node = host.local.node().clone();
            host.local.data().claims.into_values().map(move |claim| (node.clone(), claim))
        });
        let missing: Vec<_> = all
            .filter(|(node, claim)| {
                record(&keys::address(&claim.cidr, claim.ip)).as_ref() != Some(&claim.record(node))
            })
            .map(|(node, claim)| (node, claim.ip))
            .collect();
        (!missing.is_empty()).then(|| format!("{missing:?}"))
    })
    .await;
}

/// Waits until the store has just these keys.
pub(crate) async fn has(store: &dyn Store, wanted: &BTreeSet<String>) {
    until("the store to have what it had", async || {
        let now = contents(store).await;
        let missing: Vec<_> = wanted.difference(&now).collect();
        let surplus: Vec<_> = now.difference(wanted).collect();
        (now != *wanted).then(|| format!("missing {missing:?}, too many {surplus:?}"))
    })
    .await;
}

/// Forwarding entries in a host's kernel.
pub(crate) fn entries(host: &Host) -> usize {
    host.kernel.overlay().segments.values().map(|segment| segment.fdb.len()).sum()
}

/// Waits until a host's kernel has so many forwarding entries.
pub(crate) async fn reaches(host: &Host, count: usize) {
    host.until("forwarding entries", async || {
        let now = entries(host);
        (now != count).then(|| format!("{now} instead of {count}: {:?}", host.kernel.overlay()))
    })
    .await;
}

/// Looks at a host's kernel the whole time while `work` goes on: no entry may ever be missing.
pub(crate) async fn undisturbed<T>(host: &Host, count: usize, work: impl Future<Output = T>) -> T {
    let watch = async {
        loop {
            let now = entries(host);
            assert!(now >= count, "{} has lost entries: {:?}", host.name, host.kernel.overlay());
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = watch => unreachable!("it watches for ever"),
    }
}
