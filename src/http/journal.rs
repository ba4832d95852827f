//! Calls under way, written down so that a daemon that was killed in their middle can be asked again.
//!
//! An engine whose connection breaks during a call repeats it for half a minute, but without the body, which
//! it has already sent (`callWithRetry` of Docker's plugin client reads it from one reader for all tries).
//! What the call was about is then known here alone.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

/// How long an engine may still repeat a call; Docker gives up after 30 s.
const REPEATED: Duration = Duration::from_mins(1);
/// Most calls that are taken over from a life before; an engine has few under way at once.
const MOST: usize = 256;
/// Longest name of a call that is written down; no engine has such.
const LONGEST: usize = 64;
/// Calls that answer nothing and do the same when done again: which of several is repeated does not matter,
/// because each of them is.
const ALIKE: [&str; 8] = [
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.EndpointOperInfo",
    "IpamDriver.ReleasePool",
    "IpamDriver.ReleaseAddress",
];

/// A directory with a file per call under way. Not written through to the disk: a power cut ends the engine
/// and its calls as well.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    next: AtomicU64,
    /// Files of the life before, by method.
    broken: Mutex<BTreeMap<String, Vec<PathBuf>>>,
}

/// A call under way; it is forgotten when this is dropped, and not when the daemon is killed.
#[derive(Debug)]
pub(super) struct UnderWay(PathBuf);

impl Drop for UnderWay {
    fn drop(&mut self) {
        forget(&self.0);
    }
}

impl Journal {
    /// Opens the journal in this directory, which is made if it is not there, and takes over the calls that
    /// a killed daemon has left there shortly before.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut broken: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let (mut next, mut count) = (0, 0);
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let parts =
                file.split_once('-').and_then(|(number, method)| Some((number.parse().ok()?, method)));
            let Some((number, method)): Option<(u64, &str)> = parts else { continue };
            next = next.max(number.saturating_add(1));
            let young = entry.metadata()?.modified().is_ok_and(|at| age(at) < REPEATED);
            if young && count < MOST {
                count += 1;
                broken.entry(method.to_owned()).or_default().push(entry.path());
            } else {
                forget(&entry.path());
            }
        }
        Ok(Self { directory: directory.to_owned(), next: AtomicU64::new(next), broken: Mutex::new(broken) })
    }

    /// Writes a call down. Where that fails the call goes on: it only cannot be repeated.
    pub(super) fn begin(&self, method: &str, body: &[u8]) -> Option<UnderWay> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
        if body.is_empty() || method.len() > LONGEST || !method.chars().all(plain) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}-{method}"));
        match fs::write(&path, body) {
            Ok(()) => Some(UnderWay(path)),
            Err(error) => {
                warn!(path = %path.display(), %error, "a call is not written down, and cannot be repeated");
                forget(&path);
                None
            }
        }
    }

    /// The body of a call that came without one; `None` where it is not known, or could be another one's.
    pub(super) fn repeated(&self, method: &str) -> Option<Vec<u8>> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let files = broken.get_mut(method)?;
        files.retain(|file| {
            fs::metadata(file).and_then(|file| file.modified()).is_ok_and(|at| age(at) < REPEATED)
        });
        if files.len() > 1 && !ALIKE.contains(&method) {
            return None;
        }
        let file = files.pop()?;
        let body = fs::read(&file);
        forget(&file);
        let body = body.ok().filter(|body| !body.is_empty())?;
        info!(method, "a call that was broken off is carried out again");
        Some(body)
    }
}

/// How long ago that was; a clock that was set back makes everything young.
fn age(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or_default()
}

fn forget(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "a call that has ended stays written down");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = "NetworkDriver.CreateEndpoint";
    const DELETE: &str = "NetworkDriver.DeleteEndpoint";

    /// What a daemon that is killed leaves: nobody drops what was under way.
    fn killed_in(directory: &Path, calls: &[(&str, &str)]) {
        let journal = Journal::open(directory).unwrap();
        for (method, body) in calls {
            std::mem::forget(journal.begin(method, body.as_bytes()));
        }
    }

    #[test]
    fn a_broken_call_is_known_to_the_next_life_once() {
        let directory = tempfile::tempdir().unwrap();
        killed_in(directory.path(), &[(CREATE, "one")]);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.repeated(DELETE), None);
        assert_eq!(journal.repeated(CREATE).unwrap(), b"one");
        assert_eq!(journal.repeated(CREATE), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_call_that_was_answered_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        drop(journal.begin(CREATE, b"one").unwrap());
        assert!(journal.begin(CREATE, b"").is_none());
        assert!(journal.begin("../../etc/passwd", b"two").is_none());
        assert_eq!(Journal::open(directory.path()).unwrap().repeated(CREATE), None);
    }

    #[test]
    fn of_several_only_those_that_are_alike_are_repeated() {
        let directory = tempfile::tempdir().unwrap();
        killed_in(directory.path(), &[(CREATE, "one"), (CREATE, "two"), (DELETE, "one"), (DELETE, "two")]);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.repeated(CREATE), None);
        let mut both = [journal.repeated(DELETE).unwrap(), journal.repeated(DELETE).unwrap()];
        both.sort();
        assert_eq!(both, [b"one", b"two"]);
    }

    #[test]
    fn what_no_engine_repeats_any_more_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        killed_in(directory.path(), &[(CREATE, "one")]);
        let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - REPEATED * 2).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().repeated(CREATE), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_lives_do_not_write_over_each_other() {
        let directory = tempfile::tempdir().unwrap();
        killed_in(directory.path(), &[(CREATE, "one")]);
        killed_in(directory.path(), &[(DELETE, "two")]);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.repeated(CREATE).unwrap(), b"one");
        assert_eq!(journal.repeated(DELETE).unwrap(), b"two");
    }
}
