//! A daemon in a lab, seen from outside.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_harness::Host;
use rs_overlay::dataplane::namespace::Namespace;

use crate::convergence::etcd::runtime;

/// CPU share below which a daemon counts as done, over [`LOOK`].
const QUIET: f64 = 0.03;
const LOOK: Duration = Duration::from_millis(1000);
/// Looks in a row that have to be quiet.
const LOOKS: usize = 2;
/// How long it may be busy with what it was given.
const PATIENCE: Duration = Duration::from_mins(4);

pub(crate) struct Process(PathBuf);

impl Process {
    /// The daemon of a host.
    pub(crate) fn of(host: &Host) -> Result<Self> {
        let pid = host.exec(&["pidof", "rs-overlay"])?;
        ensure!(!pid.contains(' '), "several daemons run on {}", host.name());
        Ok(Self(host.path(&format!("/proc/{pid}"))?))
    }

    /// Memory that it holds, in bytes: the resident set.
    pub(crate) fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(self.0.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>()?)
    }

    /// CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_in(&std::fs::read_to_string(self.0.join("stat"))?)
    }

    /// Share of a core that it uses while `work` runs, and what that answers.
    pub(crate) fn share<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
        let (before, began) = (self.cpu()?, Instant::now());
        let done = work()?;
        Ok(((self.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64(), done))
    }

    /// Waits until it has nothing to do any more.
    pub(crate) fn settle(&self) -> Result<()> {
        let (mut quiet, end) = (0, Instant::now() + PATIENCE);
        while quiet < LOOKS {
            ensure!(Instant::now() < end, "the daemon does not come to rest");
            let (share, ()) = self.share(|| {
                thread::sleep(LOOK);
                Ok(())
            })?;
            quiet = if share < QUIET { quiet + 1 } else { 0 };
        }
        Ok(())
    }
}

/// The time in a `stat` file, of which the kernel counts hundredths of a second.
pub(crate) fn cpu_in(stat: &str) -> Result<Duration> {
    // Behind the name in brackets, which may hold anything: state is the first, utime and stime the 12th and 13th.
    let rest = stat.rsplit_once(") ").context("an odd stat file")?.1;
    let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// Runs `work` where the host's own programs run, as far as the network is concerned.
pub(crate) fn on_network<T: Send>(host: &Host, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    Namespace::open(&host.path("/proc/1/ns/net")?)?.run(|| runtime()?.block_on(work()))?
}

/// Neighbours of ours in the host's kernel.
pub(crate) fn neighbours(host: &Host) -> Result<usize> {
    let inside = "--net=/var/run/docker/rs-overlay/netns/overlay";
    let count = "ip neigh show nud permanent | wc -l";
    Ok(host.exec(&["nsenter", inside, "sh", "-c", count])?.parse()?)
}
