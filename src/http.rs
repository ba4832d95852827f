//! Docker's way in: HTTP over a unix socket, one call a POST to `/<Kind>.<Method>`.

mod admin;
mod calls;
mod journal;
mod listen;
mod reply;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    response::Response,
    routing::{get, post},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, warn};

use crate::{clock::micros, driver::Driver, telemetry::call_span};
pub use admin::AdminView;
pub use journal::Journal;
pub use listen::{ListenError, bind, listener};
use reply::Reply;

/// Longest body taken: an engine's largest has every published port of a container in it.
const BODY_LIMIT: usize = 4 << 20;
/// Every call ends by then. Engines set no limit of their own for a legacy plugin, and hold locks.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What the routes work with.
#[derive(Clone)]
pub struct Plugin {
    /// The use cases.
    pub driver: Arc<Driver>,
    /// What people ask for.
    pub admin: Arc<dyn AdminView>,
    /// Calls under way, so that a shutdown can wait for them.
    pub calls: TaskTracker,
    /// The same on disk, for the life after a kill.
    pub journal: Arc<Journal>,
}

/// The routes of both protocols and of the command line.
pub fn router(plugin: Plugin) -> Router {
    Router::new()
        .route("/rs-overlay/v1/status", get(admin::status))
        .route("/rs-overlay/v1/networks", get(admin::networks))
        .route("/rs-overlay/v1/nodes", get(admin::nodes))
        .route("/rs-overlay/v1/names", get(admin::names))
        .route("/rs-overlay/v1/networks/create", post(admin::create))
        .route("/rs-overlay/v1/networks/remove", post(admin::remove))
        .route("/rs-overlay/v1/verify", get(admin::verify))
        .route("/rs-overlay/v1/gc", post(admin::gc))
        .route("/{method}", post(call))
        .fallback(|| async { Reply::not_found("no such call") })
        .method_not_allowed_fallback(|| async {
            Reply::error(405, "rs-overlay: wrong HTTP method: calls are POST, questions are GET")
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(plugin)
}

/// One call of an engine. It runs in a task of its own: an engine that hangs up must not cut an
/// operation in half, and a panic must not drop the connection, because the engine then repeats the call
/// with an empty body.
async fn call(
    State(plugin): State<Plugin>,
    method: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(Path(method)) = method else { return Reply::not_found("no such call") };
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let text = format!("rs-overlay: {method} has a body that cannot be read: {}", error.body_text());
            return Reply::error(error.status().as_u16(), &text);
        }
    };
    let span = call_span(&method);
    let calls_of = plugin.calls.clone();
    let work = {
        let method = method.clone();
        async move {
            let blank = body.iter().all(u8::is_ascii_whitespace);
            let body = if blank { plugin.journal.repeated(&method).map_or(body, Bytes::from) } else { body };
            debug!(body = %String::from_utf8_lossy(&body), "asked");
            let under_way = plugin.journal.begin(&method, &body);
            let start = Instant::now();
            let answer =
                tokio::time::timeout(CALL_LIMIT, calls::dispatch(&plugin.driver, &method, &body)).await;
            let answer = answer.unwrap_or_else(|_| Err(calls::CallError::late(&method, CALL_LIMIT)));
            match &answer {
                Ok(value) => debug!(%value, took_us = micros(start.elapsed()), "answered"),
                Err(error) => warn!(error = %error.message, "refused"),
            }
            drop(under_way);
            answer
        }
    };
    match calls_of.spawn(work.instrument(span)).await {
        Ok(Ok(value)) => Reply::ok(&value),
        Ok(Err(error)) => Reply::error(error.status, &error.message),
        Err(_) => {
            Reply::error(500, &format!("rs-overlay: {method} failed inside the driver; its log tells more"))
        }
    }
}
