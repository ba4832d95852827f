//! Nothing is left running when watches and stores are dropped.

use std::{sync::Arc, time::Duration};

use rs_overlay::store::{Store, Txn};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{
    servers::{Consul, Etcd, Holder, InProcess, PATIENCE, Server, free_port, opened},
    suite::commit,
    watched::Watched,
};

#[tokio::test]
async fn an_embedded_store_leaves_no_task() {
    let Some(server) = InProcess::start().await else { return };
    uses(&*server.store().await, true).await;
    drop(server);
    nothing_runs("embedded").await;
}

#[tokio::test]
async fn a_client_of_the_socket_leaves_no_task() {
    let Some(server) = Holder::start().await else { return };
    goes(server.store().await, true).await;
    nothing_runs("socket").await;
}

#[tokio::test]
async fn etcd_leaves_no_task() {
    let Some(server) = Etcd::start().await else { return };
    goes(server.store().await, true).await;
    nothing_runs("etcd").await;
}

#[tokio::test]
async fn consul_leaves_no_task() {
    let Some(server) = Consul::start().await else { return };
    goes(server.store().await, true).await;
    nothing_runs("consul").await;
}

#[tokio::test]
async fn stores_without_a_server_leave_no_task() {
    for kind in ["etcd", "consul"] {
        goes(opened(&format!("{kind}://127.0.0.1:{}", free_port()), &[]).await, false).await;
        nothing_runs(kind).await;
    }
    goes(opened("unix:///nowhere/x.sock", &[]).await, false).await;
    nothing_runs("socket").await;
}

async fn goes(store: Arc<dyn Store>, up: bool) {
    uses(&*store, up).await;
}

async fn uses(store: &dyn Store, up: bool) {
    let mut watches: Vec<_> = (0..10).map(|_| Watched::new(store.watch("tasks/"))).collect();
    if up {
        commit(store, Txn::new().put("tasks/a", "1")).await;
    }
    for watched in &mut watches {
        watched.until_state("an event", |watched| watched.inits + watched.losts > 0).await;
    }
}

async fn nothing_runs(what: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = Handle::current().metrics().num_alive_tasks();
        if running == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {running} tasks are still there");
        sleep(Duration::from_millis(50)).await;
    }
}
