//! Network namespaces: the only place that enters one.
//!
//! A thread that has entered a namespace is never used again: each entry has a thread of its own that
//! ends with it, so no namespace can leak into the runtime's threads.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{FsType, fstatfs},
};

use super::DataplaneError;

/// `NSFS_MAGIC` of `linux/magic.h`: what a namespace file lies on.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// An open network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
}

impl Namespace {
    /// Opens the network namespace at `path`; anything but a namespace there is an error of kind
    /// `InvalidInput`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a namespace file"));
        }
        let namespace = Self { file, path: path.to_owned() };
        match namespace.run(|| ()) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                Err(io::Error::other("a namespace, but not of the network kind"))
            }
            other => other.map(|()| namespace),
        }
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(OF_THIS_THREAD))
    }

    /// Opens the namespace that is pinned at `path`, or makes a new one and pins it there by a bind mount,
    /// so that it outlives every process. The mount is made in the caller's mount namespace: a service
    /// manager that gives the daemon a private one (`PrivateMounts=`) would take the pin away with it.
    /// A plain file left over there, after a reboot for instance, is used for the new pin.
    pub fn pinned(path: &Path, host: &Self) -> Result<Self, DataplaneError> {
        let what = || format!("network namespace {}", path.display());
        match Self::open(path) {
            Ok(found) if found.is(host).map_err(|error| refused(what(), &error))? => {
                return Err(DataplaneError::Taken {
                    what: what(),
                    holder: "the host's own namespace".into(),
                    remedy: format!("unmount {} and start again", path.display()),
                });
            }
            Ok(found) => return Ok(found),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {}
            Err(error) => return Err(refused(what(), &error)),
        }
        Self::create(path).map_err(|error| refused(what(), &error))
    }

    fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // What is not just left over is not ours to hide.
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file() || found.len() > 0) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else lies there; remove it or name another file",
            ));
        }
        File::options().create(true).append(true).open(path)?;
        let target = path.to_owned();
        on_own_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some(OF_THIS_THREAD), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            Ok::<_, io::Error>(())
        })??;
        Self::open(path)
    }

    /// Pins the namespace again where it was opened, should the pin be gone; answers whether it was. Without
    /// it the namespace would die with this process, and every link in it.
    pub fn pin_again(&self) -> io::Result<bool> {
        match Self::open(&self.path) {
            Ok(found) if self.is(&found)? => return Ok(false),
            Ok(_) => return Err(io::Error::other("another namespace is pinned in its place; unmount that")),
            Err(_) => {}
        }
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|found| !found.is_file() || found.len() > 0) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else lies there; remove it"));
        }
        File::options().create(true).append(true).open(&self.path)?;
        let here = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(Some(here.as_str()), &self.path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(true)
    }

    /// Takes the pin at `path` away. The namespace dies with its last user, and all links in it.
    pub fn unpin(path: &Path) -> io::Result<()> {
        umount2(path, MntFlags::MNT_DETACH)?;
        fs::remove_file(path)
    }

    /// Whether both are the same namespace.
    pub fn is(&self, other: &Self) -> io::Result<bool> {
        let (mine, its) = (self.file.metadata()?, other.file.metadata()?);
        Ok((mine.dev(), mine.ino()) == (its.dev(), its.ino()))
    }

    /// Whether this is the namespace that is at `path` now.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (mine, its) = (self.file.metadata()?, fs::metadata(path)?);
        Ok((mine.dev(), mine.ino()) == (its.dev(), its.ino()))
    }

    /// Runs `f` inside the namespace, on a thread of its own, and waits for it. What `f` opens stays in
    /// the namespace for ever. Takes 50 to 100 µs more than `f`.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        })?
    }

    /// Runs `f` inside a new namespace, which dies with the last that `f` has opened there.
    pub fn run_in_new<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        })?
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor, as netlink attributes take it.
    pub(super) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether a process, seen from here, lives in the network namespace at `path`. Looks at all processes.
pub fn has_processes(path: &Path) -> io::Result<bool> {
    let namespace = fs::metadata(path)?;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // One that has just ended is none.
        let Ok(its) = fs::metadata(entry.path().join("ns/net")) else { continue };
        if (its.dev(), its.ino()) == (namespace.dev(), namespace.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, f)?;
        thread.join().map_err(|_| io::Error::other("a thread inside a network namespace panicked"))
    })
}

fn refused(what: String, error: &io::Error) -> DataplaneError {
    let detail = match error.raw_os_error() {
        Some(code) if code == nix::libc::EPERM => {
            format!("{error}; the daemon needs CAP_SYS_ADMIN and CAP_NET_ADMIN")
        }
        _ => error.to_string(),
    };
    DataplaneError::Refused { what, detail }
}
