//! Files, directories and sockets.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    sys::statfs::{TMPFS_MAGIC, statfs},
    unistd::{AccessFlags, access},
};

use super::Finding;
use crate::{config::StoreOptions, http};

/// What a process of this program is called.
const OWN_NAME: &str = "rs-overlay";

/// The plugin's socket, and whether a daemon already serves it.
pub(super) fn socket(path: &Path) -> (Finding, bool) {
    const SUBJECT: &str = "socket";
    let shown = path.display();
    if let Some(listener) = http::listener(path) {
        return if listener.contains(&format!("program {OWN_NAME} ")) {
            (Finding::ok(SUBJECT, format!("{listener} serves {shown} already")), true)
        } else {
            let told =
                format!("{listener} is listening on {shown}; stop it first, or choose another --socket");
            (Finding::problem(SUBJECT, told), false)
        };
    }
    let finding = match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Finding::problem(
            SUBJECT,
            format!("{shown} is there and is not a socket; choose another --socket, or remove it"),
        ),
        _ => match writable(path.parent().unwrap_or(path)) {
            Ok(_) => Finding::ok(SUBJECT, format!("{shown} is free")),
            Err(problem) => Finding::problem(SUBJECT, problem),
        },
    };
    (finding, false)
}

/// The directory for what must survive a restart.
pub(super) fn state_dir(path: &Path) -> Finding {
    const SUBJECT: &str = "state-dir";
    let there = match writable(path) {
        Ok(there) => there,
        Err(problem) => return Finding::problem(SUBJECT, problem),
    };
    let shown = path.display();
    if statfs(&there).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC) {
        let told = format!("{shown} is in memory and lost when the machine restarts; choose one on a disk");
        return Finding::warning(SUBJECT, told);
    }
    let state = if there == path { "can be written" } else { "will be made" };
    Finding::ok(SUBJECT, format!("{shown} {state}"))
}

/// Whether the directory `path` can be written, or made; the part of it that is there. The error is a
/// sentence.
pub(super) fn writable(path: &Path) -> Result<PathBuf, String> {
    let mut there = path;
    let found = loop {
        match fs::metadata(there) {
            Ok(found) => break found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match there.parent() {
                Some(parent) => there = parent,
                None => return Err(format!("{}: {error}", path.display())),
            },
            Err(error) => return Err(format!("{}: {error}; choose another place", there.display())),
        }
    };
    if !found.is_dir() {
        return Err(format!("{} is not a directory; remove it, or choose another place", there.display()));
    }
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(there.to_owned()),
        Err(error) => Err(format!(
            "{} cannot be written: {}; run as root, or choose another place",
            there.display(),
            error.desc()
        )),
    }
}

/// The files that hold secrets: those that others than their owner can read.
pub(super) fn secrets(options: &StoreOptions) -> Vec<Finding> {
    const SUBJECT: &str = "cluster-store-opt";
    let files = [
        ("kv.keyfile", &options.key_file),
        ("kv.passwordfile", &options.password_file),
        ("kv.tokenfile", &options.token_file),
    ];
    let mut findings = Vec::new();
    for (option, path) in files {
        let Some((path, found)) = path.as_ref().and_then(|path| Some((path, fs::metadata(path).ok()?)))
        else {
            continue;
        };
        let shown = path.display();
        if found.mode() & 0o004 != 0 {
            let told =
                format!("everybody on this machine can read {shown}, the file of {option}; chmod 600 it");
            findings.push(Finding::warning(SUBJECT, told));
        }
        if found.uid() != 0 && found.mode() & 0o004 == 0 {
            let told = format!(
                "{shown}, the file of {option}, belongs to user {} and not to root; the packaged service has no right to read it: chown it",
                found.uid()
            );
            findings.push(Finding::warning(SUBJECT, told));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;
    use crate::daemon::check::Verdict;

    #[test]
    fn a_place_is_judged_by_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(writable(&dir.path().join("a/b")).unwrap(), dir.path());
        assert!(writable(&file).unwrap_err().contains("is not a directory"));
        assert!(writable(&file.join("x")).unwrap_err().contains("choose another place"));
        assert!(state_dir(&dir.path().join("new")).told.ends_with("will be made"));
    }

    #[test]
    fn a_socket_that_somebody_serves_is_told_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        assert_eq!(socket(&path).0.verdict, Verdict::Ok);
        let listener = UnixListener::bind(&path).unwrap();
        let (finding, running) = socket(&path);
        assert_eq!((finding.verdict, running), (Verdict::Problem, false), "{finding:?}");
        assert!(finding.told.contains(&format!("(process {})", std::process::id())), "{finding:?}");
        drop(listener);
        // What a dead daemon left.
        assert_eq!(socket(&path).0.verdict, Verdict::Ok);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(socket(&path).0.told.contains("is not a socket"));
    }

    #[test]
    fn a_secret_that_everybody_reads_is_told_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "geheim").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let options = StoreOptions { token_file: Some(path.clone()), ..StoreOptions::default() };
        let findings = secrets(&options);
        assert!(findings.len() == 1 && findings[0].told.contains("chmod 600"), "{findings:?}");
        assert!(!findings[0].told.contains("geheim"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(secrets(&options).iter().all(|finding| finding.told.contains("belongs to user")));
    }
}
