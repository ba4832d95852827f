//! Completions for shells and pages for man(1), both from the definition of the command line.

use std::{fs, io, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};

use super::{EXIT_HELP, output};
use crate::config::{
    DEFAULT_DOCKER_HOST, DEFAULT_SOCKET, DEFAULT_STATE_DIR, SERVICE_CONFIG, SERVICE_ENVIRONMENT, SETTINGS,
    env_name,
};

/// Programs that root runs (man-pages(7)).
const SECTION: &str = "8";

/// Shells whose completions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What `man-pages` takes.
#[derive(Debug, Args)]
pub(super) struct ManPages {
    /// Directory for the pages; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Date of the release, which stands at the foot of each page
    #[arg(value_name = "YYYY-MM-DD")]
    date: String,
}

/// Prints the completions for `shell`.
pub(super) fn completions(command: &Command, shell: Shell) -> anyhow::Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Generators tell hidden commands as well.
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    let mut all = Command::new("rs-overlay").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    all = all.propagate_version(true).disable_help_subcommand(true);
    // The generator for bash (clap_complete 4.6) names the commands of a program with a dash in its name in two
    // ways, and its script then completes nothing but them. The last word of two lines is the program's name.
    let name = if shell == clap_complete::Shell::Bash { "rs_overlay" } else { "rs-overlay" };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut all, name, &mut script);
    output::print(&String::from_utf8(script)?.replace(" rs_overlay\n", " rs-overlay\n"))
}

/// Writes a page for the program and one for each of its commands.
pub(super) fn man_pages(mut command: Command, request: &ManPages) -> anyhow::Result<()> {
    let dir = &request.directory;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    command.build();
    let mut names = Vec::new();
    titles(&command, &mut names);
    page(request, &command, &names)
}

/// The page of `command`, and those of what is below it.
fn page(request: &ManPages, command: &Command, all: &[String]) -> anyhow::Result<()> {
    let title = title(command);
    let path = request.directory.join(format!("{title}.{SECTION}"));
    let mut text = Vec::new();
    render(command, &title, &request.date, all, &mut text)
        .with_context(|| format!("cannot render {title}"))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| page(request, sub, all))
}

/// Titles of all pages, each before those below it.
fn titles(command: &Command, names: &mut Vec<String>) {
    names.push(title(command));
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).for_each(|sub| titles(sub, names));
}

fn title(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).replace(' ', "-")
}

fn render(
    command: &Command,
    title: &str,
    date: &str,
    all: &[String],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let version = format!("rs-overlay {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone());
    let mut roff = Roff::default();
    roff.control("TH", [title, SECTION, date, &version, "rs-overlay"]);
    roff.control("SH", ["NAME"]);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    roff.text([roman(format!("{title} - {about}"))]);
    roff.to_writer(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(out)?;
    }
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        let mut roff = Roff::default();
        roff.control("SH", ["COMMANDS"]);
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            roff.control("TP", []);
            roff.text([bold(sub.get_name())]);
            roff.text([roman(sub.get_about().map(ToString::to_string).unwrap_or_default())]);
        }
        roff.to_writer(out)?;
    }
    let mut roff = Roff::default();
    exit_status(&mut roff, command);
    let runs_daemon = ["rs-overlay-daemon", "rs-overlay-config-check"].contains(&title);
    if runs_daemon || title == "rs-overlay" {
        environment(&mut roff, runs_daemon);
        files(&mut roff);
    } else {
        roff.control("SH", ["ENVIRONMENT"]);
        entry(&mut roff, "RS_OVERLAY_SOCKET", "The daemon's socket, where --socket is not given.");
    }
    examples(&mut roff, title);
    see_also(&mut roff, title, all);
    roff.to_writer(out)
}

fn entry(roff: &mut Roff, head: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(head)]);
    roff.text([roman(text)]);
}

/// The last sentence of every help text.
fn exit_status(roff: &mut Roff, command: &Command) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let line = help.lines().find(|line| line.starts_with("Exit status: ")).unwrap_or(EXIT_HELP);
    roff.control("SH", ["EXIT STATUS"]);
    for part in line.trim_start_matches("Exit status: ").trim_end_matches('.').split(", ") {
        match part.split_once(' ').filter(|(code, _)| code.parse::<u8>().is_ok()) {
            Some((code, meaning)) => entry(roff, code, meaning),
            None => drop(roff.text([roman(part)])),
        }
    }
}

