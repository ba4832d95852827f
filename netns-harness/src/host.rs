//! One Docker host: namespaces, an engine and a daemon of its own.

mod containers;
mod daemon;
mod engine;
mod freeze;
mod leftovers;
mod plugin;
mod power;
mod store_link;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

pub use plugin::SwarmRole;

use crate::command::{CommandOutput, Run};
use crate::fabric::Fabric;
use crate::kinds::EngineVersion;
use crate::namespaces::Namespaces;
use crate::parts::EngineParts;
use crate::service::Service;
use crate::shape::Shape;

/// A host of a lab. All methods may be called from several threads.
#[derive(Debug)]
pub struct Host {
    number: u8,
    version: EngineVersion,
    parts: EngineParts,
    shape: Arc<Shape>,
    fabric: Arc<Fabric>,
    directory: PathBuf,
    namespaces: Namespaces,
    engine: Service,
    daemon: Service,
}

impl Host {
    pub(crate) fn new(
        number: u8,
        version: EngineVersion,
        parts: EngineParts,
        fabric: Arc<Fabric>,
        shape: Arc<Shape>,
    ) -> Self {
        let name = format!("host{number}");
        let directory = shape.directory().join(&name);
        Self {
            number,
            version,
            parts,
            namespaces: Namespaces::new(format!("{name} of {}", shape.name), directory.clone()),
            engine: Service::new(&name, "dockerd", &directory),
            daemon: Service::new(&name, "rs-overlay", &directory),
            shape,
            fabric,
            directory,
        }
    }

    /// Number of the host in its lab, from 1.
    pub fn number(&self) -> usize {
        self.number.into()
    }

    /// Its host name, such as `host1`.
    pub fn name(&self) -> String {
        format!("host{}", self.number)
    }

    /// Version of its engine.
    pub fn engine_version(&self) -> EngineVersion {
        self.version
    }

    /// Its underlay address, on `eth1`.
    pub fn vtep(&self) -> IpAddr {
        self.shape.host_address(self.number)
    }

    /// Its files: `disk/docker` and `disk/lib` are its `/var/lib/docker` and `/var/lib/rs-overlay`, logs are beside them.
    pub fn dir(&self) -> &Path {
        &self.directory
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> bool {
        self.namespaces.init().is_some()
    }

    /// A program inside the host, for long-running or interactive use: `argv[0]` is found with the engine's `PATH`.
    ///
    /// It shares the host's network, mounts, host name and process numbers, and ends when the host is powered off.
    /// On a host that is off, the command prints so and exits with 125.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut path = std::ffi::OsString::from("PATH=");
        path.push(&self.parts.path_env);
        let mut command = self.namespaces.command("env");
        // The host's `docker` speaks to the host's engine, whatever the caller's own speaks to.
        command.args(["-u", "DOCKER_HOST", "-u", "DOCKER_CONTEXT"]).arg(path);
        if self.parts.cli_plugins.is_some() {
            command.arg(format!("DOCKER_CONFIG={}", self.directory.join("docker-config").display()));
        }
        command.args(argv);
        command
    }

    /// The same as [`Self::command`], to run to its end with a time limit and input of the caller's choice.
    pub fn run(&self, argv: &[&str]) -> Run {
        Run::from_command(self.command(argv))
    }

    /// A path of the host's as this machine sees it; `path` is absolute and free of symbolic links.
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        self.namespaces.path(path)
    }

    /// Run a program inside the host; gives its output without surrounding white space.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        self.run(argv).text()
    }

    /// Run the host's `docker`; gives its output without surrounding white space. The error shows the command, its
    /// exit and all it said.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        self.exec(&[&["docker"], args].concat())
    }

    /// Run the host's `docker`, whatever its exit status.
    pub fn docker_output(&self, args: &[&str]) -> Result<CommandOutput> {
        self.run(&[&["docker"], args].concat()).output()
    }
}
