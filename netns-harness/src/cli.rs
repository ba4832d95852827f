//! Commands that bring labs up, use them and take them down.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line's output is printed here alone"
)]

mod demo;
mod fault;
mod status;
mod up;

use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use netns_harness::{EngineVersion, Host, Lab, interrupt, parts};

/// Exit code after an interrupt, as shells give it.
const INTERRUPTED: u8 = 130;

/// Run several real Docker hosts on this machine, each in namespaces of its own, with a cluster store.
///
/// Needs root. Engines of other Debian releases are downloaded at their first use. A lab's files are under
/// /var/tmp/netns-harness (or `$NETNS_HARNESS_DIR`), downloads under /var/cache/rs-overlay-harness (or
/// `$NETNS_HARNESS_CACHE`). With `$NETNS_HARNESS_KEEP_LOGS`, logs of labs that ended are kept there.
#[derive(Debug, Parser)]
#[command(
    name = "netns-harness",
    version,
    after_help = "Example:\n  \
    netns-harness up --hosts 3 --engine 26.1 --store etcd --daemon target/release/rs-overlay\n  \
    netns-harness exec 1 docker network create -d rs-overlay net\n  \
    netns-harness exec 2 docker run --rm --network net busybox ip addr\n  \
    netns-harness down"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a lab up and leave it running in the background
    Up(up::UpArgs),
    /// Build hosts, show one network across them, step by step, and take all down again
    Demo(demo::DemoArgs),
    /// Take a lab down: all its processes, links, mounts and files
    Down {
        #[command(flatten)]
        lab: LabName,
        /// Take every lab of this machine down
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// List all labs of this machine
    Ls {
        #[command(flatten)]
        format: FormatArg,
    },
    /// Show the hosts of a lab: power, engine, daemon, address, leftovers
    Status {
        #[command(flatten)]
        lab: LabName,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Run a program on a host, with this terminal's input and output and the program's exit code
    Exec {
        #[command(flatten)]
        lab: LabName,
        /// Number of the host, from 1
        host: usize,
        /// Program and its arguments; `docker` is the host's own
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
    /// Print what a host's daemon or engine has logged
    Logs {
        #[command(flatten)]
        lab: LabName,
        /// Number of the host, from 1
        host: usize,
        /// Whose log
        #[arg(value_enum, default_value_t = Source::Daemon)]
        source: Source,
    },
    /// Cut a host's power, or switch it on again
    Power {
        #[command(flatten)]
        lab: LabName,
        /// Number of the host, from 1
        host: usize,
        /// `off` ends every process at once and loses /run; the disk stays
        #[arg(value_enum)]
        state: Power,
    },
    /// Cut a host off the underlay, or heal it: frames are dropped both ways while the link stays up
    Link {
        #[command(flatten)]
        lab: LabName,
        /// Number of the host, from 1
        host: usize,
        /// What to do with the host's frames
        #[arg(value_enum)]
        state: Link,
    },
    /// Make something go wrong: with the store, a host, its daemon or its engine
    Fault(fault::FaultArgs),
    /// Download all engines and store servers into the cache
    Fetch,
}

#[derive(Debug, Args)]
struct LabName {
    /// Name of the lab
    #[arg(long, default_value = "lab", env = "NETNS_HARNESS_NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct FormatArg {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Columns for people
    Table,
    /// One JSON document for programs
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    /// The rs-overlay daemon
    Daemon,
    /// The Docker engine
    Engine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Power {
    /// Switch on
    On,
    /// Cut the power
    Off,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Link {
    /// Drop all frames
    Cut,
    /// Forward them again
    Heal,
}

/// Run the command line; errors go to standard error as one chain.
pub(crate) fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netns-harness: {error:#}");
            if interrupt::interrupted() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::up(args),
        Command::Demo(args) => demo::demo(&args),
        Command::Down { all: true, .. } => Lab::names().iter().try_for_each(|name| down(name)),
        Command::Down { lab, .. } => down(&lab.name),
        Command::Ls { format } => status::list(format.format),
        Command::Status { lab, format } => status::status(&lab.name, format.format),
        Command::Exec { lab, host, argv } => {
            let lab = Lab::attach(&lab.name)?;
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            let error = pick(&lab, host)?.command(&argv).exec();
            Err(error).with_context(|| format!("cannot run {}", argv.join(" ")))
        }
        Command::Logs { lab, host, source } => {
            let lab = Lab::attach(&lab.name)?;
            let host = pick(&lab, host)?;
            print(&match source {
                Source::Daemon => host.daemon_log(),
                Source::Engine => host.engine_log(),
            })
        }
        Command::Power { lab, host, state } => {
            let lab = Lab::attach(&lab.name)?;
            let host = pick(&lab, host)?;
            match state {
                Power::On => host.power_on(),
                Power::Off => host.power_off(),
            }
        }
        Command::Link { lab, host, state } => {
            let lab = Lab::attach(&lab.name)?;
            pick(&lab, host)?.cut(matches!(state, Link::Cut))
        }
        Command::Fault(args) => fault::fault(&args),
        Command::Fetch => fetch(),
    }
}

fn down(name: &str) -> Result<()> {
    let existed = Lab::names().iter().any(|found| found == name);
    Lab::down(name)?;
    progress(&if existed { format!("lab {name} is down") } else { format!("there is no lab {name}") });
    Ok(())
}

fn fetch() -> Result<()> {
    for version in EngineVersion::ALL {
        parts::engine(version)?;
        progress(&format!("engine {version} is here"));
    }
    for (name, path) in
        [("etcd", parts::etcd_binary()?), ("consul", parts::consul_binary()?), ("image", parts::image()?)]
    {
        progress(&format!("{name} is at {}", path.display()));
    }
    Ok(())
}

fn pick(lab: &Lab, number: usize) -> Result<&Host> {
    let count = lab.hosts().len();
    if !(1..=count).contains(&number) {
        bail!("lab {} has no host {number}: its hosts are 1 to {count}", lab.name());
    }
    Ok(lab.host(number))
}

/// A line for a person who waits: to standard error, so that output stays what was asked for.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() { eprintln!("\u{2713} {line}") } else { eprintln!("{line}") }
}

/// The same for what goes on and is not done yet.
fn waiting(line: &str) {
    if std::io::stderr().is_terminal() { eprintln!("\u{2026} {line}") } else { eprintln!("{line}") }
}

/// Print to standard output; a reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_programs_options_are_its_own() {
        let cli = Cli::parse_from(["netns-harness", "exec", "2", "docker", "ps", "--all", "--name", "x"]);
        let Command::Exec { lab, host, argv } = cli.command else { panic!("not exec") };
        assert_eq!((lab.name.as_str(), host), ("lab", 2));
        assert_eq!(argv, ["docker", "ps", "--all", "--name", "x"]);
    }
}
