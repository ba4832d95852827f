//! The command line. The only place that prints: all else logs or returns errors.

mod client;
mod config;
mod generate;
mod name;
mod network;
mod output;
mod socket;
mod table;
mod usage;
mod verify;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::{
    admin::{NETWORKS_PATH, NODES_PATH, NetworkRow, NodeRow, STATUS_PATH, StatusReport},
    config::{ConfigError, DEFAULT_SOCKET, Flags, load},
    daemon, telemetry,
};

/// `EX_USAGE` of sysexits(3): the command line, a variable or the configuration file is wrong.
const BAD_USAGE: u8 = 64;

const SETTINGS_HELP: &str = "\
Every flag is also an environment variable (--cluster-store is RS_OVERLAY_CLUSTER_STORE) and a key of the
TOML file given with --config (cluster-store = \"...\"). A flag goes before a variable, a variable before the
file. Repeatable flags are arrays in the file; in a variable their values are separated by blanks or
semicolons. An empty variable counts as not set.";

const VERIFY_HELP: &str = "\
Compares twice where something differs, and shows what stays: a change on its way is none.
Exit status: 0 nothing differs, 1 something does, 2 it cannot be told, 64 wrong usage.";

const EXIT_HELP: &str = "Exit status: 0 done, 1 failed, 64 wrong usage.";

#[derive(Debug, Parser)]
#[command(name = "rs-overlay", version, about, after_help = EXIT_HELP, max_term_width = 110)]
#[command(propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: network and IPAM driver of this host's engine
    #[command(after_help = SETTINGS_HELP)]
    Daemon(Box<Flags>),
    /// Look at the daemon's settings
    #[command(subcommand)]
    Config(self::config::ConfigCommand),
    #[command(flatten)]
    Question(Question),
    /// Print completions for a shell
    Completions {
        /// Shell that they are for
        shell: generate::Shell,
    },
    /// Write man pages
    #[command(hide = true)]
    ManPages(generate::ManPages),
}

