//! The network between the hosts: one switch, one port per host, in a namespace with the store servers.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::command::Run;
use crate::namespaces::Namespaces;
use crate::process::Process;
use crate::shape::Shape;

/// Bridge port states as the kernel numbers them (`linux/if_bridge.h`).
const DISABLED: &str = "0";
const FORWARDING: &str = "3";

/// The switch of a lab.
#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) namespaces: Namespaces,
    pub(crate) directory: PathBuf,
    shape: Arc<Shape>,
}

impl Fabric {
    pub(crate) fn new(shape: Arc<Shape>) -> Self {
        let directory = shape.directory().join("fabric");
        let title = format!("fabric of {}", shape.name);
        Self { namespaces: Namespaces::new(title, directory.clone()), directory, shape }
    }

    /// Make the switch, with the store's address on it.
    pub(crate) fn start(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot create {}", self.directory.display()))?;
        self.namespaces.start("hostname fabric", &[], self.shape.owner.is_some())?;
        let (address, prefix) = (self.shape.store_address(), self.shape.prefix());
        self.namespaces.ip_batch(&[
            "link set lo up".into(),
            "link add name switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0".into(),
            format!("addr add {address}/{prefix} dev switch{}", self.shape.address_options()),
            "link set switch up".into(),
        ])
    }

    /// Wire a host's namespace to the switch: its end is `eth1`.
    pub(crate) fn plug(&self, number: u8, host: Process) -> Result<()> {
        let (port, mtu) = (port(number), self.shape.mtu);
        self.namespaces.ip_batch(&[
            format!("link add {port} mtu {mtu} type veth peer name eth1 mtu {mtu} netns {}", host.pid),
            format!("link set {port} master switch up"),
        ])
    }

    /// Remove a host's port, in case the kernel has not yet done so after the end of the host's namespace.
    pub(crate) fn unplug(&self, number: u8) -> Result<()> {
        let port = port(number);
        let Some(init) = self.namespaces.init() else { return Ok(()) };
        let run = Run::new("nsenter").args(["-t", &init.pid.to_string(), "-n", "ip", "link", "del", &port]);
        let output = run.in_teardown().output()?;
        if !output.status.success() && !output.stderr.contains("Cannot find device") {
            bail!("cannot remove {port}: {}", output.stderr.trim());
        }
        Ok(())
    }

    /// Drop all frames of this host's port in both directions, or forward them again. The link stays up on both
    /// ends, as with a fault further away in the network.
    pub(crate) fn cut(&self, number: u8, cut: bool) -> Result<()> {
        let (init, state) = (self.namespaces.on()?.pid.to_string(), if cut { DISABLED } else { FORWARDING });
        // `ip link` takes this setting as well, but the port is forwarding again when it has done so.
        Run::new("nsenter")
            .args(["-t", &init, "-n", "bridge", "link", "set", "dev", &port(number), "state", state])
            .text()
            .with_context(|| format!("cannot cut or heal port {number}"))
            .map(drop)
    }

    /// Change the MTU of the switch's end of this host's cable.
    pub(crate) fn set_mtu(&self, number: u8, mtu: u32) -> Result<()> {
        self.namespaces.ip_batch(&[format!("link set {} mtu {mtu}", port(number))])
    }
}

fn port(number: u8) -> String {
    format!("port{number}")
}
