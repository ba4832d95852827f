//! A registry in memory, as far as `docker plugin push` and `docker plugin upgrade` need one (the OCI distribution
//! specification's pull and push of blobs and manifests).

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use netns_harness::Host;
use nix::sched::{CloneFlags, setns};

/// Largest layer: the program of an unoptimised build.
const LIMIT: usize = 256 << 20;
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// By the last parts of their path: `blobs/sha256:…`, `manifests/v2`; each with its type.
type Things = Arc<Mutex<BTreeMap<String, (String, Bytes)>>>;

/// Ends when it is dropped.
pub(crate) struct Registry {
    _runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Registry {
    /// Serves on the underlay address of `host`.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        let namespace = File::open(host.path("/proc/1/ns/net")?)?;
        let address = SocketAddr::new(host.vtep(), 5000);
        // A thread of its own, which ends inside.
        let listener = thread::spawn(move || -> Result<TcpListener> {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpListener::bind(address)?)
        });
        let listener = listener.join().ok().context("the thread inside the host panicked")??;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let router = Router::new().fallback(answer).with_state(Things::default());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Ok(Self { _runtime: runtime, address })
    }

    /// How a plugin in it is called.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

async fn answer(State(things): State<Things>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    let Ok(body) = to_bytes(body, LIMIT).await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut segments = path.rsplitn(3, '/');
    let (last, kind) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let key = format!("{kind}/{last}");
    let mut things = things.lock().unwrap();
    let at = |status: StatusCode, place: String| (status, [(header::LOCATION, place)]).into_response();
    match parts.method {
        _ if path == "/v2" => "{}".into_response(),
        Method::GET | Method::HEAD => match things.get(&key) {
            Some((kind, bytes)) => {
                let digest = digest(bytes);
                ([(header::CONTENT_TYPE, kind.clone()), (DIGEST, digest)], bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::POST => at(StatusCode::ACCEPTED, format!("{path}/{}", things.len())),
        Method::PATCH => {
            let known = things.get(&key).map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            things.insert(key, (String::new(), [known, body].concat().into()));
            at(StatusCode::ACCEPTED, path)
        }
        Method::PUT if kind == "uploads" => {
            let known = things.remove(&key).map(|(_, bytes)| bytes).unwrap_or_default();
            let bytes = Bytes::from([known, body].concat());
            let digest = digest(&bytes);
            things.insert(format!("blobs/{digest}"), ("application/octet-stream".to_owned(), bytes));
            let stored = at(StatusCode::CREATED, path);
            ([(DIGEST, digest)], stored).into_response()
        }
        Method::PUT => {
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let manifest = (kind.unwrap_or_default().to_owned(), body);
            let digest = digest(&manifest.1);
            things.insert(format!("manifests/{digest}"), manifest.clone());
            things.insert(key, manifest);
            (StatusCode::CREATED, [(DIGEST, digest)]).into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut sum = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    format!("sha256:{}", said.split(' ').next().unwrap())
}
