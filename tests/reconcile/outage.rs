//! The store is away, comes back, or comes back empty.

use std::sync::Arc;

use rs_overlay::{
    dataplane::fake::FakeKernel,
    local::Release,
    model::{AddressClaim, ClaimKind, Endpoint},
    store::{Txn, keys, record},
    watched::Watched,
};

use super::host::{Host, StoreHost, check, fill, remote, until, vni};

#[tokio::test]
async fn nothing_changes_while_the_store_is_away_and_all_is_caught_up_with_after_that() {
    let mut store = StoreHost::start().await;
    let kernel = Arc::new(FakeKernel::default());
    let host = Host::start(store.client(), Arc::clone(&kernel));
    fill(&host.ledger, &[remote("r1", 3)]).await;
    host.attach("e1", 2);
    let entries = |n: usize| {
        move |o: &rs_overlay::plan::Overlay| o.segments.get(&vni()).is_some_and(|s| s.fdb.len() == n)
    };
    host.kernel_is("the remote entry", &kernel, entries(1)).await;
    let own = |held: &[rs_overlay::store::ledger::Held<Endpoint>]| {
        held.iter().any(|h| h.record.id.as_str() == "e1")
    };
    until("the endpoint to be published", async || {
        let list = host.ledger.list::<Endpoint>(keys::ENDPOINTS).await;
        check(list.as_ref().is_ok_and(|held| own(held)), list.map(|held| held.len()))
    })
    .await;
    host.snapshot_is("both endpoints", |snapshot| snapshot.endpoints.values().any(|e| e.len() == 2)).await;
    let (snapshot, overlay) = (host.snapshot.now(), kernel.overlay());

    store.stop().await;
    until("the outage to be told", async || {
        let health = host.health.now();
        check(health.trouble.is_some(), health)
    })
    .await;
    // What this host does by itself still works.
    host.attach("e2", 4);
    host.kernel_is("a second container", &kernel, |o| o.segments[&vni()].ports.len() == 2).await;
    let mut now = kernel.overlay();
    now.segments.get_mut(&vni()).unwrap().ports.remove(&super::host::endpoint_id("e2"));
    assert_eq!(now, overlay);
    assert_eq!(*host.snapshot.now(), *snapshot);

    store.revive().await;
    fill(&host.ledger, &[remote("r2", 5)]).await;
    host.kernel_is("the new remote entry", &kernel, entries(2)).await;
    host.snapshot_is("all four endpoints", |snapshot| snapshot.endpoints.values().any(|e| e.len() == 4))
        .await;
    until("the end of the outage to be told", async || {
        let health = host.health.now();
        check(health.trouble.is_none(), health)
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn a_wiped_store_gets_its_endpoints_again() {
    let mut store = StoreHost::start().await;
    let host = Host::start(store.client(), Arc::new(FakeKernel::default()));
    host.attach("e1", 2);
    let published = async |what: &str| {
        until(what, async || {
            let list = host.ledger.list::<Endpoint>(keys::ENDPOINTS).await;
            check(list.as_ref().is_ok_and(|held| held.len() == 1), list.map(|held| held.len()))
        })
        .await;
    };
    published("the first publication").await;
    store.stop().await;
    store.wipe();
    store.revive().await;
    published("the second publication").await;
    host.stop().await;
}

#[tokio::test]
async fn a_release_survives_an_outage_and_a_restart() {
    let mut store = StoreHost::start().await;
    let host = Host::start(store.client(), Arc::new(FakeKernel::default()));
    let (cidr, ip) = ("10.9.0.0/24".parse().unwrap(), [10, 9, 0, 9].into());
    let claim = |since_ms| AddressClaim {
        node: host.local.node().clone(),
        kind: ClaimKind::Container,
        container: None,
        generation: 0,
        since_ms,
    };
    let other = [10, 9, 0, 10].into();
    // The second has been claimed anew since it was given back.
    let txn = Txn::new()
        .put(keys::address(&cidr, ip), record::encode(&claim(5)))
        .put(keys::address(&cidr, other), record::encode(&claim(500)));
    host.ledger.commit(txn).await.unwrap();
    store.stop().await;
    for ip in [ip, other] {
        host.local.put_release(Release { cidr, ip, until_ms: 50 }).unwrap();
    }
    let dir = host.stop().await;

    let host = Host::start_in(dir, store.client(), Arc::new(FakeKernel::default()));
    assert_eq!(host.local.data().releases.len(), 2);
    store.revive().await;
    until("both to be settled", async || {
        let releases = host.local.data().releases;
        check(releases.is_empty(), releases)
    })
    .await;
    let left = host.ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|held| held.entry.key).collect();
    assert_eq!(left, [keys::address(&cidr, other)]);
    host.stop().await;
}
