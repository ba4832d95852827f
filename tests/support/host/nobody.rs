//! The state of hosts that nobody asks for it.

use futures_util::{FutureExt as _, future::BoxFuture};
use rs_overlay::{
    admin::{
        EngineStatus, GcOrder, GcReport, NameQuestion, NameReport, NetworkEnd, NetworkEnded, NetworkMade,
        NetworkOrder, NetworkRow, NodeRow, StatusReport, StoreStatus, VerifyReport,
    },
    http::AdminView,
    store::StoreError,
};

/// Nobody asks these hosts for their state.
pub(super) struct Nobody;

impl AdminView for Nobody {
    fn status(&self) -> StatusReport {
        StatusReport {
            version: String::new(),
            node: String::new(),
            hostname: String::new(),
            vtep: None,
            underlay: None,
            data_path: None,
            scope: String::new(),
            mode: None,
            mode_because: String::new(),
            store: StoreStatus { kind: String::new(), url: String::new(), connected: true, since: 0 },
            engine: EngineStatus { reachable: false, version: None, driver: String::new(), plugin: None },
            networks: 0,
            endpoints: 0,
            reconcile: None,
            repairs: Vec::new(),
            elsewhere: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn networks(&self) -> BoxFuture<'_, Result<Vec<NetworkRow>, StoreError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn names(&self, question: NameQuestion) -> BoxFuture<'_, Result<NameReport, String>> {
        async move { Err(format!("nobody knows {}", question.name)) }.boxed()
    }

    fn create_network(&self, order: NetworkOrder) -> BoxFuture<'_, Result<NetworkMade, String>> {
        async move { Err(format!("no engine creates {}", order.name)) }.boxed()
    }

    fn remove_network(&self, end: NetworkEnd) -> BoxFuture<'_, Result<NetworkEnded, String>> {
        async move { Err(format!("no engine removes {}", end.name)) }.boxed()
    }

    fn verify(&self) -> BoxFuture<'_, VerifyReport> {
        async { VerifyReport::default() }.boxed()
    }

    fn gc(&self, _: GcOrder) -> BoxFuture<'_, GcReport> {
        async { GcReport::default() }.boxed()
    }
}
