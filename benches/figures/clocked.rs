//! A command of a host, with the time that it took.

#![allow(dead_code, reason = "not everybody who measures needs all of it")]

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use netns_harness::{Host, interrupt};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Longest wait for one command.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a command is looked at.
const LOOK: Duration = Duration::from_micros(250);

/// Runs the host's `docker`; answers how long that took.
pub(crate) fn docker(host: &Host, args: &[&str]) -> Result<Duration> {
    clocked(host.command(&[&["docker"], args].concat()))
        .with_context(|| format!("docker {} on {}", args.join(" "), host.name()))
}

/// Runs a command to its end, which must be a good one.
fn clocked(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let mut said = child.stderr.take().context("no standard error")?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        said.read_to_string(&mut text).map(|_| text)
    });
    let (status, took) = loop {
        if let Some(status) = child.try_wait()? {
            break (status, begun.elapsed());
        }
        if begun.elapsed() > PATIENCE || interrupt::interrupted() {
            let _ = killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL);
            child.wait()?;
            ensure!(!interrupt::interrupted(), "interrupted");
            bail!("still running after {PATIENCE:?}");
        }
        thread::sleep(LOOK);
    };
    let said = reader.join().map_err(|_| anyhow!("the thread that reads died"))??;
    ensure!(status.success(), "{status}: {}", said.trim());
    Ok(took)
}
