//! How long a claim and its way to a watcher take. Prints figures; asserts only that it works.

use std::time::{Duration, Instant};

use rs_overlay::store::{Outcome, Store, Txn};

use crate::{
    servers::{Consul, Etcd, Holder, InProcess, Server},
    watched::{Map, Watched},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_watches_take() {
    if let Some(server) = Etcd::start().await {
        measure("etcd", &*server.store().await).await;
    }
    if let Some(server) = Consul::start().await {
        measure("consul", &*server.store().await).await;
    }
    if let Some(server) = InProcess::start().await {
        measure("embedded", &*server.store().await).await;
    }
    if let Some(server) = Holder::start().await {
        measure("embedded through its socket", &*server.store().await).await;
    }
}

async fn measure(name: &str, store: &dyn Store) {
    let mut watched = Watched::new(store.watch("measure/"));
    watched.until("the listing", Map::is_empty).await;
    let (mut claims, mut news) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let key = format!("measure/{n}");
        let start = Instant::now();
        assert_eq!(store.txn(Txn::new().absent(&key).put(&key, "{}")).await.unwrap(), Outcome::Committed);
        claims.push(start.elapsed());
        watched.until(&key, |known| known.contains_key(&key)).await;
        news.push(start.elapsed());
    }
    eprintln!("{name}: a claim takes {}, until a watcher knows {}", times(&mut claims), times(&mut news));
}

fn times(all: &mut [Duration]) -> String {
    all.sort_unstable();
    format!("{:?} (median), {:?} (95 of 100)", all[all.len() / 2], all[all.len() * 95 / 100])
}
