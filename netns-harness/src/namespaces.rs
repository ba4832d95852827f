//! A set of namespaces with an init process of its own: when that ends, all that ran inside ends with it.

mod freeze;

use std::fs::{self, File};
use std::io::{PipeWriter, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::command::Run;
use crate::files;
use crate::process::Process;
use crate::wait::wait_until;

/// What the init process does before and after the caller's own lines.
///
/// As process 1 it reaps orphans (bash waits for all its children, adopted ones as well). The reader on descriptor 3
/// sees the end of the pipe when the process that owns the lab dies in whatever way, and then ends everything; the
/// word `detach` releases it.
const PROLOGUE: &str = r#"set -e
exec 3<&0 </dev/null
trap 'exit 0' TERM
if [ "$GUARDED" = yes ]; then
  ( trap - TERM; IFS= read -r word <&3 || true; [ "$word" = detach ] || kill -TERM 1 ) &
  echo $! >"$STATE_DIR/guard"
fi
exec 3<&-
mount -t proc proc /proc
"#;
const EPILOGUE: &str = r#"
: >"$STATE_DIR/ready"
sleep infinity &
set +e
while :; do wait; done
"#;

/// Network, mount, UTS, IPC and PID namespaces under one init process, recorded in a directory of the lab.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Name for messages and for the command line of the init process.
    title: String,
    state: PathBuf,
    guard: Mutex<Guard>,
}

#[derive(Debug, Default)]
struct Guard {
    child: Option<Child>,
    pipe: Option<PipeWriter>,
}

/// The processes as other invocations of the harness find them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Record {
    outer: Process,
    init: Process,
}

impl Namespaces {
    /// A handle on namespaces, running or not, that are recorded under `state`.
    pub(crate) fn new(title: String, state: PathBuf) -> Self {
        Self { title, state, guard: Mutex::default() }
    }

    /// Start the init process, have it run `script`, and wait until that is through.
    ///
    /// `guarded`: end with the calling process, unless [`Self::detach`] comes first.
    pub(crate) fn start(&self, script: &str, vars: &[(&str, &str)], guarded: bool) -> Result<()> {
        if self.init().is_some() {
            bail!("{} is already on", self.title);
        }
        let ready = self.state.join("ready");
        let log = self.state.join("init.log");
        files::remove(&ready)?;
        files::remove(&self.state.join("guard"))?;
        let (reader, writer) = pipe().context("cannot make a pipe")?;
        // `setsid` replaces itself, so the child is `unshare`, which waits for the init process.
        let mut command = Command::new("setsid");
        command
            .args(["unshare", "--pid", "--fork", "--kill-child", "--net", "--mount", "--uts", "--ipc"])
            .args([
                "--propagation",
                "private",
                "bash",
                "-c",
                &format!("{PROLOGUE}{script}{EPILOGUE}"),
                &self.title,
            ])
            .env("STATE_DIR", &self.state)
            .env("GUARDED", if guarded { "yes" } else { "no" })
            .envs(vars.iter().copied())
            .stdin(reader)
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let mut child = command.spawn().context("cannot start `unshare`: is util-linux installed?")?;
        drop(command);
        let outer = Process::find(i32::try_from(child.id())?);
        let started =
            wait_until(&self.title, Duration::from_mins(1), || -> Result<Option<Option<Process>>> {
                if child.try_wait()?.is_some() {
                    return Ok(Some(None));
                }
                let init = outer.filter(|_| ready.exists()).and_then(Process::child);
                Ok(init.map(Some))
            });
        let started = started.and_then(|init| init.context("its first process ended"));
        let mut guard = self.guard();
        match (started, outer) {
            (Ok(init), Some(outer)) => {
                *guard = Guard { child: Some(child), pipe: Some(writer) };
                files::write_json(&self.record_path(), &Record { outer, init })
            }
            (started, _) => {
                // `--kill-child` takes the init process along.
                let _ = child.kill();
                let _ = child.wait();
                let said = files::tail(&log, 5);
                bail!(
                    "{} did not come up: {said}{}",
                    self.title,
                    started.err().map_or(String::new(), |e| format!(" ({e})"))
                )
            }
        }
    }

    /// The init process, if the namespaces are up.
    pub(crate) fn init(&self) -> Option<Process> {
        let record: Record = files::read_json(&self.record_path()).ok()?;
        record.init.alive().then_some(record.init)
    }

    /// The init process, or an error that says that this part of the lab is off.
    pub(crate) fn on(&self) -> Result<Process> {
        self.init().with_context(|| format!("{} is off", self.title))
    }

    /// Let the namespaces outlive the calling process.
    pub(crate) fn detach(&self) -> Result<()> {
        if let Some(mut pipe) = self.guard().pipe.take() {
            pipe.write_all(b"detach\n").with_context(|| format!("cannot detach {}", self.title))?;
        }
        Ok(())
    }

    /// A program inside all the namespaces. When they are off, the command says so and fails.
    pub(crate) fn command(&self, program: &str) -> Command {
        let Some(init) = self.init() else {
            let mut command = Command::new("sh");
            command.args(["-c", "echo \"$0 is off, cannot run $1\" >&2; exit 125", &self.title, program]);
            return command;
        };
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.pid.to_string(), "-m", "-n", "-u", "-i", "-p", "--", program]);
        command
    }

    /// Run commands of `ip -batch` in the network namespace.
    pub(crate) fn ip_batch(&self, lines: &[String]) -> Result<()> {
        let init = self.on()?.pid.to_string();
        Run::new("nsenter")
            .args(["-t", &init, "-n", "ip", "-batch", "-"])
            .input(lines.join("\n"))
            .text()
            .with_context(|| format!("cannot set up links of {}: {}", self.title, lines.join("; ")))
            .map(drop)
    }

    /// A path inside the mount namespace as seen from outside. `path` is absolute and free of symbolic links.
    pub(crate) fn path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.on()?.pid)))
    }

    /// End every process inside at once; the kernel then drops mounts, links and the namespaces themselves.
    pub(crate) fn end(&self) -> Result<()> {
        end_recorded(&self.state)?;
        let mut guard = self.guard();
        if let Some(mut child) = guard.child.take() {
            child.wait().with_context(|| format!("cannot wait for {}", self.title))?;
        }
        guard.pipe = None;
        Ok(())
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_path(&self) -> PathBuf {
        self.state.join(RECORD)
    }
}

const RECORD: &str = "init.json";

/// End the namespaces recorded in this directory, whoever started them.
pub(crate) fn end_recorded(state: &Path) -> Result<()> {
    let path = state.join(RECORD);
    if !path.exists() {
        return Ok(());
    }
    let record: Record = files::read_json(&path)?;
    record.init.signal(Signal::SIGKILL)?;
    // The kernel reports the init process's end only after that of all others in its namespace.
    record.outer.wait_gone(Duration::from_mins(1), || freeze::wake(record.init))?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}
