//! Tells the service manager how far the daemon has come (`sd_notify`): engines are started when the plugin's
//! socket is served.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use tracing::warn;

/// Where the service manager listens, if there is one that asks.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Calls on `socket` are answered from now on.
pub(super) fn ready(socket: &Path) {
    tell(&format!("READY=1\nSTATUS=serving {}", socket.display()));
}

/// The end has begun.
pub(super) fn stopping() {
    tell("STOPPING=1\nSTATUS=stopping; containers keep their network");
}

fn tell(state: &str) {
    let Some(manager) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&manager.to_string_lossy(), state) {
        warn!(%error, "the service manager cannot be told how the daemon does; it may give up waiting");
    }
}

/// A name that begins with `@` is an abstract one.
fn send(manager: &str, state: &str) -> io::Result<()> {
    let address = match manager.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(manager)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the daemon.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), "READY=1").unwrap();
        assert_eq!(received(&listener), "READY=1");

        let name = format!("rs-overlay-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(&format!("@{name}"), "STOPPING=1").unwrap();
        assert_eq!(received(&listener), "STOPPING=1");
        drop(listener);
        assert!(send(&format!("@{name}"), "READY=1").is_err());
    }
}
