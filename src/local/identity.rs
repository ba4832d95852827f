//! Who this host is, and that only one daemon speaks for it.

use std::{fs, path::Path};

use super::{LocalError, files};
use crate::{
    lockfile::{LockError, Lockfile, in_brackets},
    model::NodeId,
};

/// The kernel's boot id; empty where the kernel tells none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Takes the directory's lock, which the kernel drops with the process.
pub(super) fn lock(dir: &Path) -> Result<Lockfile, LocalError> {
    let path = dir.join("lock");
    Lockfile::take(&path).map_err(|error| match error {
        LockError::Held(holder) => LocalError::Busy { dir: dir.to_owned(), holder: in_brackets(&holder) },
        LockError::Io(cause) => LocalError::File { what: "open", path, cause },
    })
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
