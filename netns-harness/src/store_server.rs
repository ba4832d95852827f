//! The server that holds the cluster's state, and what can go wrong with it.

mod faults;

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::fabric::Fabric;
use crate::http;
use crate::kinds::StoreKind;
use crate::parts;
use crate::service::Service;
use crate::shape::Shape;

const START_LIMIT: Duration = Duration::from_mins(2);

/// The store of a lab: a server process for etcd and consul, a file for the embedded one, nothing for none.
#[derive(Debug)]
pub struct StoreServer {
    shape: Arc<Shape>,
    fabric: Arc<Fabric>,
    service: Service,
    data: PathBuf,
}

impl StoreServer {
    pub(crate) fn new(shape: Arc<Shape>, fabric: Arc<Fabric>) -> Self {
        let service = Service::new("the store", shape.store.as_str(), &fabric.directory);
        let data = shape.directory().join("store");
        Self { shape, fabric, service, data }
    }

    /// What the first host's daemon gets as `--cluster-store`; empty without a store.
    pub fn url(&self) -> String {
        self.shape.store_url(1).unwrap_or_default()
    }

    /// Start the server and wait until it answers. Nothing to do for the embedded store, which a daemon opens.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// The same with more arguments for the server.
    pub fn start_with(&self, more: &[&str]) -> Result<()> {
        fs::create_dir_all(&self.data).with_context(|| format!("cannot create {}", self.data.display()))?;
        let Some(server) = self.server() else { return Ok(()) };
        let data = self.data.to_string_lossy();
        let (binary, args, path) = if self.shape.store == StoreKind::Etcd {
            (parts::etcd_binary()?, etcd_args(server, &data, self.shape.classic), "/health")
        } else {
            (parts::consul_binary()?, consul_args(server, &data), "/v1/status/leader")
        };
        let mut command = self.fabric.namespaces.command(&binary.to_string_lossy());
        command.args(args).args(more);
        let fabric = self.fabric.namespaces.on()?;
        self.service.start(&command, START_LIMIT, || {
            let answer = http::get_tcp(fabric, server, path)?;
            // Consul answers with an empty string in quotes as long as there is no leader.
            ensure!(!answer.trim().trim_matches('"').is_empty(), "the server has no leader yet");
            Ok(true)
        })
    }

    /// Kill the server without notice; its data stay.
    pub fn kill(&self) -> Result<()> {
        self.require_server("killed")?;
        self.service.end(Signal::SIGKILL)
    }

    /// Stop the server in its tracks: connections stay open and nobody answers.
    pub fn pause(&self) -> Result<()> {
        self.require_server("paused")?;
        self.service.signal(Signal::SIGSTOP)
    }

    /// Let a paused server go on.
    pub fn resume(&self) -> Result<()> {
        self.require_server("resumed")?;
        self.service.signal(Signal::SIGCONT)
    }

    /// Lose all data. A server that runs is killed first and then started empty; one that does not stays down. The
    /// daemon that has the embedded store open keeps the lost file open until it ends.
    pub fn wipe(&self) -> Result<()> {
        let runs = self.running();
        if self.server().is_some() {
            self.service.end(Signal::SIGKILL)?;
        }
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot wipe {}", self.data.display()));
            }
            _ => fs::create_dir_all(&self.data)?,
        }
        if runs { self.start() } else { Ok(()) }
    }

    /// Whether the server's process is there; a paused one is. Always false without a server.
    pub fn running(&self) -> bool {
        self.service.process().is_some()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// Forget the server's process after the fabric it ran in has ended.
    pub(crate) fn reap(&self) -> Result<()> {
        self.service.end(Signal::SIGKILL)
    }

    fn server(&self) -> Option<SocketAddr> {
        let port = self.shape.store_port()?;
        Some(SocketAddr::new(self.shape.store_address(), port))
    }

    fn require_server(&self, what: &str) -> Result<()> {
        if self.server().is_none() {
            bail!("this lab's store ({}) has no server that could be {what}", self.shape.store);
        }
        Ok(())
    }
}

fn etcd_args(server: SocketAddr, data: &str, classic: bool) -> Vec<String> {
    let url = format!("http://{server}");
    let args = ["--data-dir", data, "--listen-client-urls", &url, "--advertise-client-urls", &url];
    // The engines' own client speaks the API that etcd had before.
    args.into_iter().chain(classic.then_some("--enable-v2")).map(String::from).collect()
}

fn consul_args(server: SocketAddr, data: &str) -> Vec<String> {
    let address = server.ip().to_string();
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    // The default multiplier of 5 is for slow machines in production: 5 s and more to elect itself.
    let fast = "performance { raft_multiplier = 1 }";
    ["agent", "-server", "-bootstrap", "-bind", &address, "-client", any, "-data-dir", data, "-hcl", fast]
        .map(String::from)
        .into()
}
