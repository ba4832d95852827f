//! Small files: state as JSON, ends of logs, removal that tolerates absence.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Write a value so that a reader sees the old text or the new, never half.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let unfinished = path.with_extension("new");
    let text = serde_json::to_vec_pretty(value)?;
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| at("write", path))
}

/// Read a value back.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| at("read", path))?;
    serde_json::from_slice(&text).with_context(|| at("understand", path))
}

/// The last lines of a text file, or why there are none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.trim_end().lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", at("read", path)),
    }
}

/// Remove a file that may be absent.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| at("remove", path)),
        _ => Ok(()),
    }
}

fn at(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value.json");
        write_json(&path, &vec![1, 2, 3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), [1, 2, 3]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read_json::<Vec<u8>>(&path).unwrap_err().to_string().contains("value.json"));
    }

    #[test]
    fn a_tail_is_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&path, 2), "b\nc");
        assert_eq!(tail(&path, 9), "a\nb\nc");
    }
}
