//! What is in the store in place of what was there: other networks, tombstones, another cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rs_overlay::{
    model::{Meta, NetworkId, Removed},
    store::{Outcome, Store, Txn, keys, record},
    watched::Watched,
};

use super::scene::{clear, contents, endorsed, meta, settled};
use crate::support::{
    docker::{Net, id},
    host::{Host, embedded},
};

fn network_key(number: usize) -> String {
    keys::network(&NetworkId::new(id(number)).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_somebody_made_in_the_emptied_store_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    net.attach(&b, 101).await;
    // One more whose VNI alone is taken.
    Net::create(&b, 2, "10.8.0.0/24").await;
    let first = settled(&[&a, &b], None).await;
    endorsed(&[&a, &b]).await;
    let cluster = meta(&*store).await.unwrap().cluster;
    let before = contents(&*store).await;
    a.crash().await;
    b.crash().await;
    clear(&*store).await;
    // A host that knows of nothing.
    let c = Host::standing(Arc::clone(&store), dir.path(), 3);
    Net::create(&c, 7, "10.9.0.0/25").await;
    Net::create(&c, 8, "10.6.0.0/24").await;

    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    settled(&[&a, &b, &c], Some(&first)).await;
    assert_eq!(meta(&*store).await.unwrap().cluster, cluster);
    a.until("the old networks alone", async || {
        let now = contents(&*store).await;
        // Its own word on what its engine has, the third host takes back with its networks.
        let own = c.local.node().as_str();
        let now: std::collections::BTreeSet<_> = now.into_iter().filter(|key| !key.ends_with(own)).collect();
        (now != before).then(|| format!("{:?}", now.symmetric_difference(&before)))
    })
    .await;
    for (number, over) in [(7, "subnet 10.9.0.0/25"), (8, "VNI")] {
        let key = keys::removed(&NetworkId::new(id(number)).unwrap());
        let tombs = store.range(&key).await.unwrap();
        let tomb: Removed = record::decode(&key, &tombs[0].value).unwrap();
        let gave_way = tomb.gave_way.unwrap();
        assert!(gave_way.over.starts_with(over) || gave_way.over.starts_with("VNI"), "{gave_way:?}");
    }
    let text = tokio::time::timeout(Duration::from_secs(30), refused_text(&c)).await.unwrap();
    assert!(text.contains("overlaps"), "{text}");
}

/// What creating the losing network again says, once the store is settled.
async fn refused_text(host: &Host) -> String {
    loop {
        let pool = serde_json::json!({"Pool": "10.9.0.0/25"});
        let made = Net::create_with(host, 9, &pool, &[], &serde_json::json!({})).await;
        let text = made.err().expect("a subnet that is taken");
        if !text.contains("filling it again") {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_removed_while_a_host_was_away_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    net.attach(&b, 101).await;
    Net::create(&a, 2, "10.8.0.0/24").await;
    let first = settled(&[&a, &b], None).await;
    b.crash().await;
    net.remove(&a).await;
    a.until("the removal", async || {
        let there = a.network_keys().await.contains(&network_key(1));
        (there || a.snapshot.now().removed.is_empty()).then(|| "still there".to_owned())
    })
    .await;
    // So that the word of it is on the disk as well.
    tokio::time::sleep(Duration::from_secs(1)).await;
    a.crash().await;
    clear(&*store).await;
    // It is first, and knows nothing of the removal.
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    settled(&[&b], Some(&first)).await;
    assert!(contents(&*store).await.contains(&network_key(1)));
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    settled(&[&a, &b], Some(&first)).await;
    a.until("the network to be gone again", async || {
        let now = contents(&*store).await;
        let left: Vec<_> =
            now.iter().filter(|key| key.contains("10.9.0.0") || **key == network_key(1)).collect();
        (!left.is_empty()).then(|| format!("{left:?}"))
    })
    .await;
    assert!(contents(&*store).await.contains(&network_key(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_cluster_and_one_that_cannot_be_read_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    let ip = net.take(&a, "").await.unwrap();
    net.endpoint(&a, 10, &ip).await.success("endpoint");
    settled(&[&a], None).await;
    endorsed(&[&a]).await;
    let other = Meta {
        cluster: "other".into(),
        incarnation: "x".into(),
        turns: 0,
        provisional: false,
        void: vec![],
        created_at: 1,
        extra: BTreeMap::new(),
    };
    for text in [record::encode(&other), "no record at all".to_owned()] {
        clear_but_meta(&*store, &text).await;
        let kernel = a.kernel.overlay();
        let pool =
            serde_json::json!({"AddressSpace": "rs-overlay-local", "Pool": "10.5.0.0/24", "Options": {}});
        let told = a.refused("IpamDriver.RequestPool", &pool).await;
        assert!(told.contains("cluster"), "{told}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = store.range("").await.unwrap();
        let now: Vec<_> = now.into_iter().map(|entry| (entry.key, entry.value)).collect();
        assert_eq!(now, [(keys::META.to_owned(), text)]);
        assert_eq!(a.kernel.overlay(), kernel);
        assert!(a.snapshot.now().networks.len() == 1);
    }
    // The disk that was mistaken for another is back, empty.
    let first = a.local.read(|data| data.store_incarnation().map(str::to_owned));
    clear(&*store).await;
    settled(&[&a], first.as_deref()).await;
    assert!(contents(&*store).await.contains(&network_key(1)));
}

async fn clear_but_meta(store: &dyn Store, text: &str) {
    let all = store.range("").await.unwrap();
    let others = all.into_iter().filter(|entry| entry.key != keys::META);
    let txn = others.fold(Txn::new(), |txn, entry| txn.delete(entry.key)).put(keys::META, text);
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Committed);
}
