//! A process by number and start time, so that a number given out again is never taken for it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Number in the namespace the harness runs in.
    pub(crate) pid: i32,
    /// Clock ticks between boot and the process's start, field 22 of `/proc/PID/stat`.
    started: u64,
}

impl Process {
    /// The process that has this number now, zombies left out.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.dead).then_some(Self { pid, started: stat.started })
    }

    /// The calling process.
    pub(crate) fn current() -> Result<Self> {
        let pid = i32::try_from(std::process::id())?;
        Self::find(pid).context("cannot find this process in /proc")
    }

    /// A process of which this one is the parent.
    pub(crate) fn child(self) -> Option<Self> {
        fs::read_dir("/proc").ok()?.find_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = Stat::read(pid)?;
            (stat.parent == self.pid && !stat.dead).then_some(Self { pid, started: stat.started })
        })
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Whether a signal has stopped it.
    pub(crate) fn stopped(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.stopped && stat.started == self.started)
    }

    /// Send a signal; one that is gone is left alone.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {}", self.pid)),
        }
    }

    /// Wait until it is gone, doing `meanwhile` every few milliseconds.
    pub(crate) fn wait_gone(self, limit: Duration, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        while self.alive() {
            ensure!(started.elapsed() < limit, "process {} still runs after {limit:?}", self.pid);
            meanwhile()?;
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

struct Stat {
    dead: bool,
    stopped: bool,
    parent: i32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, parentheses included: fields are counted from its end.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Some(Self {
            dead: matches!(*fields.first()?, "Z" | "X"),
            stopped: *fields.first()? == "T",
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_is_found_and_seen_to_end() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.alive() && Process::current().unwrap().child().is_some());
        process.signal(Signal::SIGSTOP).unwrap();
        crate::wait_until("the stop", Duration::from_mins(1), || process.stopped()).unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        process.wait_gone(Duration::from_mins(1), || Ok(())).unwrap();
        child.wait().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
    }

    #[test]
    fn the_same_number_with_another_start_is_another_process() {
        let current = Process::current().unwrap();
        assert!(!Process { started: current.started + 1, ..current }.alive());
    }
}
