//! Against sockets that answer as engines of several generations would.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::mpsc,
    task::JoinHandle,
};

use super::*;

/// Answers every request with `body` and tells the request's first line.
fn engine(socket: &Path, status: &'static str, body: String) -> (mpsc::Receiver<String>, JoinHandle<()>) {
    let listener = UnixListener::bind(socket).unwrap();
    let (sender, lines) = mpsc::channel(16);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            sender.send(text.lines().next().unwrap_or_default().to_owned()).await.unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    (lines, task)
}

fn version(newest: &str, oldest: &str) -> String {
    format!(r#"{{"Version":"x","ApiVersion":"{newest}","MinAPIVersion":"{oldest}"}}"#)
}

#[tokio::test]
async fn speaks_the_newest_that_both_know() {
    // Engines 20.10, 26.1, 28.5 and 29.0.
    for (newest, oldest, spoken) in [
        ("1.41", "1.12", "1.41"),
        ("1.45", "1.24", "1.44"),
        ("1.51", "1.24", "1.44"),
        ("1.52", "1.44", "1.44"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let (mut lines, task) = engine(&socket, "200 OK", version(newest, oldest));
        let connection = Arc::new(Connection::new(&socket));
        let session = connection.session().await.unwrap();
        assert_eq!(session.api.to_string(), spoken);
        assert_eq!(lines.recv().await.unwrap(), "GET /version HTTP/1.1");
        session.client().version().await.unwrap();
        assert_eq!(lines.recv().await.unwrap(), format!("GET /v{spoken}/version HTTP/1.1"));
        task.abort();
    }
}

#[tokio::test]
async fn an_engine_too_new_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let (_lines, task) = engine(&socket, "200 OK", version("1.60", "1.50"));
    let error = Connection::new(&socket).session().await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { detail, .. } if detail.contains("1.50")), "{error}");
    task.abort();
}

#[tokio::test]
async fn whoever_else_answers_gives_an_error() {
    for (status, body) in [("200 OK", "{}"), ("200 OK", "<html>"), ("200 OK", ""), ("500 Oops", "no")] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let (_lines, task) = engine(&socket, status, body.to_owned());
        let error = Connection::new(&socket).session().await.unwrap_err();
        assert!(
            matches!(error, EngineError::Malformed { .. } | EngineError::Refused { .. }),
            "{status} {body}: {error:?}"
        );
        task.abort();
    }
}

#[tokio::test]
async fn nobody_at_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Connection::new(&dir.path().join("docker.sock"));
    assert!(matches!(missing.session().await, Err(EngineError::Unreachable { .. })));
    let deserted = dir.path().join("old.sock");
    drop(UnixListener::bind(&deserted).unwrap());
    let error = Connection::new(&deserted).session().await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Unreachable { detail, .. } if detail.contains("refused")),
        "{error}"
    );
}

#[test]
fn versions_have_an_order_and_a_form() {
    let version = |text: &str| text.parse::<ApiVersion>();
    assert!(version("1.9").unwrap() < version("1.41").unwrap());
    for odd in ["", "1", "1.", "one.two", "1.44.1", "-1.4"] {
        assert!(version(odd).is_err(), "{odd}");
    }
    assert_eq!(without_version("/v1.44/networks"), "/networks");
    assert_eq!(without_version("/volumes/x"), "/volumes/x");
    assert_eq!(without_version("/networks"), "/networks");
}
