//! What of the daemon's kernel state is still on a host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::statfs::statfs;
use serde::Deserialize;

use super::Host;

/// Type of the file system that namespace files are on (`linux/magic.h`).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Protocol number of the routes that the daemon adds.
const ROUTE_PROTOCOL: &str = "82";

/// The daemon's device that is there as long as its namespace is.
const PROBE_DEVICE: &str = "x16777215";

/// Bridges that Docker makes by itself.
const DOCKER_BRIDGES: [&str; 2] = ["docker0", "docker_gwbridge"];

#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    linkinfo: LinkInfo,
}

#[derive(Debug, Default, Deserialize)]
struct LinkInfo {
    #[serde(default)]
    info_kind: String,
}

impl Host {
    /// One line per VXLAN device, per bridge that is not Docker's, per veth named `rs…` and per route of protocol 82,
    /// in the host's own network namespace and in every one pinned below `/run/docker`, `/run/rs-overlay` or
    /// `/run/netns`. Nothing on a host that is off.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        if !self.is_on() {
            return Ok(Vec::new());
        }
        let mut lines = self.leftovers_in(None)?;
        for pin in self.pinned_namespaces()? {
            lines.extend(self.leftovers_in(Some(&pin))?);
        }
        Ok(lines)
    }

    fn leftovers_in(&self, pin: Option<&str>) -> Result<Vec<String>> {
        let place = format!("{}{}", self.name(), pin.map_or_else(String::new, |pin| format!(" in {pin}")));
        let enter = pin.map(|pin| format!("--net={pin}"));
        let prefix: Vec<&str> = enter.iter().flat_map(|enter| ["nsenter", enter, "--"]).collect();
        let ip = |args: &[&str]| self.exec(&[&prefix[..], &["ip"], args].concat());
        let links = match ip(&["-json", "-details", "link", "show"]) {
            // A sandbox may go between the listing and the look into it.
            Err(_) if pin.is_some_and(|pin| !self.is_pinned(pin)) => return Ok(Vec::new()),
            links => links?,
        };
        let links: Vec<Link> = serde_json::from_str(&links).context("cannot read what `ip link` says")?;
        let mut found: Vec<String> = links
            .iter()
            .filter(|link| link.is_ours())
            .map(|link| format!("{place}: {} {}", link.linkinfo.info_kind, link.ifname))
            .collect();
        for family in ["-4", "-6"] {
            let routes = ip(&[family, "route", "show", "table", "all", "proto", ROUTE_PROTOCOL])?;
            found.extend(routes.lines().map(|route| format!("{place}: route {}", route.trim())));
        }
        Ok(found)
    }

    /// Paths inside the host, each namespace once.
    fn pinned_namespaces(&self) -> Result<Vec<String>> {
        let root = self.namespaces.path("")?;
        let mut seen = BTreeSet::new();
        let mut pins = Vec::new();
        for directory in ["run/docker", "run/rs-overlay", "run/netns"] {
            for file in namespace_files(&root.join(directory), 4) {
                let Ok(metadata) = fs::metadata(&file) else { continue };
                if seen.insert(metadata.ino()) {
                    pins.push(format!("/{}", file.strip_prefix(&root)?.display()));
                }
            }
        }
        Ok(pins)
    }

    fn is_pinned(&self, pin: &str) -> bool {
        self.namespaces.path(pin).is_ok_and(|path| is_namespace(&path))
    }
}

impl Link {
    fn is_ours(&self) -> bool {
        match self.linkinfo.info_kind.as_str() {
            // Hosts ask for each other on this one, with or without networks.
            "vxlan" => self.ifname != PROBE_DEVICE,
            "bridge" => !DOCKER_BRIDGES.contains(&&*self.ifname) && !self.ifname.starts_with("br-"),
            "veth" => self.ifname.starts_with("rs"),
            _ => false,
        }
    }
}

fn namespace_files(directory: &Path, depth: u8) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => files.extend(namespace_files(&path, depth - 1)),
            Ok(kind) if kind.is_file() && is_namespace(&path) => files.push(path),
            _ => {}
        }
    }
    files
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str) -> Link {
        Link { ifname: name.into(), linkinfo: LinkInfo { info_kind: kind.into() } }
    }

    #[test]
    fn dockers_own_links_are_not_ours() {
        for (name, kind) in
            [("docker0", "bridge"), ("br-0a1b", "bridge"), ("veth1", "veth"), ("eth1", "veth"), ("lo", "")]
        {
            assert!(!link(name, kind).is_ours(), "{name}");
        }
        for (name, kind) in [("x", "vxlan"), ("rsbr", "bridge"), ("rs0a1b", "veth")] {
            assert!(link(name, kind).is_ours(), "{name}");
        }
    }

    #[test]
    fn links_without_details_are_read() {
        let links: Vec<Link> =
            serde_json::from_str(r#"[{"ifname":"lo"},{"ifname":"a","linkinfo":{}}]"#).unwrap();
        assert!(links.iter().all(|link| !link.is_ours()));
    }
}
