//! The host's Docker engine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Host;
use crate::files;
use crate::http;
use crate::parts;
use crate::wait::wait_until;

const START_LIMIT: Duration = Duration::from_mins(2);
const CONTAINERD_PID: &str = "/run/docker/containerd/containerd.pid";

impl Host {
    /// Start the engine and wait until it answers.
    pub fn engine_start(&self) -> Result<()> {
        let cgroup = format!("/{}/{}", self.shape.cgroup(), self.name());
        let mut argv =
            vec!["dockerd", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &cgroup];
        let dns = self.shape.store_address().to_string();
        if self.shape.resolver.is_some() {
            argv.extend(["--dns", &dns]);
        }
        let store = self.shape.store_url(self.number).unwrap_or_default();
        if self.shape.classic {
            argv.extend(["--cluster-store", &store, "--cluster-advertise", "eth1:2376"]);
        }
        argv.extend(self.shape.engine_args.iter().map(String::as_str));
        let socket = self.namespaces.path("/run/docker.sock")?;
        self.engine
            .start(&self.command(&argv), START_LIMIT, || http::get_unix(&socket, "/_ping").map(|_| true))
    }

    /// End the engine with a signal and wait until it and its containerd are gone.
    ///
    /// SIGTERM stops the containers as well, SIGKILL leaves them running.
    pub fn engine_stop(&self, signal: Signal) -> Result<()> {
        self.engine.end(signal)?;
        self.containerd_gone()
    }

    /// End the engine with a signal and start it again.
    pub fn engine_restart(&self, signal: Signal) -> Result<()> {
        self.engine_stop(signal)?;
        self.engine_start()
    }

    /// Whether the engine's process is there.
    pub fn engine_running(&self) -> bool {
        self.engine.process().is_some()
    }

    /// All the engine has logged, over all its starts.
    pub fn engine_log(&self) -> String {
        self.engine.log()
    }

    /// Body of `GET path` of the engine's API, such as `/containers/web/json`: milliseconds sooner than `docker` tells.
    pub fn engine_get(&self, path: &str) -> Result<String> {
        http::get_unix(&self.namespaces.path("/run/docker.sock")?, path)
    }

    /// Bring the image that tests run to the engine, as `busybox:latest`.
    pub(crate) fn import_image(&self) -> Result<()> {
        let image = parts::image()?;
        self.docker(&["import", &image.to_string_lossy(), "busybox:latest"]).map(drop)
    }

    /// A file of `docker`'s own configuration that names where this engine's compose is.
    pub(super) fn write_cli_config(&self) -> Result<()> {
        let Some(plugins) = &self.parts.cli_plugins else { return Ok(()) };
        let directory = self.directory.join("docker-config");
        fs::create_dir_all(&directory)?;
        files::write_json(
            &directory.join("config.json"),
            &serde_json::json!({ "cliPluginsExtraDirs": [plugins] }),
        )
    }

    /// The next engine would take a containerd that is about to end for its own.
    fn containerd_gone(&self) -> Result<()> {
        let record = self.namespaces.path(CONTAINERD_PID)?;
        let Ok(pid) = fs::read_to_string(&record) else { return Ok(()) };
        let process = self.namespaces.path(&format!("/proc/{}", pid.trim()))?;
        wait_until("the end of containerd", Duration::from_mins(1), || !process.exists())
            .with_context(|| format!("containerd of {} outlives its dockerd", self.name()))?;
        files::remove(&record)
    }
}
