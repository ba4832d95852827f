//! One JSON file per object, replaced by a rename so that a reader never meets half of one.

use std::{fs, io, path::Path, time::Instant};

use serde::{Serialize, de::DeserializeOwned};
use tracing::{debug, warn};

use super::{LocalError, witness};
use crate::clock::micros;

/// Bytes that are written at a time.
const BUFFER: usize = 1 << 16;

fn failed(what: &'static str, path: &Path, source: io::Error) -> LocalError {
    LocalError::File { what, path: path.to_owned(), cause: source }
}

/// Makes a directory and those above it.
pub(super) fn create_dir(path: &Path) -> Result<(), LocalError> {
    fs::create_dir_all(path).map_err(|e| failed("create", path, e))
}

/// Writes `value`. `durable` waits for the disk: needed for what must outlive a power cut, not for what
/// dies with the containers anyway.
pub(super) fn write(path: &Path, value: &impl Serialize, durable: bool) -> Result<(), LocalError> {
    let begun = Instant::now();
    let temporary = path.with_extension("tmp");
    let save = || {
        // What is not durable is large, and for nobody to read: no copy of it in memory, and no spaces.
        let mut file = io::BufWriter::with_capacity(BUFFER, fs::File::create(&temporary)?);
        if durable {
            serde_json::to_writer_pretty(&mut file, value)?;
        } else {
            serde_json::to_writer(&mut file, value)?;
        }
        let file = file.into_inner()?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable && let Some(dir) = path.parent() {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    witness::seen(path, save).map_err(|e| failed("write", path, e))?;
    debug!(path = %path.display(), durable, took_us = micros(begun.elapsed()), "written");
    Ok(())
}

/// Reads one file; `None` if it is not there or is damaged, which a power cut can do to those that are
/// not written durably.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LocalError> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse(path, &bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Reads all `.json` files of a directory.
pub(super) fn read_all<T: DeserializeOwned>(dir: &Path) -> Result<Vec<T>, LocalError> {
    let mut values = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed("list", dir, e))? {
        let path = entry.map_err(|e| failed("list", dir, e))?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            values.extend(read(&path)?);
        }
    }
    Ok(values)
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), LocalError> {
    let remove = || match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    witness::seen(path, remove).map_err(|e| failed("remove", path, e))
}

/// Waits until the disk knows what has been removed from a directory.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LocalError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("write", dir, e))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            warn!(path = %path.display(), %error, "passing over a damaged state file");
            None
        }
    }
}
