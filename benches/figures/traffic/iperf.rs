//! One run of iperf3, with the CPU time of the whole machine.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use netns_harness::{Run, wait_until};
use serde::Deserialize;

use crate::{
    between::Cores,
    stage::{End, SOON},
};

/// Its server at one end. It ends with its host.
pub(super) struct Iperf {
    address: String,
    server: Child,
}

/// What one run has moved.
pub(super) struct Ran {
    /// Gbit/s of payload, where it arrives.
    pub(super) gigabits: f64,
    /// Busy milliseconds of all cores per gigabyte.
    pub(super) cpu: f64,
}

/// The part that is read of what `iperf3 --json` says.
#[derive(Deserialize)]
struct Said {
    end: Ended,
}

#[derive(Deserialize)]
struct Ended {
    sum_received: Sum,
}

#[derive(Deserialize)]
struct Sum {
    bytes: f64,
    bits_per_second: f64,
}

impl Iperf {
    /// Starts the server; a client may have to wait for it.
    pub(super) fn serve(end: &End<'_>) -> Result<Self> {
        let address = end.ip.to_string();
        let enter = format!("--net={}", end.inside);
        let mut command = end.host.command(&["nsenter", &enter, "iperf3", "-s", "-B", &address]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { address, server: command.spawn().context("cannot start iperf3")? })
    }

    /// Sends for a second with so many streams.
    pub(super) fn run(&self, from: &End<'_>, streams: usize) -> Result<Ran> {
        let enter = format!("--net={}", from.inside);
        let (own, other) = Cores::Two.numbers();
        let (cores, streams) = (format!("{own},{other}"), streams.to_string());
        let line =
            ["nsenter", &enter, "iperf3", "-c", &self.address, "-t", "1", "-P", &streams, "-A", &cores, "-J"];
        let (said, busy) = wait_until("iperf3", SOON, || -> Result<Option<(String, f64)>> {
            let before = busy()?;
            let said = Run::from_command(from.host.command(&line)).limit(Duration::from_secs(20)).text()?;
            Ok(Some((said, busy()? - before)))
        })?;
        let sum = serde_json::from_str::<Said>(&said)
            .with_context(|| format!("iperf3 said {said}"))?
            .end
            .sum_received;
        Ok(Ran { gigabits: sum.bits_per_second / 1e9, cpu: busy * 1e3 / (sum.bytes / 1e9) })
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        // Only the part of it that waits outside of the host; the server itself goes with the host.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Seconds that the cores of this machine have been busy since it started: all but idle and waiting for disks
/// (`/proc/stat`, in ticks of a hundredth).
fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let sum: f64 =
        ticks.iter().take(8).enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, n)| n).sum();
    Ok(sum / 100.0)
}
