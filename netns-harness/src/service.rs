//! A long-running program inside the namespaces of a host or of the fabric.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::process::Process;
use crate::wait::wait_until;

/// How long a service may take to end after a signal that ends it.
const END_LIMIT: Duration = Duration::from_mins(1);

/// A service by name, whether it runs or not; its processes are recorded on disk for other invocations.
#[derive(Debug)]
pub(crate) struct Service {
    title: String,
    record: PathBuf,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

/// `nsenter`, which stays outside of the PID namespace, and the program itself, its child.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    outer: Process,
    inner: Process,
}

impl Service {
    /// The service `name` of a part of the lab whose files are in `state`.
    pub(crate) fn new(owner: &str, name: &str, state: &Path) -> Self {
        Self {
            title: format!("{name} of {owner}"),
            record: state.join(format!("{name}.json")),
            log: state.join(format!("{name}.log")),
            child: Mutex::default(),
        }
    }

    /// Start a command made by [`crate::namespaces::Namespaces::command`] and wait until `ready` holds.
    pub(crate) fn start(
        &self,
        command: &Command,
        limit: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        if self.process().is_some() {
            bail!("{} already runs", self.title);
        }
        self.reap();
        let log = File::options().create(true).append(true).open(&self.log)?;
        // A session of its own: a terminal's interrupt or hang-up is not for the lab.
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        detached.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = detached.spawn().with_context(|| format!("cannot start {}", self.title))?;
        let outer = Process::find(i32::try_from(child.id())?);
        let found =
            wait_until("its process", Duration::from_mins(1), || -> Result<Option<Option<Record>>> {
                let gone = child.try_wait()?.is_some();
                let record = outer.and_then(|outer| Some(Record { outer, inner: outer.child()? }));
                Ok((gone || record.is_some()).then_some(record))
            });
        if found.is_err() {
            let _ = child.kill();
        }
        let found = found.and_then(|record| record.context("it ended"));
        let began = found.and_then(|record| files::write_json(&self.record, &record));
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let come = began.and_then(|()| {
            let runs = wait_until("its first answer", limit, || -> Result<Option<bool>> {
                if self.process().is_none() {
                    return Ok(Some(false));
                }
                Ok(ready()?.then_some(true))
            })?;
            ensure!(runs, "it ended");
            Ok(())
        });
        come.map_err(|error| {
            let _ = self.end(Signal::SIGKILL);
            error.context(format!("{} did not start; its log ends with:\n{}", self.title, self.log_tail()))
        })
    }

    /// The program's process, if it runs.
    pub(crate) fn process(&self) -> Option<Process> {
        let record: Record = files::read_json(&self.record).ok()?;
        record.inner.alive().then_some(record.inner)
    }

    /// Send a signal that does not end it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let record: Record =
            files::read_json(&self.record).with_context(|| format!("{} does not run", self.title))?;
        record.inner.signal(signal)?;
        if signal == Signal::SIGCONT {
            // nsenter stops itself when its child stops, and has to be woken to see the child's end.
            record.outer.signal(signal)?;
        }
        Ok(())
    }

    /// Send a signal that ends it and wait until it is gone; fine when it does not run.
    pub(crate) fn end(&self, signal: Signal) -> Result<()> {
        if let Ok(record) = files::read_json::<Record>(&self.record) {
            record.inner.signal(signal)?;
            // nsenter may stop itself after the first wake-up, when it comes late to see that its child stopped.
            let wake = || record.outer.signal(Signal::SIGCONT);
            let gone = record.inner.wait_gone(END_LIMIT, || Ok(()));
            gone.with_context(|| format!("{} does not end on {signal}:\n{}", self.title, self.log_tail()))?;
            record.outer.wait_gone(END_LIMIT, wake)?;
        }
        files::remove(&self.record)?;
        self.reap();
        Ok(())
    }

    /// All it has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        files::tail(&self.log, 15)
    }

    fn reap(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            // nsenter ends right after its child, whose end was waited for.
            let _ = child.wait();
        }
    }
}
