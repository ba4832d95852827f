//! What no real engine does on demand: be replaced between two calls, or fall silent.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;
use crate::engine::EngineEvent;

const SHORT: Deadlines = Deadlines { call: Duration::from_millis(200), driver: Duration::from_millis(200) };

/// An engine of API `newest` that refuses what is newer, as engines do, and has no networks.
async fn serve(listener: UnixListener, newest: ApiVersion, requests: usize) {
    for _ in 0..requests {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let asked: Option<ApiVersion> =
            path.strip_prefix("/v").and_then(|path| path.split('/').next()?.parse().ok());
        let (status, body) = match asked {
            Some(asked) if asked > newest => {
                ("400 Bad Request", format!("client version {asked} is too new. Maximum is {newest}\n"))
            }
            _ if path == "/version" => ("200 OK", format!(r#"{{"Version":"x","ApiVersion":"{newest}"}}"#)),
            _ => ("200 OK", "[]".to_owned()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn an_engine_replaced_between_two_calls() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let minute = Duration::from_mins(1);
    let engine = DockerEngine::new(&socket, Deadlines { call: minute, driver: minute });
    let new = serve(UnixListener::bind(&socket).unwrap(), "1.51".parse().unwrap(), 2);
    let (answer, ()) = tokio::join!(engine.containers(), new);
    assert_eq!(answer, Ok(Vec::new()));
    std::fs::remove_file(&socket).unwrap();
    // Refused, asked for the version, answered.
    let old = serve(UnixListener::bind(&socket).unwrap(), "1.41".parse().unwrap(), 3);
    let (answer, ()) = tokio::join!(engine.containers(), old);
    assert_eq!(answer, Ok(Vec::new()));
    assert_eq!(engine.connection.session().await.unwrap().api, "1.41".parse().unwrap());
}

#[tokio::test]
async fn a_silent_engine_costs_no_more_than_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let engine = DockerEngine::new(&socket, SHORT);
    let spec = NetworkSpec { name: "blue".into(), ..NetworkSpec::default() };
    let error = engine.create_network(&spec).await.unwrap_err();
    assert_eq!(error, EngineError::Timeout { what: "creating Docker network blue".into() });
    assert!(matches!(engine.container("web").await, Err(EngineError::Timeout { .. })));
    assert!(matches!(engine.networks("bridge").await, Err(EngineError::Timeout { .. })));
    assert!(matches!(engine.events().next().await, Some(EngineEvent::Lost(_))));
}

#[test]
fn a_tag_is_no_other_driver() {
    assert!(is_driver("rs-overlay", Some("rs-overlay")));
    assert!(is_driver("rs-overlay", Some("rs-overlay:latest")));
    for other in [None, Some(""), Some("rs-overlay2"), Some("overlay"), Some("x/rs-overlay")] {
        assert!(!is_driver("rs-overlay", other), "{other:?}");
    }
}

#[test]
fn names_stay_inside_their_segment() {
    assert_eq!(path_segment("web_1.net-a").as_deref(), Some("web_1.net-a"));
    assert_eq!(path_segment("a/b?c#d e").as_deref(), Some("a%2Fb%3Fc%23d%20e"));
    for odd in ["", ".", "..", "a/../b", "a//b", "/a", "a/"] {
        assert_eq!(path_segment(odd), None);
    }
}