/// Commands that the local daemon answers.
#[derive(Debug, Subcommand)]
enum Question {
    /// Show how this host's daemon is doing
    Status(Ask),
    /// Show, create and remove the cluster's networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Look up names of containers
    #[command(subcommand)]
    Name(NameCommand),
    /// Show the cluster's hosts
    #[command(subcommand)]
    Node(NodeCommand),
    /// Compare kernel, plan, store and engine on this host, and show every difference
    #[command(after_help = VERIFY_HELP)]
    Verify(Ask),
    /// Collect what was left behind: claims, marks, records and links that nobody needs
    Gc {
        /// Only show what would be collected
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show the release of this program and of the daemon that runs
    Version(Ask),
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// List all networks
    Ls(Ask),
    /// Show one network
    Inspect {
        /// Name, or the beginning of an id
        name: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Create a network through this host's engine, and wait until all live hosts have it
    Create {
        #[command(flatten)]
        network: Box<network::Create>,
        #[command(flatten)]
        at: At,
    },
    /// Remove networks through this host's engine, and say what that meant
    Rm {
        /// Names, or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
enum NameCommand {
    /// Show who answers to a name in the networks that this host takes part in
    Lookup {
        #[command(flatten)]
        name: name::Lookup,
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// List all hosts
    Ls(Ask),
}

/// What all commands that ask the daemon take.
#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "these docstrings are help texts, where backticks would be noise")]
struct Ask {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    at: At,
}

/// Which daemon is asked.
#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "these docstrings are help texts, where backticks would be noise")]
struct At {
    /// The daemon's socket, also RS_OVERLAY_SOCKET [default: /run/docker/plugins/rs-overlay.sock, or that of the
    /// managed plugin]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Runs the command that `arguments` ask for; the first one is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(err) if err.use_stderr() => {
            output::complain(&usage::one_line(&err));
            return ExitCode::from(BAD_USAGE);
        }
        Err(help) => return output::finish(output::print_styled(&help.render())),
    };
    match cli.command {
        Command::Daemon(flags) => run_daemon(*flags),
        Command::Config(self::config::ConfigCommand::Check(request)) => self::config::run(*request),
        Command::Completions { shell } => output::finish(generate::completions(&Cli::command(), shell)),
        Command::ManPages(request) => output::finish(generate::man_pages(Cli::command(), &request)),
        Command::Question(Question::Verify(ask)) => verify::verify(&ask),
        Command::Question(Question::Gc { dry_run, ask }) => verify::gc(dry_run, &ask.socket(), &ask),
        Command::Question(question) => output::finish(answer(question)),
    }
}

fn run_daemon(flags: Flags) -> ExitCode {
    let config = match load(flags) {
        Ok(config) => config,
        Err(err) => {
            output::complain(&err.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    if let Err(err) =
        telemetry::init(config.log_level, config.log_format, daemon::is_managed_plugin(&config.socket))
    {
        return output::finish(Err(err));
    }
    match daemon::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        // Settings that only this machine could judge, and still before anything is touched.
        Err(err) if err.is::<ConfigError>() => {
            output::complain(&err.to_string());
            ExitCode::from(BAD_USAGE)
        }
        Err(err) => {
            // Whoever reads logs as JSON reads the last line as JSON as well.
            tracing::error!(error = format!("{err:#}"), "the daemon failed");
            ExitCode::FAILURE
        }
    }
}

fn answer(question: Question) -> anyhow::Result<()> {
    match question {
        Question::Status(ask) => {
            let status: StatusReport = client::get(&ask.socket(), STATUS_PATH)?;
            ask.print(&status, || table::status(&status, crate::clock::unix_seconds()))
        }
        Question::Network(NetworkCommand::Ls(ask)) => {
            let mut rows: Vec<NetworkRow> = client::get(&ask.socket(), NETWORKS_PATH)?;
            rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
            ask.print(&rows, || table::networks(&rows))
        }
        Question::Network(NetworkCommand::Inspect { name, ask }) => {
            let rows: Vec<NetworkRow> = client::get(&ask.socket(), NETWORKS_PATH)?;
            let row = table::find_network(&rows, &name)?;
            ask.print(row, || table::network(row))
        }
        Question::Network(NetworkCommand::Create { network, at }) => network::create(&at.socket(), *network),
        Question::Network(NetworkCommand::Rm { names, at }) => network::remove(&at.socket(), &names),
        Question::Name(NameCommand::Lookup { name, ask }) => name::lookup(&name, &ask),
        Question::Node(NodeCommand::Ls(ask)) => {
            let mut rows: Vec<NodeRow> = client::get(&ask.socket(), NODES_PATH)?;
            rows.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
            ask.print(&rows, || table::nodes(&rows, crate::clock::unix_seconds()))
        }
        // Their exit status says more.
        Question::Verify(_) | Question::Gc { .. } => Ok(()),
        Question::Version(ask) => {
            let daemon =
                client::get::<StatusReport>(&ask.socket(), STATUS_PATH).map(|status| status.version).ok();
            let client = env!("CARGO_PKG_VERSION");
            let json = serde_json::json!({ "client": client, "daemon": daemon });
            let daemon = daemon.as_deref().unwrap_or("does not run");
            ask.print(&json, || table::pairs(&[("Client", client.to_owned()), ("Daemon", daemon.to_owned())]))
        }
    }
}

impl At {
    fn socket(&self) -> PathBuf {
        let from_env =
            || std::env::var_os("RS_OVERLAY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(from_env).unwrap_or_else(|| socket::find(Path::new(DEFAULT_SOCKET)))
    }
}

impl Ask {
    fn socket(&self) -> PathBuf {
        self.at.socket()
    }

    fn print(&self, json: &impl serde::Serialize, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Table => output::print(&table()),
            Format::Json => output::print(&serde_json::to_string_pretty(json)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_and_every_flag_is_a_setting() {
        let command = Cli::command();
        let daemon = command.find_subcommand("daemon").unwrap();
        let mut flags: Vec<&str> = daemon.get_arguments().filter_map(clap::Arg::get_long).collect();
        flags.retain(|flag| !["config", "help", "version"].contains(flag));
        assert_eq!(flags, crate::config::SETTINGS);
    }
}
