//! Commands as a person would type them, run for real, with their output shortened.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use netns_harness::{CommandOutput, Host};

use super::super::print;
use super::heartbeat;

/// Ids and checksums are told apart by this much of them.
const SHORT_HEX: usize = 12;

/// This much of a command line tells which one it is that takes long.
const TOLD: usize = 60;

const PROMPT: &str = "1;36";
const COMMAND: &str = "1";
const QUIET: &str = "2";
const GOOD: &str = "32";
const BAD: &str = "1;31";

/// How long a command may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);

/// Where the show is printed.
#[derive(Debug)]
pub(super) struct Stage {
    daemon: PathBuf,
    directory: PathBuf,
    colours: bool,
}

impl Stage {
    /// Commands are run in `directory`. In colours on a terminal that has them, unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub(super) fn new(daemon: &Path, directory: PathBuf) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        // A relative path would lead elsewhere once a command changes its directory.
        let daemon = daemon.canonicalize().unwrap_or_else(|_| daemon.to_owned());
        Self { daemon, directory, colours }
    }

    /// One step of the show, under a heading that its errors carry as well.
    pub(super) fn step<T>(&self, title: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.heading(title)?;
        step().with_context(|| format!("the step \"{title}\" failed"))
    }

    fn heading(&self, text: &str) -> Result<()> {
        print(&format!("\n{}\n", self.paint(COMMAND, &format!("== {text}"))))
    }

    /// Something that no command says.
    pub(super) fn note(&self, text: &str) -> Result<()> {
        print(&format!("{}\n", self.paint(QUIET, &format!("# {text}"))))
    }

    /// Good news.
    pub(super) fn good(&self, text: &str) -> Result<()> {
        print(&format!("{}\n", self.paint(GOOD, &format!("# {text}"))))
    }

    /// Bad news.
    pub(super) fn bad(&self, text: &str) -> Result<()> {
        print(&format!("{}\n", self.paint(BAD, &format!("# {text}"))))
    }

    /// The contents of a file, a little to the right.
    pub(super) fn file(&self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| print(&format!("    {}\n", self.paint(QUIET, line))))
    }

    /// Show and run a command line; gives its whole output. An error when it fails.
    pub(super) fn run(&self, host: &Host, line: &str) -> Result<String> {
        self.run_for(host, line, str::to_owned)
    }

    /// The same, with only that part of the output shown which `part` gives.
    pub(super) fn run_for(
        &self,
        host: &Host,
        line: &str,
        part: impl FnOnce(&str) -> String,
    ) -> Result<String> {
        self.type_in(host, line)?;
        let said = self.quietly(host, line)?;
        let text = shorten(part(&said).trim_end());
        if !text.is_empty() {
            print(&format!("{text}\n"))?;
        }
        Ok(said)
    }

    /// Run without showing anything, unless it takes long; gives the output, trimmed. An error when it fails.
    pub(super) fn quietly(&self, host: &Host, line: &str) -> Result<String> {
        self.output(host, line)?.success(line).with_context(|| format!("on {}", host.name()))
    }

    /// The same, whatever the exit status.
    ///
    /// The line is run as it is shown: `rs-overlay` is the daemon's binary, wherever it is.
    pub(super) fn output(&self, host: &Host, line: &str) -> Result<CommandOutput> {
        let script = format!("rs-overlay() {{ \"$0\" \"$@\"; }}\ncd \"$1\"\n{line}");
        let (daemon, directory) = (self.daemon.to_string_lossy(), self.directory.to_string_lossy());
        let run = host.run(&["bash", "-o", "pipefail", "-c", &script, &daemon, &directory]).limit(LIMIT);
        let short: String = line.chars().take(TOLD).collect();
        let short = if short.len() < line.len() { short + "..." } else { short };
        heartbeat::telling(&format!("{}: {short}", host.name()), || run.output())
    }

    /// Show a command line, to be run by the caller.
    pub(super) fn type_in(&self, host: &Host, line: &str) -> Result<()> {
        let prompt = self.paint(PROMPT, &format!("{}$", host.name()));
        print(&format!("{prompt} {}\n", self.paint(COMMAND, line)))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Cut every word that is a full id or checksum; leave all else as it is.
fn shorten(text: &str) -> String {
    let cut = |word: &str| match word.get(..SHORT_HEX) {
        Some(short) if word.len() >= 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{short}...")
        }
        _ => word.to_owned(),
    };
    text.split(' ')
        .map(|part| part.split('\n').map(cut).collect::<Vec<_>>().join("\n"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_and_columns_stay() {
        let id = "f53cfe3293279c50990e780d6f254768b8b61dfc7780f4c8e83de18f97037146";
        assert_eq!(shorten(&format!("{id}  -\n{id}")), "f53cfe329327...  -\nf53cfe329327...");
        assert_eq!(shorten("NAME   SCOPE\nblue   local"), "NAME   SCOPE\nblue   local");
    }

    #[test]
    fn without_colours_text_stays_plain() {
        let plain = Stage { daemon: PathBuf::new(), directory: PathBuf::new(), colours: false };
        assert_eq!(plain.paint(GOOD, "x"), "x");
        assert_eq!(Stage { colours: true, ..plain }.paint(GOOD, "x"), "\x1b[32mx\x1b[0m");
    }
}
