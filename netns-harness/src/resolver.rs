//! A DNS server outside of all containers, as a company's or a provider's would be.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::fabric::Fabric;
use crate::http;
use crate::parts::installed;
use crate::service::Service;
use crate::shape::Shape;

/// The lab's DNS server, if it has one.
#[derive(Debug)]
pub(crate) struct Resolver {
    shape: Arc<Shape>,
    fabric: Arc<Fabric>,
    service: Service,
}

impl Resolver {
    pub(crate) fn new(shape: Arc<Shape>, fabric: Arc<Fabric>) -> Self {
        let service = Service::new("the fabric", "dnsmasq", &fabric.directory);
        Self { shape, fabric, service }
    }

    /// Start it and wait until it listens; nothing to do without names.
    pub(crate) fn start(&self) -> Result<()> {
        let Some(names) = &self.shape.resolver else { return Ok(()) };
        let mut text = String::new();
        for (name, address) in names {
            writeln!(text, "{address} {name}")?;
        }
        let hosts = self.fabric.directory.join("names");
        fs::write(&hosts, text).with_context(|| format!("cannot write {}", hosts.display()))?;
        let address = self.shape.store_address();
        let mut command =
            self.fabric.namespaces.command(&installed("dnsmasq", "dnsmasq-base")?.to_string_lossy());
        command
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root"])
            .args(["--conf-file=/dev/null", "--pid-file=", "--address=/#/", "--log-facility=-"])
            .arg(format!("--addn-hosts={}", hosts.display()))
            .arg(format!("--listen-address={address}"));
        let within = self.fabric.namespaces.on()?;
        let server = SocketAddr::new(address, 53);
        self.service.start(&command, Duration::from_mins(1), || http::connects(within, server).map(|()| true))
    }

    /// Forget its process after the fabric it ran in has ended.
    pub(crate) fn reap(&self) -> Result<()> {
        self.service.end(Signal::SIGKILL)
    }
}
