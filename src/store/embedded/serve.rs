//! Offers an embedded store to the other processes of its machine, on a unix socket that only root opens.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{FutureExt as _, stream};
use tokio::{net::UnixListener, sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Embedded, EmbeddedError, command::Command};
use crate::store::{
    Entry, LeaseId, Outcome, Store, StoreError, StoreFuture, Txn, Watch,
    address::Address,
    protocol::{self, Call, Failure, KeepAliveCall, LeaseCall, RangeCall, RevokeCall, TxnCall, WatchCall},
    timeouts::Timeouts,
};

/// An embedded store that is shared on a socket for as long as this lives.
#[derive(Debug)]
pub struct Shared {
    store: Embedded,
    _stop: DropGuard,
}

/// Where the store of the file `path` is shared: `path.sock`.
pub fn socket_of(path: &Path) -> PathBuf {
    let mut socket = path.as_os_str().to_owned();
    socket.push(".sock");
    socket.into()
}

impl Shared {
    /// Offers `store` on `socket`. What is in the way there is replaced: whoever has the file open is the
    /// only one who may offer it.
    pub fn start(store: Embedded, socket: &Path) -> Result<Self, EmbeddedError> {
        let listener = listen(socket).map_err(|error| EmbeddedError::Listen {
            socket: socket.display().to_string(),
            detail: error.to_string(),
        })?;
        let handle = Handle {
            commands: store.commands.downgrade(),
            address: store.address.clone(),
            timeouts: store.timeouts,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        // Ends with the token: calls under way are answered, watches end with the store.
        tokio::spawn(async move {
            let served = axum::serve(listener, router(handle)).with_graceful_shutdown(stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the embedded store is no longer shared");
            }
        });
        Ok(Self { store, _stop: stop.drop_guard() })
    }
}

impl Store for Shared {
    fn range<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<Entry>> {
        self.store.range(prefix)
    }

    fn txn(&self, txn: Txn) -> StoreFuture<'_, Outcome> {
        self.store.txn(txn)
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.store.watch(prefix)
    }

    fn lease(&self, ttl: Duration) -> StoreFuture<'_, LeaseId> {
        self.store.lease(ttl)
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.store.keep_alive(lease)
    }

    fn revoke<'a>(&'a self, lease: &'a LeaseId) -> StoreFuture<'a, ()> {
        self.store.revoke(lease)
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }
}

/// What connections hold: not the store itself, which would otherwise stay open with them.
#[derive(Clone)]
struct Handle {
    commands: mpsc::WeakSender<Command>,
    address: Address,
    timeouts: Timeouts,
}

impl Handle {
    fn store(&self) -> Result<Embedded, StoreError> {
        let commands = self.commands.upgrade().ok_or_else(|| self.address.unavailable("it is closed"))?;
        Ok(Embedded { commands, address: self.address.clone(), timeouts: self.timeouts })
    }
}

fn router(handle: Handle) -> Router {
    Router::new()
        .route(
            RangeCall::PATH,
            post(answer(|store, call: RangeCall| async move { store.range(&call.prefix).await }.boxed())),
        )
        .route(
            TxnCall::PATH,
            post(answer(|store, call: TxnCall| async move { store.txn(call.txn).await }.boxed())),
        )
        .route(
            LeaseCall::PATH,
            post(answer(|store, call: LeaseCall| {
                async move { store.lease(Duration::from_millis(call.ttl_ms)).await }.boxed()
            })),
        )
        .route(
            KeepAliveCall::PATH,
            post(answer(|store, call: KeepAliveCall| {
                async move { store.keep_alive(&call.lease).await }.boxed()
            })),
        )
        .route(
            RevokeCall::PATH,
            post(answer(|store, call: RevokeCall| async move { store.revoke(&call.lease).await }.boxed())),
        )
        .route(protocol::WATCH, post(watch))
        .layer(DefaultBodyLimit::max(protocol::LONGEST_REQUEST))
        .with_state(handle)
}

/// A handler that decodes a call, makes it and encodes what comes of it.
fn answer<C: Call>(
    work: fn(Embedded, C) -> StoreFuture<'static, C::Answer>,
) -> impl Fn(State<Handle>, Bytes) -> futures_util::future::BoxFuture<'static, Response> + Clone + Send + 'static
{
    move |State(handle), body| {
        async move {
            let call = match serde_json::from_slice(&body) {
                Ok(call) => call,
                Err(error) => return failed(StatusCode::BAD_REQUEST, &not_understood(&error)),
            };
            let done = async { work(handle.store()?, call).await }.await;
            match done {
                Ok(answer) => json(StatusCode::OK, &answer),
                Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.into()),
            }
        }
        .boxed()
    }
}

async fn watch(State(handle): State<Handle>, body: Bytes) -> Response {
    let call: WatchCall = match serde_json::from_slice(&body) {
        Ok(call) => call,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &not_understood(&error)),
    };
    let watch = match handle.store() {
        Ok(store) => store.subscribe(&call.prefix),
        Err(error) => return failed(StatusCode::SERVICE_UNAVAILABLE, &error.into()),
    };
    let lines = stream::unfold(watch, |mut watch| async move {
        let line = match timeout(protocol::HEARTBEAT, watch.next()).await {
            Ok(Some(event)) => protocol::line(&event).map_err(io::Error::from),
            Ok(None) => return None,
            Err(_) => Ok(vec![b'\n']),
        };
        Some((line, watch))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::Refused(format!("the request was not understood: {error}"))
}

fn failed(status: StatusCode, failure: &Failure) -> Response {
    json(status, failure)
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Binds in a directory that nobody else can enter and moves the socket into place when its mode is
/// right: at no moment can another user connect.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let mut private = socket.as_os_str().to_owned();
    private.push("~");
    let private = PathBuf::from(private);
    match fs::remove_dir_all(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let bound = private.join("s");
    let result = UnixListener::bind(&bound).and_then(|listener| {
        fs::set_permissions(&bound, fs::Permissions::from_mode(0o600))?;
        fs::rename(&bound, socket)?;
        Ok(listener)
    });
    let removed = fs::remove_dir_all(&private);
    let listener = result?;
    removed?;
    Ok(listener)
}
