//! Who this host is, and that only one daemon speaks for it.

use std::{fs, path::Path};

use nix::fcntl::{Flock, FlockArg};

use super::{LocalError, files};
use crate::model::NodeId;

/// The kernel's boot id; empty where the kernel tells none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Takes the directory's lock, which the kernel drops with the process.
pub(super) fn lock(dir: &Path) -> Result<Flock<fs::File>, LocalError> {
    let path = dir.join("lock");
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| LocalError::File { what: "open", path: path.clone(), cause: source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| LocalError::Busy(dir.to_owned()))
}

/// The node id of this directory, drawn from `random` at the first start.
pub(super) fn node_id(dir: &Path, random: u64) -> Result<NodeId, LocalError> {
    let path = dir.join("node.json");
    if let Some(id) = files::read(&path)? {
        return Ok(id);
    }
    let id = NodeId::new(format!("{random:016x}")).map_err(|e| LocalError::File {
        what: "name",
        path: path.clone(),
        cause: std::io::Error::other(e),
    })?;
    files::write(&path, &id, true)?;
    Ok(id)
}
