//! The program under test as a managed plugin of the host's engine, and the host in a swarm.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::Host;

/// What a host does in a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwarmRole {
    /// It takes part in the decisions, and runs tasks.
    Manager,
    /// It runs tasks.
    Worker,
}

impl Host {
    /// Create a managed plugin from a directory that holds `config.json` and `rootfs`, make its settings and enable it.
    /// The store and the underlay's link are given to it in any case, unless the settings name others.
    pub fn plugin_install(&self, name: &str, directory: &Path, settings: &[(&str, &str)]) -> Result<()> {
        self.docker(&["plugin", "create", name, &directory.to_string_lossy()])?;
        self.plugin_set(name, settings)?;
        self.docker(&["plugin", "enable", name]).map(drop)
    }

    /// Make the settings of a plugin that is disabled, with the same defaults.
    pub fn plugin_set(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        let url = self.shape.store_url(self.number);
        let usual = [
            ("RS_OVERLAY_CLUSTER_STORE", url.as_deref().unwrap_or_default()),
            ("RS_OVERLAY_CLUSTER_ADVERTISE", "eth1"),
        ];
        let left = usual.into_iter().filter(|(key, _)| settings.iter().all(|(given, _)| given != key));
        let all: Vec<String> =
            left.chain(settings.iter().copied()).map(|(key, value)| format!("{key}={value}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.docker(&[&["plugin", "set", name], &all[..]].concat()).map(drop)
    }

    /// Id of the plugin, by which its engine names the plugin's directories.
    pub fn plugin_id(&self, name: &str) -> Result<String> {
        self.docker(&["plugin", "inspect", "-f", "{{.Id}}", name])
    }

    /// Begin a swarm, in which this host is a manager at its underlay address.
    pub fn swarm_init(&self) -> Result<()> {
        let own = self.vtep().to_string();
        self.docker(&["swarm", "init", "--advertise-addr", &own, "--listen-addr", &own]).map(drop)
    }

    /// Join the swarm that `manager` manages.
    pub fn swarm_join(&self, manager: &Self, role: SwarmRole) -> Result<()> {
        let role = match role {
            SwarmRole::Manager => "manager",
            SwarmRole::Worker => "worker",
        };
        let token = manager.docker(&["swarm", "join-token", "-q", role])?;
        // An address of IPv6 without a port is taken for a name.
        let (own, at) = (self.vtep().to_string(), SocketAddr::new(manager.vtep(), 2377).to_string());
        let line = ["swarm", "join", "--token", &token, "--advertise-addr", &own, "--listen-addr", &own, &at];
        self.docker(&line).map(drop)
    }

    /// Leave the swarm, also as its last manager.
    pub fn swarm_leave(&self) -> Result<()> {
        self.docker(&["swarm", "leave", "--force"]).map(drop)
    }
}
