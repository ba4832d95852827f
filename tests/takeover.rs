//! What a dead host held, and who may have it.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod docker;
    pub(crate) mod host;
}

use std::{collections::BTreeMap, sync::Arc};

use rs_overlay::{
    config::AddrPool,
    model::{About, AddressClaim, Death, Endpoint, KnownHost, NodeId},
    store::{Store, Txn, keys, ledger::Ledger, record},
    watched::Watched,
};
use serde_json::json;
use support::{
    docker::{Net, endpoint, engine_network, id},
    host::{Host, embedded},
};
use tempfile::TempDir;

async fn two_hosts() -> (Host, Host, Arc<dyn Store>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let pools = || vec![AddrPool::standard()];
    let a = Host::start(Arc::clone(&store), dir.path(), 1, "local", pools()).await;
    let b = Host::start(Arc::clone(&store), dir.path(), 2, "local", pools()).await;
    (a, b, store, dir)
}

/// Ends `host`, its lease too, and declares it dead.
async fn declare_dead(store: &Arc<dyn Store>, host: Host, seen_by: &Host) {
    let id = host.local.node().clone();
    let vtep = [192, 0, 2, 1].into();
    let (hostname, extra) = (host.name.clone(), BTreeMap::new());
    let known = KnownHost {
        id: id.clone(),
        hostname: hostname.clone(),
        vtep,
        incarnation: 1,
        probe: true,
        about: About::default(),
        left_at: None,
        extra,
    };
    drop(host);
    let by = seen_by.local.node().clone();
    let death = Death { id: id.clone(), hostname, incarnation: 1, by, since: 0, extra: BTreeMap::new() };
    let txn = Txn::new()
        .delete(keys::node(&id))
        .put(keys::host(&id), record::encode(&known))
        .put(keys::dead(&id), record::encode(&death));
    store.txn(txn).await.unwrap();
    let known = async || (!seen_by.snapshot.now().is_dead(&id)).then(|| "the host lives".to_owned());
    seen_by.until("the death", known).await;
}

