//! The least HTTP that asks a server whether it is ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Process;

const LIMIT: Duration = Duration::from_secs(5);

/// Body of `GET path` over a Unix socket; any status but 200 is an error.
pub(crate) fn get_unix(socket: &Path, path: &str) -> Result<String> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    get(stream, path)
}

/// Body of `GET path` over TCP, from inside the network namespace of a process.
pub(crate) fn get_tcp(within: Process, server: SocketAddr, path: &str) -> Result<String> {
    get(connect(within, server)?, path)
}

/// Whether a TCP server takes connections from inside the network namespace of a process.
pub(crate) fn connects(within: Process, server: SocketAddr) -> Result<()> {
    connect(within, server).map(drop)
}

fn connect(within: Process, server: SocketAddr) -> Result<TcpStream> {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", within.pid))?;
    // A thread of its own, which ends with the call: no other work can land in the foreign namespace. The socket
    // stays in the namespace it was made in.
    let connected = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let stream = TcpStream::connect_timeout(&server, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    });
    connected.join().map_err(|_| anyhow::anyhow!("the thread that asked {server} died"))?
}

fn get(mut stream: impl Read + Write, path: &str) -> Result<String> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the server gave no whole answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split_whitespace().nth(1) == Some("200"), "GET {path} gave {status:?}: {body}");
    Ok(body.to_owned())
}
