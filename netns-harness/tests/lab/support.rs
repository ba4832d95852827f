//! What all tests of labs need.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use netns_harness::{Host, Lab};

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// Whether labs can run here. Without root the test fails, unless it may be skipped.
pub(crate) fn can_run() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|this| std::os::unix::fs::MetadataExt::uid(&this) == 0);
    assert!(
        root || env::var_os("ALLOW_SKIP").is_some_and(|value| value == "1"),
        "this test needs root; set ALLOW_SKIP=1 to skip it"
    );
    root
}

/// Whether one packet of `host` to `to` is answered.
pub(crate) fn reaches(host: &Host, to: &Host) -> bool {
    host.exec(&["ping", "-c1", "-W1", &to.vtep().to_string()]).is_ok()
}

/// Where to look for traces of a lab after its end.
pub(crate) struct Traces {
    name: String,
    directory: PathBuf,
    namespaces: Vec<String>,
}

impl Traces {
    /// Remember the namespaces of a lab's hosts.
    pub(crate) fn of(lab: &Lab) -> Self {
        let mut namespaces = Vec::new();
        for host in lab.hosts() {
            for kind in ["net", "mnt", "pid", "uts"] {
                namespaces.push(host.exec(&["readlink", &format!("/proc/self/ns/{kind}")]).unwrap());
            }
        }
        Self { name: lab.name().to_owned(), directory: lab.dir(), namespaces }
    }

    /// One line per process, mount, directory and cgroup that is still there.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let path = process.path();
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let inside = ["net", "mnt", "pid", "uts"].iter().any(|kind| {
                let found = fs::read_link(path.join("ns").join(kind)).unwrap_or_default();
                self.namespaces.contains(&found.to_string_lossy().into_owned())
            });
            let numbered = process.file_name().to_string_lossy().parse::<i32>().is_ok();
            if numbered && (inside || command.contains(&format!("of {} ", self.name))) {
                left.push(format!("process {}: {command}", path.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts.lines().filter(|line| line.contains(&self.name)).map(|line| format!("mount {line}")),
        );
        let cgroup = format!("netns-harness-{}", self.name);
        let mut directories = vec![self.directory.clone(), PathBuf::from("/sys/fs/cgroup").join(&cgroup)];
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            directories.push(hierarchy.path().join(&cgroup));
        }
        left.extend(
            directories
                .iter()
                .filter(|path| path.exists())
                .map(|path| format!("directory {}", path.display())),
        );
        left
    }

    /// Fail if anything is left.
    pub(crate) fn assert_none(&self) {
        assert_eq!(self.left(), Vec::<String>::new(), "lab {} left traces", self.name);
    }
}
