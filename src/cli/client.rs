//! Asks the local daemon over its plugin socket.

use std::{error::Error, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use serde::{Serialize, de::DeserializeOwned};

use crate::http_client;

/// How long a daemon may take: it answers from memory.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take where it has its engine do something.
const ORDER_DEADLINE: Duration = Duration::from_mins(1);

/// The JSON that the daemon behind `socket` answers to `GET path`.
pub(super) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fetch(socket, path, Request::Get, DEADLINE))
}

/// The same, of a daemon that has to ask others first.
pub(super) fn get_slowly<T: DeserializeOwned>(socket: &Path, path: &str) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fetch(socket, path, Request::Get, ORDER_DEADLINE))
}

/// The JSON of the daemon's answer, where `question` is the URL's query; a refusal is an error in the daemon's words.
pub(super) fn ask<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    question: &impl Serialize,
) -> anyhow::Result<T> {
    let question = Request::Question(serde_json::to_value(question)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fetch(socket, path, question, DEADLINE))
}

/// The JSON that the daemon behind `socket` answers to `order`, posted to `path`; a refusal is an error in
/// the daemon's words.
pub(super) fn post<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    order: &impl Serialize,
) -> anyhow::Result<T> {
    let body = serde_json::to_string(order)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fetch(socket, path, Request::Order(body), ORDER_DEADLINE))
}

/// What is sent.
enum Request {
    Get,
    Question(serde_json::Value),
    Order(String),
}

async fn fetch<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    request: Request,
    deadline: Duration,
) -> anyhow::Result<T> {
    let client = http_client::builder().timeout(deadline).unix_socket(socket).build()?;
    let shown = socket.display();
    let url = format!("http://rs-overlay{path}");
    // Nothing that is merely read can be refused.
    let refusable = !matches!(request, Request::Get);
    let request = match request {
        Request::Get => client.get(url),
        Request::Question(question) => client.get(url).query(&question),
        Request::Order(body) => client.post(url).body(body),
    };
    let response = request.send().await.map_err(|err| {
        if err.is_timeout() {
            return anyhow!(
                "the daemon behind {shown} does not answer within {} s; see its log",
                deadline.as_secs()
            );
        }
        let remedy = match io_kind(&err) {
            Some(std::io::ErrorKind::PermissionDenied) => "run this command as root",
            _ => "start it with `rs-overlay daemon`, or give its socket with --socket",
        };
        anyhow!("no daemon answers on {shown} ({}); {remedy}", http_client::root_cause(&err))
    })?;
    let status = response.status();
    if refusable && matches!(status.as_u16(), 400 | 409 | 500) {
        let refusal: serde_json::Value = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        bail!("{}", refusal["Err"].as_str().unwrap_or("the daemon refuses without a reason; see its log"));
    }
    if !status.is_success() {
        bail!(
            "the program behind {shown} answers {status} to {path}; it is not rs-overlay or another release \
             of it: compare `rs-overlay version`"
        );
    }
    let body =
        response.bytes().await.with_context(|| format!("the daemon behind {shown} broke off its answer"))?;
    serde_json::from_slice(&body).with_context(|| {
        format!("the daemon behind {shown} answers something else than this release expects; update both")
    })
}

fn io_kind(err: &(dyn Error + 'static)) -> Option<std::io::ErrorKind> {
    http_client::causes(err).find_map(|err| err.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}
