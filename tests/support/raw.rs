//! An engine's side of the socket, byte by byte.

use std::path::Path;

use rs_overlay::http::bind;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    task::JoinHandle,
};

use super::host::{Answer, Host, PATIENCE};

/// The routes of `host` behind a socket at `path`, until the handle is aborted.
pub(crate) fn serve(host: &Host, path: &Path) -> JoinHandle<()> {
    let listener = bind(path).unwrap();
    let router = host.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

/// One connection.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects.
    pub(crate) async fn open(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    /// Writes a call as Docker's plugin client does: an empty host, no content type, and a length.
    pub(crate) async fn write(&mut self, path: &str, body: &[u8]) {
        self.write_as("POST", path, body).await;
    }

    /// The same with another HTTP method.
    pub(crate) async fn write_as(&mut self, verb: &str, path: &str, body: &[u8]) {
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n\r\n",
            body.len()
        );
        let socket = self.0.get_mut();
        socket.write_all(head.as_bytes()).await.unwrap();
        // One that is too long may be refused before it has been read to its end.
        let _ = socket.write_all(body).await;
    }

    /// Reads one answer, which must be JSON of the length it says.
    pub(crate) async fn read(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.read_all()).await.expect("an answer")
    }

    async fn read_all(&mut self) -> Answer {
        let mut status = String::new();
        self.0.read_line(&mut status).await.unwrap();
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?}")).parse().unwrap();
        let (mut length, mut json) = (0, false);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("content-type", value)) => json = value.ends_with("json"),
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        assert!(json, "an answer without JSON's content type");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body.is_object(), "{body}");
        Answer { status, body }
    }

    /// A call and its answer.
    pub(crate) async fn call(&mut self, path: &str, body: &[u8]) -> Answer {
        self.write(path, body).await;
        self.read().await
    }
}
