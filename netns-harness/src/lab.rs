//! A whole lab: fabric, store and hosts, taken down when it is dropped.

mod builder;
mod teardown;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

pub use builder::LabBuilder;
pub use teardown::KEEP_LOGS_ENV;

use crate::command::Run;
use crate::fabric::Fabric;
use crate::files;
use crate::host::{Host, SwarmRole};
use crate::kinds::{EngineVersion, Family, StoreKind};
use crate::parts;
use crate::resolver::Resolver;
use crate::shape::{RECORD, Shape, base_directory, check_name};
use crate::store_server::StoreServer;

/// Several Docker hosts on one underlay, with a cluster store.
#[derive(Debug)]
pub struct Lab {
    shape: Arc<Shape>,
    fabric: Arc<Fabric>,
    resolver: Resolver,
    store: StoreServer,
    hosts: Vec<Host>,
    owned: bool,
}

impl Lab {
    /// Describe a new lab; by default two hosts with this machine's engine, no store, IPv4, MTU 1500, no daemon.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// The running lab of this name, as another process left it; dropping it changes nothing.
    pub fn attach(name: &str) -> Result<Self> {
        check_name(name)?;
        let record = base_directory().join(name).join(RECORD);
        if !record.exists() {
            let names = Self::names();
            let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("no lab {name} runs here; labs that do: {others}");
        }
        Self::assemble(files::read_json(&record)?, false)
    }

    /// Names of all labs that have files on this machine, sorted.
    pub fn names() -> Vec<String> {
        let Ok(entries) = fs::read_dir(base_directory()) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join(RECORD).exists())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Take down the lab of this name, whoever started it and in whatever state it is; fine when there is none.
    pub fn down(name: &str) -> Result<()> {
        teardown::down(name)
    }

    /// Leave the lab running when this process ends; [`Lab::down`] takes it down.
    pub fn detach(mut self) -> Result<()> {
        let shape = Shape { owner: None, ..(*self.shape).clone() };
        self.fabric.namespaces.detach()?;
        self.hosts.iter().try_for_each(Host::detach)?;
        files::write_json(&shape.record(), &shape)?;
        self.owned = false;
        Ok(())
    }

    /// Take the lab down and tell what went wrong with that; dropping it does the same in silence.
    pub fn finish(mut self) -> Result<()> {
        if !self.owned {
            bail!("lab {} belongs to another process: use Lab::down", self.name());
        }
        self.owned = false;
        self.end()
    }

    /// The kind of cluster store.
    pub fn store_kind(&self) -> StoreKind {
        self.shape.store
    }

    /// Address family of the underlay.
    pub fn family(&self) -> Family {
        self.shape.family
    }

    /// Whether the lab was detached from the process that built it.
    pub fn is_detached(&self) -> bool {
        self.shape.owner.is_none()
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        &self.shape.name
    }

    /// Directory of all the lab's files.
    pub fn dir(&self) -> PathBuf {
        self.shape.directory()
    }

    /// Host by number, from 1.
    ///
    /// # Panics
    ///
    /// When the lab has no such host: the test that asks is wrong.
    pub fn host(&self, number: usize) -> &Host {
        let index = number.checked_sub(1);
        let host = index.and_then(|index| self.hosts.get(index));
        host.unwrap_or_else(|| {
            panic!("no host {number}: lab {} has hosts 1 to {}", self.name(), self.hosts.len())
        })
    }

    /// All hosts, in order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The store.
    pub fn store(&self) -> &StoreServer {
        &self.store
    }

    /// A program in the namespace of the switch and the store, for long-running use: `switch` has the store's address,
    /// `portN` is the port of host N (to capture, delay or lose its frames).
    pub fn fabric_command(&self, argv: &[&str]) -> Command {
        let mut command = self.fabric.namespaces.command("env");
        command.args(argv);
        command
    }

    /// The same, run to its end; gives its output without surrounding white space.
    pub fn fabric_exec(&self, argv: &[&str]) -> Result<String> {
        Run::from_command(self.fabric_command(argv)).text()
    }

    /// What the first host's daemon gets as `--cluster-store`; empty without a store.
    pub fn store_url(&self) -> String {
        self.store.url()
    }

    /// Make one swarm of all hosts, of which the first `managers` manage it.
    pub fn swarm(&self, managers: usize) -> Result<()> {
        let Some((first, others)) = self.hosts.split_first() else { return Ok(()) };
        first.swarm_init()?;
        for host in others {
            let role = if host.number() <= managers { SwarmRole::Manager } else { SwarmRole::Worker };
            host.swarm_join(first, role)?;
        }
        Ok(())
    }

    /// The daemon's kernel state on all hosts that are on, as readable lines: see [`Host::leftovers`].
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for host in &self.hosts {
            lines.extend(
                host.leftovers().with_context(|| format!("cannot look for leftovers on {}", host.name()))?,
            );
        }
        Ok(lines)
    }

    fn assemble(shape: Shape, owned: bool) -> Result<Self> {
        let shape = Arc::new(shape);
        let fabric = Arc::new(Fabric::new(Arc::clone(&shape)));
        let store = StoreServer::new(Arc::clone(&shape), Arc::clone(&fabric));
        let resolver = Resolver::new(Arc::clone(&shape), Arc::clone(&fabric));
        let mut hosts = Vec::new();
        for (number, version) in (1..).zip(&shape.engines) {
            hosts.push(Self::host_of(&shape, &fabric, number, *version)?);
        }
        Ok(Self { shape, fabric, resolver, store, hosts, owned })
    }

    fn host_of(shape: &Arc<Shape>, fabric: &Arc<Fabric>, number: u8, version: EngineVersion) -> Result<Host> {
        let parts = parts::engine(version).with_context(|| format!("cannot provide engine {version}"))?;
        Ok(Host::new(number, version, parts, Arc::clone(fabric), Arc::clone(shape)))
    }

    fn end(&self) -> Result<()> {
        // What cannot be ended one by one is tried once more from its records, which has the last word.
        let hosts: Vec<Result<()>> = self.hosts.iter().map(Host::power_off).collect();
        let fabric =
            self.fabric.namespaces.end().and_then(|()| self.store.reap()).and_then(|()| self.resolver.reap());
        teardown::down(self.name())?;
        hosts.into_iter().chain([fabric]).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = self.end() {
            // Nobody is left to return this to; what remains is found by `netns-harness down`.
            let _ = fs::write(self.dir().join("teardown-error"), format!("{error:#}\n"));
        }
    }
}
