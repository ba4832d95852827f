//! Standard output and standard error, and the exit status. A reader that goes away is no failure.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Prints `text` and a line's end.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    still_read(writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()))
}

/// Prints clap's help, in colours on a terminal.
pub(super) fn print_styled(text: &clap::builder::StyledStr) -> anyhow::Result<()> {
    if io::stdout().is_terminal() { print(&text.ansi().to_string()) } else { print(&text.to_string()) }
}

/// Shows on a terminal, in place of the last such line, what is waited for; nothing clears it.
pub(super) fn progress(line: &str) -> anyhow::Result<()> {
    let mut err = io::stderr().lock();
    if !err.is_terminal() {
        return Ok(());
    }
    let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).take(78).collect();
    still_read(write!(err, "\r\x1b[K{line}").and_then(|()| err.flush()))
}

/// Tells on standard error what is wrong, in one line.
pub(super) fn complain(problem: &str) {
    // There is nowhere left to tell that standard error is closed.
    let _ = writeln!(io::stderr(), "rs-overlay: {problem}");
}

/// The exit status of a command, whose failure is told with all its causes.
pub(super) fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&format!("{err:#}"));
            ExitCode::FAILURE
        }
    }
}

fn still_read(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(err).context("standard output cannot be written"))
        }
        _ => Ok(()),
    }
}
