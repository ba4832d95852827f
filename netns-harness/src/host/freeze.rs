//! A host that stands still.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Host;
use crate::wait::wait_until;

impl Host {
    /// Stop every process of the host at once (SIGSTOP): daemon, engine, containers.
    ///
    /// All hosts of a lab share this machine's kernel, which goes on: it still answers pings, closes nothing, and
    /// forwards what the host has set up. A machine that stands still as a whole is [`Self::suspend`].
    pub fn freeze(&self) -> Result<()> {
        self.namespaces.freeze()?;
        for service in [&self.daemon, &self.engine] {
            let Some(process) = service.process() else { continue };
            // One in the middle of a system call stops when that returns.
            wait_until("a standstill", Duration::from_mins(1), || process.stopped() || !process.alive())
                .with_context(|| format!("{} does not freeze", self.name()))?;
        }
        Ok(())
    }

    /// Let all processes of a frozen host go on.
    pub fn thaw(&self) -> Result<()> {
        self.namespaces.thaw()
    }

    /// Freeze the host and cut it off the underlay, which is what others see of a virtual machine that was paused.
    pub fn suspend(&self) -> Result<()> {
        self.freeze()?;
        self.cut(true)
    }

    /// Undo [`Self::suspend`]: the cable first, as the network of a machine does not wait for its programs.
    pub fn resume(&self) -> Result<()> {
        self.cut(false)?;
        self.thaw()
    }
}
