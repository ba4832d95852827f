//! `up`: build a lab and leave it running.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use netns_harness::{EngineVersion, Family, Lab, StoreKind, interrupt};

use super::{LabName, progress};

/// What the lab is made of.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    lab: LabName,
    /// Number of hosts; by default as many as engines are given, and 2 without any
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    hosts: Option<u8>,
    /// Docker engine: 20.10 (20.10.24), 20.10.5, 26.1 or 28.5; give several and the hosts take turns
    #[arg(long = "engine", value_name = "VERSION")]
    engines: Vec<EngineVersion>,
    /// Cluster store: etcd, consul, embedded (in the first host's daemon) or none
    #[arg(long, default_value = "none")]
    store: StoreKind,
    /// Give every dockerd a cluster store of its own: the lab's etcd or consul; engines 20.10 only
    #[arg(long)]
    classic: bool,
    /// Address family of the underlay: v4 (`192.0.2.N`) or v6 (`2001:db8::N`)
    #[arg(long, default_value = "v4")]
    family: Family,
    /// MTU of the underlay in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// The rs-overlay binary to run as a daemon on every host; without it, none is started
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// Directory of a managed plugin (`make plugin`) that every engine gets as `rs-overlay`
    #[arg(long, value_name = "DIR", conflicts_with = "daemon")]
    plugin: Option<PathBuf>,
    /// One swarm of all hosts, of which the first one is the manager
    #[arg(long)]
    swarm: bool,
    /// One more argument for every daemon; may be repeated
    #[arg(long = "daemon-arg", value_name = "ARG", allow_hyphen_values = true)]
    daemon_args: Vec<String>,
    /// One more argument for every dockerd; may be repeated
    #[arg(long = "engine-arg", value_name = "ARG", allow_hyphen_values = true)]
    engine_args: Vec<String>,
}

/// Build the lab; an interrupt takes what is there down again.
pub(super) fn up(args: UpArgs) -> Result<()> {
    let started = Instant::now();
    interrupt::on_signals()?;
    let name = args.lab.name.clone();
    let strings = |list: &[String]| list.to_vec();
    let (daemon_args, engine_args) = (strings(&args.daemon_args), strings(&args.engine_args));
    let mut builder = Lab::builder()
        .name(&name)
        .hosts(&args.engines())
        .store(args.store)
        .family(args.family)
        .mtu(args.mtu)
        .daemon_args(&daemon_args.iter().map(String::as_str).collect::<Vec<_>>())
        .engine_args(&engine_args.iter().map(String::as_str).collect::<Vec<_>>());
    if args.classic {
        builder = builder.classic();
    }
    if let Some(daemon) = args.daemon {
        builder = builder.daemon(daemon);
    }
    let lab = builder.build_with_progress(&progress)?;
    if args.swarm {
        lab.swarm(1)?;
        progress("the hosts are a swarm, host1 its manager");
    }
    if let Some(directory) = &args.plugin {
        let directory = directory.canonicalize()?;
        lab.hosts().iter().try_for_each(|host| host.plugin_install("rs-overlay", &directory, &[]))?;
        progress("every engine has the managed plugin rs-overlay");
    }
    let count = lab.hosts().len();
    if interrupt::interrupted() {
        bail!("interrupted");
    }
    lab.detach()?;
    let took = started.elapsed().as_secs_f32();
    progress(&format!(
        "lab {name} is up with {count} hosts after {took:.1} s: `netns-harness exec 1 docker ps`"
    ));
    Ok(())
}

impl UpArgs {
    fn engines(&self) -> Vec<EngineVersion> {
        let given = if self.engines.is_empty() { &[EngineVersion::V20_10_24][..] } else { &self.engines };
        let count = self.hosts.map_or(if self.engines.is_empty() { 2 } else { given.len() }, usize::from);
        given.iter().copied().cycle().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: UpArgs,
    }

    fn engines(line: &[&str]) -> Vec<String> {
        Line::parse_from([&["up"], line].concat()).up.engines().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hosts_take_turns_among_the_engines() {
        assert_eq!(engines(&[]), ["20.10.24", "20.10.24"]);
        assert_eq!(engines(&["--engine", "26.1", "--engine", "28.5"]), ["26.1", "28.5"]);
        assert_eq!(
            engines(&["--hosts", "3", "--engine", "26.1", "--engine", "28.5"]),
            ["26.1", "28.5", "26.1"]
        );
    }
}
