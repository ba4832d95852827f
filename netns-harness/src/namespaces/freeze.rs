//! Every process inside stopped at one moment, and let go on.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Namespaces;
use crate::command::Run;
use crate::process::Process;

/// Stops all but the process that ends the lab with its owner: that one is the harness's and no part of the host.
///
/// A signal to process -1 reaches all of this PID namespace and of the containers' below it, but for the init process
/// and the sender.
const FREEZE: &str = r#"kill -STOP -1; [ ! -e "$1/guard" ] || kill -CONT "$(<"$1/guard")""#;

const THAW: &str = "kill -CONT -1";

impl Namespaces {
    /// Stop every process inside (SIGSTOP), containers included.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal_all(FREEZE).with_context(|| format!("cannot freeze {}", self.title))
    }

    /// Let all go on (SIGCONT).
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal_all(THAW).with_context(|| format!("cannot thaw {}", self.title))?;
        let init = self.on()?;
        // An `nsenter` may come late to see that its child had stopped, and then stops itself after the first call.
        for _ in 0..5 {
            wake(init)?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal_all(&self, script: &str) -> Result<()> {
        let mut command = self.command("bash");
        command.args(["-c", script, "freeze"]).arg(&self.state);
        Run::from_command(command).text().map(drop)
    }
}

/// Wake every stopped `nsenter` into the namespaces of this init process.
///
/// It stops itself when its child stops. One that sleeps does not reap its child, and a PID namespace does not end
/// before all in it are reaped.
pub(crate) fn wake(init: Process) -> Result<()> {
    let target = format!("\0-t\0{}\0", init.pid);
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(process) = Process::find(pid).filter(|process| process.stopped()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.starts_with("nsenter\0") && line.contains(&target) {
            process.signal(Signal::SIGCONT)?;
        }
    }
    Ok(())
}
