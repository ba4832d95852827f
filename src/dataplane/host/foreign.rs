//! VXLAN devices and UDP ports that other programs hold on this host.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use netlink_packet_route::link::InfoKind;

use super::Host;
use crate::{
    dataplane::{
        DataplaneError,
        namespace::Namespace,
        netlink::{Channel, Failure, Link},
    },
    model::ForeignVxlan,
};

/// Where programs pin network namespaces: Docker's own overlay driver keeps its VXLAN devices in some of
/// the first.
const PINS: [&str; 2] = ["/var/run/docker/netns", "/var/run/netns"];
/// Namespaces that are looked into at once; a host with more has them for something else.
const NAMESPACES: usize = 64;
/// Digits in the name of a container's sandbox, where nobody makes VXLAN devices of the host.
const SANDBOX_NAME: usize = 12;
/// The kernel's list of UDP sockets has the inode in this column.
const INODE: usize = 9;

impl Host {
    /// VXLAN devices in the host's namespace. Ours are not among them: they live in a namespace of ours.
    pub async fn foreign_vxlans(&self) -> Result<Vec<ForeignVxlan>, DataplaneError> {
        let links = self.channel.links().await;
        let links = links.map_err(|failure| failure.during("reading the host's VXLAN devices"))?;
        Ok(links.iter().filter_map(|link| foreign(link, None)).collect())
    }

    /// The program that has a UDP socket on `port`, as far as the kernel tells; nothing: none.
    pub fn port_holder(&self, port: u16) -> Option<String> {
        port_holder(self.channel.namespace(), port)
    }

    /// VXLAN devices in other namespaces whose packets leave by the host's: what was created in the host's
    /// namespace and moved. What cannot be read is passed over.
    pub async fn moved_vxlans() -> Vec<ForeignVxlan> {
        moved_vxlans().await
    }
}

pub(in crate::dataplane) async fn moved_vxlans() -> Vec<ForeignVxlan> {
    let mut found = Vec::new();
    for path in pins() {
        let Ok(namespace) = Namespace::open(&path) else { continue };
        if let Ok(links) = links_of(namespace).await {
            let name = path.display().to_string();
            let moved = links.iter().filter(|link| link.lives_elsewhere());
            found.extend(moved.filter_map(|link| foreign(link, Some(&name))));
        }
    }
    found
}

async fn links_of(namespace: Namespace) -> Result<Vec<Link>, Failure> {
    Channel::new(Arc::new(namespace)).links().await
}

fn foreign(link: &Link, place: Option<&str>) -> Option<ForeignVxlan> {
    if !link.is(&InfoKind::Vxlan) {
        return None;
    }
    let (vni, port) = link.vxlan_key()?;
    let dev = place.map_or_else(|| link.name.clone(), |place| format!("{} in {place}", link.name));
    Some(ForeignVxlan { vni, port, dev })
}

fn pins() -> Vec<PathBuf> {
    let listed = PINS.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let paths = listed.map(|entry| entry.path()).filter(|path| !is_sandbox(path));
    paths.take(NAMESPACES).collect()
}

fn is_sandbox(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.starts_with(PINS[0])
        && (name == "default" || name.len() == SANDBOX_NAME && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The program that has a UDP socket on `port` in `namespace`, as far as the kernel tells.
pub(in crate::dataplane) fn port_holder(namespace: &Namespace, port: u16) -> Option<String> {
    let tables = namespace.run(|| {
        let read = |name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        [read("udp"), read("udp6")]
    });
    let inodes: Vec<_> = tables.ok()?.iter().flat_map(|table| sockets_on(table, port)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let holder = processes.filter(|path| holds(path, &inodes).unwrap_or(false)).min()?;
    let pid = holder.file_name()?.to_string_lossy().into_owned();
    let name = fs::read_to_string(holder.join("comm")).unwrap_or_default();
    Some(format!("program {} (process {pid})", name.trim()))
}

/// Inodes of the sockets on `port` in the kernel's list, without those of the kernel's own, which have none.
fn sockets_on(table: &str, port: u16) -> Vec<String> {
    let on_port = |line: &&str| {
        let local = line.split_whitespace().nth(1).and_then(|local| local.rsplit(':').next());
        local.and_then(|text| u16::from_str_radix(text, 16).ok()) == Some(port)
    };
    let inodes = table.lines().filter(on_port).filter_map(|line| line.split_whitespace().nth(INODE));
    inodes.filter(|inode| *inode != "0").map(|inode| format!("socket:[{inode}]")).collect()
}

fn holds(process: &Path, sockets: &[String]) -> io::Result<bool> {
    for entry in fs::read_dir(process.join("fd"))? {
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        if sockets.iter().any(|socket| target.as_os_str() == socket.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             100: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
             101: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
             102: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n";
        assert_eq!(sockets_on(table, 4789), ["socket:[4711]"]);
        assert!(sockets_on("rubbish\n\n: : :", 4789).is_empty());
    }

    #[test]
    fn sandboxes_are_passed_over() {
        for (path, sandbox) in [
            ("/var/run/docker/netns/0123456789ab", true),
            ("/var/run/docker/netns/default", true),
            ("/var/run/docker/netns/1-qx5l3fu9s4", false),
            ("/var/run/netns/0123456789ab", false),
        ] {
            assert_eq!(is_sandbox(Path::new(path)), sandbox, "{path}");
        }
    }
}