async fn claim(store: &Arc<dyn Store>, net: &Net, ip: &str) -> (NodeId, u64) {
    let key = keys::address(&net.cidr, ip.parse().unwrap());
    let claim = Ledger::new(Arc::clone(store)).get::<AddressClaim>(&key).await.unwrap().unwrap().record;
    (claim.node, claim.generation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_asked_for_is_taken_from_a_dead_host_only() {
    let (a, b, store, _dir) = two_hosts().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(&b, 2).await;
    for (number, ip) in [(10, "10.9.0.50"), (11, "10.9.0.51")] {
        on_a.take(&a, ip).await.unwrap();
        on_a.endpoint(&a, number, ip).await.success("endpoint");
    }
    let own = on_b.take(&b, "").await.unwrap();
    on_b.endpoint(&b, 20, &own).await.success("endpoint");
    let peers = |b: &Host| b.kernel.overlay().networks().map(|(_, s)| s.fdb.len()).sum::<usize>();
    b.until("entries for the other host", async || (peers(&b) != 2).then(|| format!("{}", peers(&b)))).await;
    let text = on_b.take(&b, "10.9.0.50").await.unwrap_err();
    assert!(text.contains("on host host1"), "{text}");

    let dead = a.local.node().clone();
    declare_dead(&store, a, &b).await;
    b.until("no entries", async || (peers(&b) != 0).then(|| format!("{}", peers(&b)))).await;
    assert!(on_b.take(&b, "10.9.0.1").await.is_err(), "the gateway was given away");
    assert_eq!(on_b.take(&b, "10.9.0.50").await.unwrap(), "10.9.0.50");
    assert_eq!(claim(&store, &on_b, "10.9.0.50").await, (b.local.node().clone(), 1));
    assert_eq!(claim(&store, &on_b, "10.9.0.51").await, (dead, 0));
    on_b.endpoint(&b, 21, "10.9.0.50").await.success("endpoint");
    let key = keys::endpoint(&id(1).try_into().unwrap(), &id(21).try_into().unwrap());
    let ledger = Ledger::new(Arc::clone(&store));
    b.until("the endpoint's record", async || match ledger.get::<Endpoint>(&key).await.unwrap() {
        Some(held) if held.record.generation == 1 => None,
        other => Some(format!("{other:?}")),
    })
    .await;
    // Its generation lasts as long as the claim does, over a restart of the container too.
    on_b.stop(&b, 21).await;
    assert_eq!(claim(&store, &on_b, "10.9.0.50").await.1, 1);
    on_b.release(&b, "10.9.0.50").await;
    assert_eq!(on_b.take(&b, "10.9.0.50").await.unwrap(), "10.9.0.50");

    // The dead host's containers do not keep the network.
    on_b.release(&b, "10.9.0.50").await;
    on_b.stop(&b, 20).await;
    on_b.release(&b, &own).await;
    on_b.remove(&b).await;
    let left = async || {
        let keys = b.network_keys().await;
        let of_hosts = |key: &&String| !key.starts_with(keys::HOSTS) && !key.starts_with(keys::DEAD);
        let left: Vec<_> = keys.iter().filter(of_hosts).cloned().collect();
        // Marks of the dead host go with its record.
        let left: Vec<_> = left.into_iter().filter(|key| !key.starts_with(keys::PRESENT)).collect();
        (!left.is_empty()).then(|| format!("{left:?}"))
    };
    b.until("the end of the network", left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_choice_comes_to_a_dead_host_s_addresses_last() {
    let (a, b, store, _dir) = two_hosts().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/28").await;
    let on_b = on_a.attach(&b, 2).await;
    let dead = [on_a.take(&a, "").await.unwrap(), on_a.take(&a, "").await.unwrap()];
    declare_dead(&store, a, &b).await;
    for _ in 0..3 {
        let ip = on_b.take(&b, "").await.unwrap();
        assert_eq!(claim(&store, &on_b, &ip).await.1, 0, "{ip} was taken over while others were free");
    }
    // Thirteen besides the gateway, whatever either host had in reserve.
    for _ in 3..13 {
        on_b.take(&b, "").await.unwrap();
    }
    for ip in dead {
        assert_eq!(claim(&store, &on_b, &ip).await, (b.local.node().clone(), 1));
    }
    let text = on_b.take(&b, "").await.unwrap_err();
    assert!(text.contains("full"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_choice_of_an_engine_s_own_ipam_may_be_a_dead_host_s() {
    let (a, b, store, _dir) = two_hosts().await;
    a.ok(
        "NetworkDriver.CreateNetwork",
        &engine_network(1, "10.9.0.0/24", "10.9.0.1/24", &json!({"vni": "5000"})),
    )
    .await;
    let net = Net { id: id(1), pool: String::new(), cidr: "10.9.0.0/24".parse().unwrap() };
    let here = Net::attach(&net, &b, 2).await;
    here.take(&b, "10.9.0.9").await.unwrap();
    let refused = async || endpoint(&a, &id(1), 5, "10.9.0.9/24").await;
    let text = refused().await.failure("endpoint");
    assert!(text.contains("on host host2"), "{text}");
    let vni = json!({"NetworkID": id(7), "Options": {"com.docker.network.generic": {"vni": "16777215"}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": "10.8.0.0/24", "Gateway": "10.8.0.1/24"}], "IPv6Data": []});
    let text = a.refused("NetworkDriver.CreateNetwork", &vni).await;
    assert!(text.contains("16777214"), "{text}");
    declare_dead(&store, b, &a).await;
    refused().await.success("endpoint");
    assert_eq!(claim(&store, &net, "10.9.0.9").await, (a.local.node().clone(), 1));
    assert_eq!(a.local.read(|data| data.endpoints.values().next().unwrap().generation), 1);
}
