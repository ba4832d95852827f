//! What all tests of labs need.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use netns_harness::{Host, Lab};

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// Namespaces that a host has to itself.
const KINDS: [&str; 4] = ["net", "mnt", "pid", "uts"];

/// Whether labs can run here. Without root the test fails, unless it may be skipped.
pub(crate) fn can_run() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|this| std::os::unix::fs::MetadataExt::uid(&this) == 0);
    assert!(
        root || env::var_os("ALLOW_SKIP").is_some_and(|value| value == "1"),
        "this test needs root; set ALLOW_SKIP=1 to skip it"
    );
    root
}

/// A lab's name that no other run of the same test has at the same time.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
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
    /// When this was recorded, in ticks since boot. The kernel gives the numbers of namespaces out again, so a younger
    /// process in one of the same number may be another lab's.
    ticks: u64,
}

impl Traces {
    /// Remember the namespaces of a lab's hosts that are on: to be called right before the lab ends.
    pub(crate) fn of(lab: &Lab) -> Self {
        let mut namespaces = Vec::new();
        for host in lab.hosts().iter().filter(|host| host.is_on()) {
            for kind in KINDS {
                namespaces.push(host.exec(&["readlink", &format!("/proc/self/ns/{kind}")]).unwrap());
            }
        }
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        // Hundredths of a second, which is what the kernel's ticks are for all programs.
        let ticks = uptime.split_whitespace().next().unwrap().replace('.', "").parse().unwrap();
        Self { name: lab.name().to_owned(), directory: lab.dir(), namespaces, ticks }
    }

    /// One line per process, mount, directory and cgroup that is still there.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let path = process.path();
            let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
            let Some((_, fields)) = stat.rsplit_once(')') else { continue };
            let Some(Ok(started)) = fields.split_whitespace().nth(19).map(str::parse::<u64>) else {
                continue;
            };
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let inside = KINDS.iter().any(|kind| {
                let found = fs::read_link(path.join("ns").join(kind)).unwrap_or_default();
                self.namespaces.contains(&found.to_string_lossy().into_owned())
            });
            let directory = self.directory.to_string_lossy();
            let named = command.contains(&format!("of {} ", self.name)) || command.contains(&*directory);
            if named || (inside && started <= self.ticks) {
                left.push(format!("process {}: {command}", path.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts.lines().filter(|line| line.contains(&self.name)).map(|line| format!("mount {line}")),
        );
        // Exactly the name, or the name and a directory.
        let cgroup = format!("netns-harness-{}", self.name);
        let is_cgroup = |name: &str| name == cgroup || name.starts_with(&format!("{cgroup}@"));
        let mut directories = vec![self.directory.clone()];
        let root = PathBuf::from("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(&root).unwrap().flatten().map(|entry| entry.path());
        for tree in hierarchies.filter(|path| path.is_dir()).chain([root]) {
            let entries = fs::read_dir(&tree).into_iter().flatten().flatten();
            let ours = entries.filter(|entry| is_cgroup(&entry.file_name().to_string_lossy()));
            directories.extend(ours.map(|entry| entry.path()));
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
