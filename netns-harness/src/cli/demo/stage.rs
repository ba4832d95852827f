//! Commands as a person would type them, run for real, with their output shortened.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netns_harness::{CommandOutput, Host};

use super::super::print;

/// Ids and checksums are told apart by this much of them.
const SHORT_HEX: usize = 12;

const PROMPT: &str = "1;36";
const COMMAND: &str = "1";
const QUIET: &str = "2";
const GOOD: &str = "32";
const BAD: &str = "1;31";

/// Where the show is printed.
#[derive(Debug)]
pub(super) struct Stage {
    daemon: PathBuf,
    colours: bool,
}

impl Stage {
    /// In colours on a terminal that has them, unless `NO_COLOR` is set (<https://no-color.org>).
    pub(super) fn new(daemon: &Path) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        // A relative path would lead elsewhere once a command changes its directory.
        let daemon = daemon.canonicalize().unwrap_or_else(|_| daemon.to_owned());
        Self { daemon, colours }
    }

    /// What the next commands are about.
    pub(super) fn heading(&self, text: &str) -> Result<()> {
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

    /// Show and run a command line; gives its whole output. An error when it fails.
    pub(super) fn run(&self, host: &Host, line: &str) -> Result<String> {
        self.show_line(host, line)?;
        let said = self.output(host, line)?.success(line).with_context(|| format!("on {}", host.name()))?;
        show_output(&said)?;
        Ok(said)
    }

    /// The same, whatever the exit status, with only that part of the output shown which `part` gives.
    pub(super) fn try_run(
        &self,
        host: &Host,
        line: &str,
        part: impl FnOnce(&str) -> String,
    ) -> Result<CommandOutput> {
        self.show_line(host, line)?;
        let said = self.output(host, line)?;
        show_output(&part(&said.stdout))?;
        if !said.status.success() {
            let reason = said.stderr.trim().lines().last().unwrap_or_default();
            self.bad(format!("{} {reason}", said.status).trim_end())?;
        }
        Ok(said)
    }

    /// Run without showing anything.
    pub(super) fn quietly(&self, host: &Host, line: &str) -> Result<String> {
        self.output(host, line)?.success(line)
    }

    /// The line is run as it is shown: `rs-overlay` is the daemon's binary, wherever it is.
    fn output(&self, host: &Host, line: &str) -> Result<CommandOutput> {
        let script = format!("rs-overlay() {{ \"$0\" \"$@\"; }}\n{line}");
        host.run(&["bash", "-o", "pipefail", "-c", &script, &self.daemon.to_string_lossy()]).output()
    }

    fn show_line(&self, host: &Host, line: &str) -> Result<()> {
        let prompt = self.paint(PROMPT, &format!("{}$", host.name()));
        print(&format!("{prompt} {}\n", self.paint(COMMAND, line)))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn show_output(text: &str) -> Result<()> {
    let text = shorten(text.trim_end());
    if text.is_empty() { Ok(()) } else { print(&format!("{text}\n")) }
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
        let plain = Stage { daemon: PathBuf::new(), colours: false };
        assert_eq!(plain.paint(GOOD, "x"), "x");
        assert_eq!(Stage { colours: true, ..plain }.paint(GOOD, "x"), "\x1b[32mx\x1b[0m");
    }
}
