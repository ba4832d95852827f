//! What the command line asks for.

use axum::{extract::State, response::Response};
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{Plugin, reply::Reply};
use crate::{
    admin::{NetworkRow, NodeRow, StatusReport},
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

fn rows<T: Serialize>(rows: Result<Vec<T>, StoreError>) -> Response {
    match rows {
        Ok(rows) => Reply::ok(&rows),
        Err(error) => Reply::error(503, &error.to_string()),
    }
}
