//! The plugin's socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::net::UnixListener;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("{program} is listening on {path}; stop it first, or choose another --socket", path = .path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
        /// Who listens there.
        program: String,
    },
    /// Something else has that name.
    #[error("{0} is there and is not a socket; choose another --socket, or remove it")]
    NotASocket(PathBuf),
    /// The file system says no.
    #[error("cannot open socket {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens on `path`, for root alone. A socket that a dead daemon left is replaced; one that is answered
/// is not.
pub fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    if let Some(program) = listener(path) {
        return Err(ListenError::Busy { path: path.to_owned(), program });
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {}
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Bound under another name first, so that nobody meets it before its mode is right.
    let unborn = path.with_extension("sock.new");
    let _ = fs::remove_file(&unborn);
    let listener = UnixListener::bind(&unborn).map_err(failed)?;
    fs::set_permissions(&unborn, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&unborn, path).map_err(failed)?;
    Ok(listener)
}

/// The program that listens on `path`, as far as the kernel tells; nothing: nobody does.
pub fn listener(path: &Path) -> Option<String> {
    let stream = UnixStream::connect(path).ok()?;
    let Ok(peer) = getsockopt(&stream, PeerCredentials) else { return Some("another program".to_owned()) };
    let pid = peer.pid();
    Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("program {} (process {pid})", name.trim()),
        Err(_) => format!("another program (process {pid})"),
    })
}
