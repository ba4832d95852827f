//! Which hosts have a network, and how one that has removed it takes part again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod before;
    pub(crate) mod docker;
    pub(crate) mod host;
}

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rs_overlay::{
    config::AddrPool,
    model::{AddressClaim, NodeId},
    store::{Change, Store, Txn, keys, record},
};
use serde_json::json;
use support::{
    before::Before,
    docker::{Net, endpoint, engine_network, id},
    host::{Host, embedded},
};

async fn waits_for_keys(host: &Host, prefix: &str, wanted: &[String]) {
    let wanted: std::collections::BTreeSet<_> = wanted.iter().cloned().collect();
    host.until(&format!("{} keys below {prefix}", wanted.len()), async || {
        let there = host.store.range(prefix).await.unwrap();
        let there: std::collections::BTreeSet<_> = there.into_iter().map(|entry| entry.key).collect();
        (there != wanted).then(|| format!("{there:?} instead of {wanted:?}"))
    })
    .await;
}

fn present(hosts: &[&Host]) -> Vec<String> {
    let network = id(1).try_into().unwrap();
    hosts.iter().map(|host| keys::present(&network, host.local.node())).collect()
}

fn departed(host: &Host) -> String {
    keys::departed(&id(1).try_into().unwrap(), host.local.node())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_tells_what_it_has_and_joins_again_by_the_subnet() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::start(store.clone(), dir.path(), 1, "local", vec![AddrPool::standard()]).await;
    let b = Host::start(store.clone(), dir.path(), 2, "local", vec![AddrPool::standard()]).await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(&b, 2).await;
    waits_for_keys(&a, keys::PRESENT, &present(&[&a, &b])).await;
    let ip = on_b.take(&b, "").await.unwrap();
    on_b.endpoint(&b, 10, &ip).await.success("endpoint");

    on_a.remove(&a).await;
    waits_for_keys(&a, keys::DEPARTED, &[departed(&a)]).await;
    waits_for_keys(&a, keys::PRESENT, &present(&[&b])).await;
    // Another range of the subnet is another network's wish.
    let other = json!({"Pool": "10.9.0.0/24", "SubPool": "10.9.0.128/25"});
    let text = Net::create_with(&a, 3, &other, &[], &json!({})).await.err().expect("refused");
    assert!(text.contains("--ip-range"), "{text}");

    let again = Net::create(&a, 3, "10.9.0.0/24").await;
    waits_for_keys(&a, keys::PRESENT, &present(&[&a, &b])).await;
    waits_for_keys(&a, keys::DEPARTED, &[]).await;
    assert!(a.local.read(|data| data.binding_of(&id(1).try_into().unwrap()).is_some()));
    assert_ne!(again.take(&a, "").await.unwrap(), ip);
    let taken = again.take(&a, "10.9.0.77").await.unwrap();
    again.endpoint(&a, 11, &taken).await.success("endpoint");
    again.stop(&a, 11).await;
    for address in ["10.9.0.77", "10.9.0.3"] {
        again.release(&a, address).await;
    }
    again.remove(&a).await;
    waits_for_keys(&a, keys::DEPARTED, &[departed(&a)]).await;

    // The engine's own IPAM has been given the subnet.
    a.ok("NetworkDriver.CreateNetwork", &engine_network(4, "10.9.0.0/24", "10.9.0.1/24", &json!({}))).await;
    waits_for_keys(&a, keys::DEPARTED, &[]).await;
    let text = endpoint(&a, &id(4), 12, &format!("{ip}/24")).await.failure("the other host's address");
    assert!(text.contains(&ip), "{text}");
    on_b.stop(&b, 10).await;
    on_b.release(&b, &ip).await;
    a.ok("NetworkDriver.DeleteNetwork", &json!({"NetworkID": id(4)})).await;
    on_b.remove(&b).await;
    a.until_clean().await;
    b.until_clean().await;
}

/// A store in which a host's word that it has removed a network comes late: only when nobody uses the network any
/// more, and whoever did has looked for such words.
fn with_late_word(inner: &Arc<dyn Store>) -> Arc<dyn Store> {
    let store = Arc::clone(inner);
    let hook = move |txn: &Txn| {
        let is_word =
            |change: &Change| matches!(change, Change::Put { key, .. } if key.starts_with(keys::DEPARTED));
        let (late, store) = (txn.changes.iter().any(is_word), Arc::clone(&store));
        async move {
            if late {
                nobody_uses_it(&*store).await;
            }
            Ok(())
        }
        .boxed()
    };
    Arc::new(Before { inner: Arc::clone(inner), hook: Box::new(hook) })
}

async fn nobody_uses_it(store: &dyn Store) {
    let used = async || {
        let claims = store.range(keys::ADDRESSES).await.unwrap();
        let claims = claims.iter().map(|claim| record::decode::<AddressClaim>(&claim.key, &claim.value));
        let claimed = claims.filter_map(Result::ok).any(|claim| claim.kind.is_use());
        claimed || !store.range(keys::ENDPOINTS).await.unwrap().is_empty()
    };
    while used().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_ends_also_if_its_last_container_ends_while_the_word_of_its_removal_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let a = Host::start(with_late_word(&store), dir.path(), 1, "local", vec![AddrPool::standard()]).await;
    let b = Host::start(store, dir.path(), 2, "local", vec![AddrPool::standard()]).await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(&b, 2).await;
    let ip = on_b.take(&b, "").await.unwrap();
    on_b.endpoint(&b, 10, &ip).await.success("endpoint");
    on_a.remove(&a).await;
    // Host a has seen a container on host b by now, and is about to say that it has removed the network here alone.
    tokio::time::sleep(Duration::from_millis(100)).await;
    on_b.stop(&b, 10).await;
    on_b.release(&b, &ip).await;
    // Sooner than a sweep, which would find it as well.
    waits_for_keys(&a, keys::NETWORKS, &[]).await;
    on_b.remove(&b).await;
    waits_for_keys(&a, keys::PRESENT, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_of_a_host_that_is_gone_for_good_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let network = id(1).try_into().unwrap();
    let foreign = keys::present(&network, &NodeId::new("another").unwrap());
    store.txn(Txn::new().put(foreign.as_str(), "{}")).await.unwrap();
    let a = Host::start(store.clone(), dir.path(), 1, "local", vec![AddrPool::standard()]).await;
    // Of a host and of a network that are both gone.
    waits_for_keys(&a, keys::PRESENT, &[]).await;
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    waits_for_keys(&a, keys::PRESENT, &present(&[&a])).await;
    // The network goes, and with it what is told of it.
    net.remove(&a).await;
    waits_for_keys(&a, keys::PRESENT, &[]).await;
}
