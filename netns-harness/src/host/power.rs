//! Power and cable of a host.

use std::fs;

use anyhow::{Context, Result};

use super::Host;

/// Sets up what a machine has to itself: `/sys` for its own links, an empty `/run`, its disk, its boot id.
///
/// Control groups are bound in again because a fresh `/sys` does not have them; `/proc` comes with the namespaces.
/// Mounts are shared among the host's own processes from then on, as on a machine that systemd started.
const BOOT: &str = r#"
hostname "$HOST_NAME"
mkdir -p "$STATE_DIR/cgroup" "$STATE_DIR"/disk/{docker,lib,etc} /var/lib/docker /var/lib/rs-overlay /etc/docker
mount --rbind /sys/fs/cgroup "$STATE_DIR/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$STATE_DIR/cgroup" /sys/fs/cgroup
umount --recursive --lazy "$STATE_DIR/cgroup"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/docker/plugins /run/netns /run/lock
mount --bind "$STATE_DIR/disk/docker" /var/lib/docker
mount --bind "$STATE_DIR/disk/lib" /var/lib/rs-overlay
mount --bind "$STATE_DIR/disk/etc" /etc/docker
if [ "$OWN_BOOT_ID" = yes ]; then
  cat /proc/sys/kernel/random/uuid >"$STATE_DIR/boot_id"
  mount --bind "$STATE_DIR/boot_id" /proc/sys/kernel/random/boot_id
fi
mount --make-rshared /
"#;

impl Host {
    /// Power on: boots with the disk as it was left and an empty `/run`, plugs the cable in, starts the daemon (if
    /// the lab has one) and the engine.
    pub fn power_on(&self) -> Result<()> {
        self.boot()?;
        self.daemon_boot()?;
        self.engine_start()
    }

    /// Cut the power: every process of the host and of its containers ends at once, `/run` and all network state
    /// are lost, the disk stays. Fine when it is off already.
    pub fn power_off(&self) -> Result<()> {
        self.namespaces.end().with_context(|| format!("cannot power off {}", self.name()))?;
        // The processes are gone with their namespace; this only drops the records and reaps.
        self.engine.end(nix::sys::signal::Signal::SIGKILL)?;
        self.daemon.end(nix::sys::signal::Signal::SIGKILL)?;
        self.fabric.unplug(self.number)
    }

    /// Cut the underlay for this host: all frames are dropped both ways while the links stay up; `false` heals it.
    pub fn cut(&self, cut: bool) -> Result<()> {
        self.fabric.cut(self.number, cut)
    }

    /// Set the MTU of the host's underlay link, on both of its ends.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.fabric.set_mtu(self.number, mtu)?;
        self.namespaces.ip_batch(&[format!("link set eth1 mtu {mtu}")])
    }

    /// Namespaces, mounts and links; no service yet.
    pub(crate) fn boot(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot create {}", self.directory.display()))?;
        self.write_cli_config()?;
        let own_boot_id = if self.shape.own_boot_id { "yes" } else { "no" };
        let vars = [("HOST_NAME", &*self.name()), ("OWN_BOOT_ID", own_boot_id)];
        self.namespaces.start(BOOT, &vars, self.shape.owner.is_some())?;
        self.fabric.plug(self.number, self.namespaces.on()?)?;
        let (address, prefix) = (self.vtep(), self.shape.prefix());
        self.namespaces.ip_batch(&[
            "link set lo up".into(),
            format!("addr add {address}/{prefix} dev eth1{}", self.shape.address_options()),
            "link set eth1 up".into(),
            format!("route add default via {}", self.shape.store_address()),
        ])
    }

    /// Let the host outlive the calling process.
    pub(crate) fn detach(&self) -> Result<()> {
        self.namespaces.detach()
    }
}
