//! Containers of a host, seen from inside and out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Host;

/// The part of `docker inspect`'s `.NetworkSettings.Networks` that holds addresses; empty where there is none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attachment {
    #[serde(rename = "IPAddress", default)]
    v4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    v6: String,
}

impl Host {
    /// Run a program of the container inside it (`docker exec`).
    pub fn in_container(&self, name: &str, argv: &[&str]) -> Result<String> {
        self.docker(&[&["exec", name], argv].concat())
    }

    /// Run a program of this machine in the container's network namespace; the rest is the host's.
    pub fn container_netns(&self, name: &str, argv: &[&str]) -> Result<String> {
        let pid = self.container_pid(name)?;
        self.exec(&[&["nsenter", "-t", &pid, "-n", "--"], argv].concat())
    }

    /// The file of the container's network namespace as this machine sees it; it is gone when the container is.
    pub fn container_namespace(&self, name: &str) -> Result<PathBuf> {
        self.path(&format!("/proc/{}/ns/net", self.container_pid(name)?))
    }

    /// Number of the container's first process among those of the host.
    pub fn container_pid(&self, name: &str) -> Result<String> {
        let pid = self.docker(&["inspect", "--type", "container", "-f", "{{.State.Pid}}", name])?;
        ensure!(pid != "0", "container {name} on {} does not run", self.name());
        Ok(pid)
    }

    /// The container's IPv4 address in a network; its IPv6 address where it has that alone.
    pub fn address(&self, name: &str, network: &str) -> Result<IpAddr> {
        let attachment = self.attachment(name, network)?;
        let text = if attachment.v4.is_empty() { attachment.v6 } else { attachment.v4 };
        self.parse_address(name, network, &text)
    }

    /// The container's IPv6 address in a network.
    pub fn address6(&self, name: &str, network: &str) -> Result<IpAddr> {
        let attachment = self.attachment(name, network)?;
        self.parse_address(name, network, &attachment.v6)
    }

    fn attachment(&self, name: &str, network: &str) -> Result<Attachment> {
        let text = self.docker(&[
            "inspect",
            "--type",
            "container",
            "-f",
            "{{json .NetworkSettings.Networks}}",
            name,
        ])?;
        let mut all: BTreeMap<String, Attachment> = serde_json::from_str(&text)
            .with_context(|| format!("cannot read the networks of {name}: {text}"))?;
        all.remove(network)
            .with_context(|| format!("container {name} on {} is not in {network}: {text}", self.name()))
    }

    fn parse_address(&self, name: &str, network: &str, text: &str) -> Result<IpAddr> {
        text.parse().with_context(|| {
            format!("container {name} on {} has no such address in {network}: {text:?}", self.name())
        })
    }
}
