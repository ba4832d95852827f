//! Run a program with a time limit and keep all it says.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;

/// Time limit of a command that does not name its own.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// Exit status; not an error here when it is not zero.
    pub status: ExitStatus,
    /// Standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

/// A program to run to its end: always limited in time, its output always kept.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
    limit: Duration,
    heeds_interrupt: bool,
}

impl Run {
    /// A run of `program` with [`DEFAULT_LIMIT`] and no input.
    pub fn new(program: &str) -> Self {
        Self::from_command(Command::new(program))
    }

    /// A run of a command made elsewhere.
    pub fn from_command(command: Command) -> Self {
        Self { command, input: None, limit: DEFAULT_LIMIT, heeds_interrupt: true }
    }

    /// Add arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Feed these bytes to standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Replace the time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Go on even after [`interrupt::interrupt`]: for teardown.
    #[must_use]
    pub fn in_teardown(mut self) -> Self {
        self.heeds_interrupt = false;
        self
    }

    /// Run to the end; a non-zero exit is not an error, being late or impossible to start is.
    pub fn output(mut self) -> Result<CommandOutput> {
        let line = Line(&self.command).to_string();
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that a late command goes with all it started.
        self.command.process_group(0);
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let feeder = feed(&mut child, self.input.take());
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let ended = wait(&mut child, self.limit, self.heeds_interrupt);
        if let Ok(None) | Err(_) = &ended {
            kill_group(&mut child);
        }
        let (stdout, stderr) = (text(stdout), text(stderr));
        if let Some(feeder) = feeder {
            // A program that does not read its input to the end is judged by its exit status.
            let _ = feeder.join();
        }
        match ended? {
            Some(status) => Ok(CommandOutput { status, stdout, stderr }),
            None if interrupt::interrupted() && self.heeds_interrupt => bail!("interrupted in `{line}`"),
            None => bail!(
                "`{line}` was still running after {:?} and was ended{}",
                self.limit,
                Said { stdout: &stdout, stderr: &stderr }
            ),
        }
    }

    /// Run to the end and give standard output without surrounding white space; a non-zero exit is an error.
    pub fn text(self) -> Result<String> {
        let line = Line(&self.command).to_string();
        self.output()?.success(&line)
    }
}

impl CommandOutput {
    /// Standard output, trimmed, or an error that shows the command, its exit and all it said.
    pub fn success(self, line: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout.trim().to_owned());
        }
        bail!("`{line}` failed: {}{}", self.status, Said { stdout: &self.stdout, stderr: &self.stderr })
    }
}

/// A command as a person would type it, for messages.
pub(crate) struct Line<'a>(pub(crate) &'a Command);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.get_program().to_string_lossy())?;
        self.0.get_args().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

struct Said<'a> {
    stdout: &'a str,
    stderr: &'a str,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, said) in [("stdout", self.stdout), ("stderr", self.stderr)] {
            if !said.trim().is_empty() {
                write!(f, "\n  {name}: {}", said.trim())?;
            }
        }
        Ok(())
    }
}

fn feed(child: &mut Child, input: Option<Vec<u8>>) -> Option<JoinHandle<std::io::Result<()>>> {
    let (bytes, mut pipe) = (input?, child.stdin.take()?);
    Some(thread::spawn(move || pipe.write_all(&bytes)))
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    reader.join().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn wait(child: &mut Child, limit: Duration, heeds_interrupt: bool) -> Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit || (heeds_interrupt && interrupt::interrupted()) {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn kill_group(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // The group is gone already when the child ended in between.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_goes_in_and_output_comes_out() {
        assert_eq!(Run::new("tr").args(["a-z", "A-Z"]).input("name\n").text().unwrap(), "NAME");
    }

    #[test]
    fn a_failure_shows_command_exit_and_output() {
        let error =
            Run::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).text().unwrap_err().to_string();
        for part in ["sh -c", "exit status: 3", "stdout: out", "stderr: err"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }

    #[test]
    fn a_late_command_is_ended_with_its_children() {
        let started = Instant::now();
        let run =
            Run::new("sh").args(["-c", "echo begun; sleep 600 & wait"]).limit(Duration::from_millis(200));
        let error = run.output().unwrap_err().to_string();
        assert!(error.contains("still running") && error.contains("begun"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(300));
    }
}
