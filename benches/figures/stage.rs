//! Hosts, networks and containers to measure with.

use std::{fmt, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use netns_harness::{EngineVersion, Host, Lab, LabBuilder, StoreKind, wait_until};
use rs_overlay::dataplane::namespace::Namespace;

use crate::Context;

/// The only engine that has an overlay network of its own without a swarm, so that all others are measured on it
/// as well.
pub(crate) const ENGINE: EngineVersion = EngineVersion::V20_10_5;
/// What a network of ours is created with.
pub(crate) const OURS_DRIVER: [&str; 4] = ["-d", "rs-overlay", "--ipam-driver", "rs-overlay"];
/// Docker's own, on engines with a cluster store.
pub(crate) const THEIR_DRIVER: [&str; 2] = ["-d", "overlay"];

/// Longest wait for something that takes a moment on a machine that is not busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A lab to be built, with the daemon that is measured. Names that nobody knows are denied at once.
pub(crate) fn lab(context: &Context, hosts: usize, store: StoreKind) -> LabBuilder {
    Lab::builder().hosts(&vec![ENGINE; hosts]).store(store).daemon(&context.daemon).resolver(&[])
}

/// Creates a network on the first host, and waits until all hosts have it.
pub(crate) fn network(lab: &Lab, name: &str, driver: &[&str]) -> Result<()> {
    lab.host(1).docker(&[&["network", "create"], driver, &[name]].concat())?;
    for host in lab.hosts() {
        let names = || host.docker(&["network", "ls", "--format", "{{.Name}}"]);
        wait_until(&format!("network {name} on {}", host.name()), SOON, || {
            names().map(|names| names.lines().any(|line| line == name))
        })?;
    }
    Ok(())
}

/// Starts a container that does nothing but wait.
pub(crate) fn container(host: &Host, name: &str, network: &str) -> Result<()> {
    host.docker(&["run", "-d", "--name", name, "--net", network, "busybox", "sleep", "3600"]).map(drop)
}

/// One end of what is measured: a network namespace of a host, with its address there.
pub(crate) struct End<'a> {
    /// Where it is.
    pub(crate) host: &'a Host,
    /// The namespace.
    pub(crate) namespace: Namespace,
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Path of the namespace as its host sees it.
    pub(crate) inside: String,
}

impl fmt::Debug for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.ip, self.host.name())
    }
}

impl<'a> End<'a> {
    /// A container that is started for this.
    pub(crate) fn container(host: &'a Host, name: &str, network: &str) -> Result<Self> {
        container(host, name, network)?;
        let inside = format!("/proc/{}/ns/net", host.container_pid(name)?);
        Self::at(host, inside, host.address(name, network)?)
    }

    /// A namespace of a host by its path there.
    pub(crate) fn at(host: &'a Host, inside: String, ip: IpAddr) -> Result<Self> {
        let path = host.path(&inside)?;
        let namespace = Namespace::open(&path)
            .with_context(|| format!("cannot open network namespace {inside} of {}", host.name()))?;
        Ok(Self { host, namespace, ip, inside })
    }

    /// The host itself.
    pub(crate) fn of_host(host: &'a Host) -> Result<Self> {
        Self::at(host, "/proc/1/ns/net".to_owned(), host.vtep())
    }

    /// Whether the other end answers: the first packets find the way.
    pub(crate) fn reaches(&self, other: &End<'_>) -> Result<()> {
        let ip = other.ip.to_string();
        let enter = format!("--net={}", self.inside);
        wait_until(&format!("{ip} to answer"), SOON, || {
            self.host.exec(&["nsenter", &enter, "ping", "-n", "-c", "1", "-W", "1", &ip]).map(|_| true)
        })
    }
}
