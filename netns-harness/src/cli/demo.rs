//! `demo`: build a lab, show a compose project's life on its hosts, and take all down.

mod asking;
mod engines;
mod heartbeat;
mod left;
mod picture;
mod project;
mod show;
mod stage;
mod summary;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use netns_harness::{EngineVersion, KEEP_LOGS_ENV, Lab, StoreKind, interrupt};

use super::{print, progress};
use stage::Stage;

/// The whole error after an interrupt: which command it was that gave up is of no use to the person who asked for it.
const INTERRUPTED: &str = "interrupted";

/// What the demo is made of.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The rs-overlay binary
    #[arg(long, value_name = "PATH")]
    daemon: PathBuf,
    /// Docker engine: 20.10 (20.10.24), 20.10.5, 26.1 or 28.5; give several and the hosts take turns [default: 20.10
    /// with compose v1, and 28.5 with compose v2]
    #[arg(long = "engine", value_name = "VERSION")]
    engines: Vec<EngineVersion>,
    /// Number of hosts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    hosts: u8,
    /// Cluster store: etcd, consul or embedded (in the first host's daemon)
    #[arg(long, default_value = "etcd")]
    store: StoreKind,
    /// Name of the lab
    #[arg(long, default_value = "demo")]
    name: String,
}

/// Build, show, take down, whatever comes in between. An error when any step fails.
pub(super) fn demo(args: &DemoArgs) -> Result<()> {
    interrupt::on_signals()?;
    ensure!(
        args.store != StoreKind::None,
        "the hosts of a demo meet in a store: choose etcd, consul or embedded"
    );
    ensure!(args.daemon.is_file(), "no daemon at {}: build it with `make build`", args.daemon.display());
    print(&format!(
        "{} Docker hosts in network namespaces of this machine, cluster store {}\n",
        args.hosts, args.store
    ))?;
    let engines = engines::provide(&args.engines, args.hosts)?;
    let started = Instant::now();
    let lab = Lab::builder()
        .name(&args.name)
        .hosts(&engines)
        .store(args.store)
        .daemon(&args.daemon)
        .build_with_progress(&progress)
        .map_err(|error| if interrupt::interrupted() { anyhow!(INTERRUPTED) } else { error })?;
    progress(&format!("everything is up after {:.1} s", started.elapsed().as_secs_f32()));
    let stage = Stage::new(&args.daemon, project::directory(&lab));
    let mut shown = show::show(&stage, &lab);
    if interrupt::interrupted() {
        shown = Err(anyhow!(INTERRUPTED));
    } else if shown.is_err() {
        stage.bad("This step failed: the reason follows when all is torn down.")?;
        progress(&format!("with {KEEP_LOGS_ENV}=DIR in the environment, the logs are kept there"));
    }
    let ending = Instant::now();
    let ended = lab.finish().context("the demo's hosts cannot be torn down");
    if ended.is_ok() {
        let took = ending.elapsed().as_secs_f32();
        print(&format!("\nEverything is torn down: hosts, store, links and files ({took:.1} s).\n"))?;
    }
    shown.and(ended)
}
