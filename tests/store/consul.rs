//! Consul behind a line that leads to another server in the middle of a watch.

use rs_overlay::store::Txn;

use crate::{
    proxy::Proxy,
    servers::{Consul, Server, answers, opened},
    suite::commit,
    watched::Watched,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_goes_backwards_brings_a_listing() {
    let Some(old) = Consul::start().await else { return };
    let Some(new) = Consul::start().await else { return };
    let (before, after) = (old.store().await, new.store().await);
    for n in 0..200 {
        commit(&*before, Txn::new().put(format!("back/{n}"), "1")).await;
    }
    commit(&*after, Txn::new().put("back/0", "1").put("back/new", "1")).await;
    let proxy = Proxy::to(old.port()).await;
    let far = opened(&format!("consul://127.0.0.1:{}", proxy.port), &[]).await;
    answers(&*far).await;
    let mut watched = Watched::new(far.watch("back/"));
    watched.until("the listing", |known| known.len() == 200).await;
    proxy.turn_to(new.port());
    watched.until("the other history", |known| known.keys().eq(["back/0", "back/new"])).await;
    assert_eq!((watched.inits, watched.losts), (2, 0), "listings and outages");
    commit(&*after, Txn::new().put("back/newer", "1")).await;
    watched.until("a change afterwards", |known| known.len() == 3).await;
}