fn environment(roff: &mut Roff, in_full: bool) {
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "Every flag of the daemon is also a variable. A flag goes before a variable, a variable before the \
         configuration file. In a variable the values of a repeatable flag are separated by blanks or \
         semicolons. An empty variable counts as not set.",
    )]);
    if in_full {
        for setting in SETTINGS.into_iter().chain(["config"]) {
            entry(roff, &env_name(setting), &format!("--{setting}"));
        }
    }
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (path, text) in [
        (
            SERVICE_CONFIG,
            "Settings of the installed service, in TOML: keys named as the flags, lists as arrays.",
        ),
        (SERVICE_ENVIRONMENT, "Variables of the installed service. They go before the file above."),
        (DEFAULT_STATE_DIR, "What must survive a restart, unless --state-dir says otherwise."),
        (DEFAULT_SOCKET, "Where the engine finds the plugin, unless --socket says otherwise."),
        (DEFAULT_DOCKER_HOST, "The engine's socket, unless --docker-host says otherwise."),
        (
            "/run/docker/rs-overlay/netns/overlay",
            "The network namespace with all bridges and VXLAN devices. It outlives the daemon.",
        ),
    ] {
        entry(roff, path, text);
    }
}

/// Commands with what they do.
const EXAMPLES: [(&str, &[(&str, &str)]); 7] = [
    (
        "rs-overlay",
        &[
            (
                "docker network create -d rs-overlay --ipam-driver rs-overlay blue",
                "Create a network for containers of all hosts.",
            ),
            ("rs-overlay status", "Show how this host does: its store, its engine, and what is wrong."),
        ],
    ),
    (
        "rs-overlay-daemon",
        &[
            (
                "rs-overlay daemon --cluster-store etcd://192.0.2.10:2379 --cluster-advertise eth0",
                "Run on a host whose peers reach it at an address of eth0.",
            ),
            (
                "rs-overlay daemon --cluster-store consul://127.0.0.1:8500 --cluster-store-opt kv.tokenfile=/etc/rs-overlay/token",
                "Use the consul agent of this host, with an ACL token.",
            ),
        ],
    ),
    (
        "rs-overlay-config-check",
        &[
            ("rs-overlay config check --service", "Check what the installed service would be run with."),
            (
                "rs-overlay config check --cluster-store etcd://192.0.2.10:2379 --format json",
                "Check flags before they are used, for a program.",
            ),
        ],
    ),
    (
        "rs-overlay-network-create",
        &[(
            "rs-overlay network create --subnet 10.1.0.0/24 blue",
            "Create a network, and wait until all live hosts have it.",
        )],
    ),
    (
        "rs-overlay-name-lookup",
        &[(
            "rs-overlay name lookup web1 --from client",
            "Show who answers to web1 as the container client is told.",
        )],
    ),
    ("rs-overlay-verify", &[("rs-overlay verify --format json", "Tell a monitoring program what differs.")]),
    ("rs-overlay-gc", &[("rs-overlay gc --dry-run", "Only show what would be collected.")]),
];

fn examples(roff: &mut Roff, title: &str) {
    let Some((_, examples)) = EXAMPLES.iter().find(|(page, _)| *page == title) else { return };
    roff.control("SH", ["EXAMPLES"]);
    for (command, what) in *examples {
        entry(roff, command, what);
    }
}

/// The pages next to this one, and those of the programs around it.
fn see_also(roff: &mut Roff, title: &str, all: &[String]) {
    let above = title.rsplit_once('-').map_or("", |(above, _)| above);
    let near = |other: &&String| {
        let (parent, _) = other.rsplit_once('-').unwrap_or_default();
        *other != title && (other.as_str() == above || parent == title || (parent == above && above != "rs"))
    };
    let mut line: Vec<_> = Vec::new();
    for page in all.iter().filter(near) {
        line.extend([bold(page.as_str()), roman(format!("({SECTION}), "))]);
    }
    line.extend([
        bold("docker"),
        roman("(1), "),
        bold("dockerd"),
        roman("(8), "),
        italic("systemd.service"),
        roman("(5)"),
    ]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text(line);
}
