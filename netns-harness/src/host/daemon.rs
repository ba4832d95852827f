//! The program under test: `rs-overlay daemon`, run on the host like any other service.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Host;
use crate::kinds::StoreKind;
use crate::wait::wait_until;

const START_LIMIT: Duration = Duration::from_mins(1);

/// The plugin socket where engines look for the driver named after it.
const SOCKET: &str = "/run/docker/plugins/rs-overlay.sock";

impl Host {
    /// Start the daemon with the lab's arguments and wait until its plugin socket takes connections.
    pub fn daemon_start(&self) -> Result<()> {
        let args: Vec<&str> = self.shape.daemon_args.iter().map(String::as_str).collect();
        self.daemon_start_with(&args)
    }

    /// Start the daemon with these arguments in place of the lab's own. The store and the underlay's link are given
    /// to it in any case, unless these arguments name others.
    pub fn daemon_start_with(&self, args: &[&str]) -> Result<()> {
        let binary = self
            .shape
            .daemon
            .as_ref()
            .context("this lab was built without a daemon: give one to its builder")?;
        let binary = binary.to_string_lossy();
        let url = self.shape.store_url(self.number);
        let mut line = vec![&*binary, "daemon"];
        let named = |option: &str| args.iter().any(|arg| arg.split('=').next() == Some(option));
        if let Some(url) = url.as_deref().filter(|_| !named("--cluster-store")) {
            line.extend(["--cluster-store", url]);
        }
        if !named("--cluster-advertise") {
            line.extend(["--cluster-advertise", "eth1"]);
        }
        line.extend(args);
        let socket = self.namespaces.path(SOCKET)?;
        // The file of a daemon that was killed is still there: only a connection shows that this one listens.
        self.daemon.start(&self.command(&line), START_LIMIT, || {
            UnixStream::connect(&socket).with_context(|| format!("nobody listens on {SOCKET}")).map(|_| true)
        })
    }

    /// End the daemon with a signal and wait until it is gone; fine when it does not run.
    pub fn daemon_kill(&self, signal: Signal) -> Result<()> {
        self.daemon.end(signal)
    }

    /// End the daemon with a signal and start it again with the lab's arguments.
    pub fn daemon_restart(&self, signal: Signal) -> Result<()> {
        self.daemon_kill(signal)?;
        self.daemon_start()
    }

    /// Stop the daemon in its tracks (SIGSTOP), or let it go on (SIGCONT).
    pub fn daemon_pause(&self, pause: bool) -> Result<()> {
        self.daemon.signal(if pause { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// Whether the daemon's process is there.
    pub fn daemon_running(&self) -> bool {
        self.daemon.process().is_some()
    }

    /// All the daemon has logged, over all its starts.
    pub fn daemon_log(&self) -> String {
        self.daemon.log()
    }

    /// Start the daemon if the lab has one; with the embedded store, after the host that has its file.
    pub(crate) fn daemon_boot(&self) -> Result<()> {
        if self.shape.daemon.is_none() {
            return Ok(());
        }
        if self.shape.store == StoreKind::Embedded && self.number > 1 {
            let socket = self.shape.embedded_socket();
            // The daemon retries by itself; this only spares the log its first complaints.
            let _ = wait_until("the embedded store", Duration::from_secs(20), || socket.exists());
        }
        self.daemon_start()
    }
}
