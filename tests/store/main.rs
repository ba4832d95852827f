//! The behaviour suite of the cluster store, against real servers: etcd, Consul, the embedded file, and
//! the embedded file of another process through its socket.
//!
//! `suite` holds the behaviours as functions over `&dyn Store`; `servers` starts what they need and can
//! break it. Servers listen on loopback, keep their data in a temporary directory and end with the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "all of this is a test, and what it prints are figures and reasons"
)]

mod consul;
mod embedded;
mod etcd;
mod faults;
mod measure;
mod proxy;
mod secured;
mod servers;
mod suite;
mod swallowed;
mod tasks;
mod watched;

use servers::{Consul, Etcd, Holder, Server};

macro_rules! behaviours {
    ($($test:ident: $server:ty;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let Some(server) = <$server>::start().await else { return };
            suite::all(&*server.store().await).await;
        }
    )*};
}

behaviours! {
    etcd_behaves: Etcd;
    consul_behaves: Consul;
    embedded_behaves: servers::InProcess;
    embedded_through_its_socket_behaves: Holder;
}
