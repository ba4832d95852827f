//! A file that one process at a time holds, and in which the holder says who it is. The kernel drops the
//! lock with the process, however that ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

/// Longest text that a holder may have left about itself.
const LONGEST: usize = 1024;

/// A lock that is held.
#[derive(Debug)]
pub struct Lockfile(Flock<File>);

/// Why a lock cannot be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; what that says of itself, or nothing.
    Held(String),
    /// The file cannot be opened.
    Io(io::Error),
}

impl Lockfile {
    /// Takes the lock at `path`, without waiting, and notes this process's id there.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = file.map_err(LockError::Io)?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Err(LockError::Held(holder(path)));
        };
        let lock = Self(lock);
        lock.sign("");
        Ok(lock)
    }

    /// Says more of the holder than its id. That it cannot be written makes a message poorer, no more.
    pub fn sign(&self, more: &str) {
        let text = format!("process {}{}{more}", std::process::id(), if more.is_empty() { "" } else { ", " });
        let written = self.0.set_len(0).and_then(|()| {
            io::Seek::rewind(&mut &*self.0)?;
            (&*self.0).write_all(text.as_bytes())
        });
        if let Err(error) = written {
            tracing::debug!(%error, "a lock file does not say who holds it");
        }
    }
}

/// What the holder of the lock at `path` says of itself.
fn holder(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(&text)).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// `holder` in brackets, for the end of a sentence's part; nothing where nothing is known.
pub fn in_brackets(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "left by one of long ago, with a long text about itself").unwrap();
        let first = Lockfile::take(&path).unwrap();
        let told = || match Lockfile::take(&path) {
            Err(LockError::Held(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(), format!("process {}", std::process::id()));
        first.sign("socket /run/a.sock");
        assert_eq!(told(), format!("process {}, socket /run/a.sock", std::process::id()));
        drop(first);
        Lockfile::take(&path).unwrap();
    }
}
