//! What a reader has to know of the machine on which it was measured.

use std::{fs, process::Command, thread};

use serde::Serialize;

/// The machine, and the state that it was in.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    system: String,
    load_before: String,
    rust: String,
    commit: String,
}

impl Machine {
    /// Looks at this machine. What cannot be told is empty.
    pub(crate) fn of_this_run() -> Self {
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mb: field("/proc/meminfo", "MemTotal")
                .split(' ')
                .next()
                .map_or(0, |kb| kb.parse::<u64>().unwrap_or_default() / 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            system: field("/etc/os-release", "PRETTY_NAME").trim_matches('"').to_owned(),
            load_before: load(),
            rust: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// One line for each property.
    pub(crate) fn lines(&self) -> Vec<String> {
        vec![
            format!("{}, {} cores, {} MB of memory", self.cpu, self.cores, self.memory_mb),
            format!("{}, Linux {}", self.system, self.kernel),
            format!("{}, commit {}", self.rust, self.commit),
            format!("load average when it began: {}", self.load_before),
        ]
    }
}

/// Load of the last 1, 5 and 15 minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Value of a line `key: value` or `key=value`.
fn field(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?.trim_start();
        rest.strip_prefix([':', '='])
    });
    value.unwrap_or_default().trim().to_owned()
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
