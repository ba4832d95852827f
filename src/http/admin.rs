//! What the command line asks for.

use axum::{
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::task::TaskTracker;

use super::{Plugin, reply::Reply};
use crate::{
    admin::{
        GcOrder, GcReport, NameQuestion, NameReport, NetworkEnd, NetworkEnded, NetworkMade, NetworkOrder,
        NetworkRow, NodeRow, StatusReport, VerifyReport,
    },
    store::StoreError,
};

/// Where the answers come from.
pub trait AdminView: Send + Sync {
    /// How this daemon is doing; never fails, since that is when people ask.
    fn status(&self) -> StatusReport;
    /// All networks of the cluster.
    fn networks(&self) -> BoxFuture<'_, Result<Vec<NetworkRow>, StoreError>>;
    /// All hosts of the cluster.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>>;
    /// Who answers to a name; an error is a sentence for the person who asked.
    fn names(&self, question: NameQuestion) -> BoxFuture<'_, Result<NameReport, String>>;
    /// Has this host's engine create a network; an error is a sentence for the person who asked.
    fn create_network(&self, order: NetworkOrder) -> BoxFuture<'_, Result<NetworkMade, String>>;
    /// Has this host's engine remove a network; an error is a sentence for the person who asked.
    fn remove_network(&self, end: NetworkEnd) -> BoxFuture<'_, Result<NetworkEnded, String>>;
    /// Compares kernel, plan, store, engine and this host's own state; takes some seconds where they differ.
    /// What cannot be compared is told in the report.
    fn verify(&self) -> BoxFuture<'_, VerifyReport>;
    /// Collects what was left behind, or only says what that is.
    fn gc(&self, order: GcOrder) -> BoxFuture<'_, GcReport>;
}

pub(super) async fn status(State(plugin): State<Plugin>) -> Response {
    Reply::ok(&plugin.admin.status())
}

pub(super) async fn networks(State(plugin): State<Plugin>) -> Response {
    rows(plugin.admin.networks().await)
}

pub(super) async fn nodes(State(plugin): State<Plugin>) -> Response {
    rows(plugin.admin.nodes().await)
}

pub(super) async fn names(
    State(plugin): State<Plugin>,
    question: Result<Query<NameQuestion>, QueryRejection>,
) -> Response {
    let Query(question) = match question {
        Ok(question) => question,
        Err(error) => {
            let text = format!("the daemon cannot read this question: {}; update both", error.body_text());
            return Reply::error(400, &text);
        }
    };
    match plugin.admin.names(question).await {
        Ok(report) => Reply::ok(&report),
        Err(text) => Reply::error(409, &text),
    }
}

pub(super) async fn verify(State(plugin): State<Plugin>) -> Response {
    Reply::ok(&plugin.admin.verify().await)
}

pub(super) async fn gc(State(plugin): State<Plugin>, body: Bytes) -> Response {
    order(&plugin.calls.clone(), &body, |order| async move { Ok(plugin.admin.gc(order).await) }).await
}

pub(super) async fn create(State(plugin): State<Plugin>, body: Bytes) -> Response {
    order(&plugin.calls.clone(), &body, |order| async move { plugin.admin.create_network(order).await }).await
}

pub(super) async fn remove(State(plugin): State<Plugin>, body: Bytes) -> Response {
    order(&plugin.calls.clone(), &body, |end| async move { plugin.admin.remove_network(end).await }).await
}

/// Carries an order out in a task of its own: whoever hangs up must not cut it in half.
async fn order<O: DeserializeOwned + Send + 'static, T: Serialize + Send + 'static, F>(
    calls: &TaskTracker,
    body: &[u8],
    work: impl FnOnce(O) -> F,
) -> Response
where
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let order = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(error) => {
            return Reply::error(400, &format!("the daemon cannot read this order: {error}; update both"));
        }
    };
    match calls.spawn(work(order)).await {
        Ok(Ok(answer)) => Reply::ok(&answer),
        Ok(Err(text)) => Reply::error(409, &text),
        Err(_) => Reply::error(500, "the order failed inside the daemon; its log tells more"),
    }
}

fn rows<T: Serialize>(rows: Result<Vec<T>, StoreError>) -> Response {
    match rows {
        Ok(rows) => Reply::ok(&rows),
        Err(error) => Reply::error(503, &error.to_string()),
    }
}
