//! What a lab is, as written to its directory: enough for another invocation to find and use it.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::kinds::{EngineVersion, Family, StoreKind};
use crate::process::Process;

/// Environment variable that moves the directory under which labs keep their files.
pub const DIRECTORY_ENV: &str = "NETNS_HARNESS_DIR";

const DEFAULT_DIRECTORY: &str = "/var/tmp/netns-harness";

/// Directory under which every lab has one of its own.
pub(crate) fn base_directory() -> PathBuf {
    let directory =
        env::var_os(DIRECTORY_ENV).map_or_else(|| PathBuf::from("/var/tmp/netns-harness"), PathBuf::from);
    // Only an empty path has no absolute form, and it fails where it is used.
    std::path::absolute(&directory).unwrap_or(directory)
}

/// Refuse a name that is no plain word: it becomes part of paths that are removed.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        (1..=32).contains(&name.len()) && name.chars().all(plain),
        "a lab's name is 1 to 32 of a-z, 0-9 and `-`, not {name:?}"
    );
    Ok(())
}

/// A lab's fixed properties.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) engines: Vec<EngineVersion>,
    pub(crate) store: StoreKind,
    pub(crate) family: Family,
    pub(crate) mtu: u32,
    pub(crate) daemon: Option<PathBuf>,
    pub(crate) daemon_args: Vec<String>,
    pub(crate) engine_args: Vec<String>,
    /// Whether the engines are clients of the lab's store themselves, as those up to 20.10 can be.
    #[serde(default)]
    pub(crate) classic: bool,
    /// Names and addresses that the lab's DNS server knows, if there is one.
    pub(crate) resolver: Option<Vec<(String, IpAddr)>>,
    /// Whether every power-on gives a host a boot id of its own.
    pub(crate) own_boot_id: bool,
    /// The process that takes the lab down when it ends; none once the lab was detached.
    pub(crate) owner: Option<Process>,
}

impl Shape {
    pub(crate) fn directory(&self) -> PathBuf {
        base_directory().join(&self.name)
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.directory().join(RECORD)
    }

    /// Underlay address of host `number`, from 1.
    pub(crate) fn host_address(&self, number: u8) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// Underlay address of the store server (`.254`, `::fe`), which is also the hosts' default gateway.
    pub(crate) fn store_address(&self) -> IpAddr {
        self.host_address(254)
    }

    /// Prefix length of the underlay.
    pub(crate) fn prefix(&self) -> u8 {
        match self.family {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }

    /// `ip` options of an address: duplicate detection would hold an IPv6 address back for a second.
    pub(crate) fn address_options(&self) -> &'static str {
        match self.family {
            Family::V4 => "",
            Family::V6 => " nodad",
        }
    }

    /// Cgroup of all containers of the lab, under every hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        cgroup(&self.name)
    }

    /// Socket on which the first host's daemon serves the embedded store.
    pub(crate) fn embedded_socket(&self) -> PathBuf {
        self.directory().join("store").join("cluster.sock")
    }

    /// Port on which the store's server takes clients; none without a server.
    pub(crate) fn store_port(&self) -> Option<u16> {
        match self.store {
            StoreKind::Etcd => Some(ETCD_PORT),
            StoreKind::Consul => Some(CONSUL_PORT),
            StoreKind::Embedded | StoreKind::None => None,
        }
    }

    /// Value of `--cluster-store` for host `number`; none without a store.
    pub(crate) fn store_url(&self, number: u8) -> Option<String> {
        match self.store {
            StoreKind::Etcd | StoreKind::Consul => {
                let server = SocketAddr::new(self.store_address(), self.store_port()?);
                Some(format!("{}://{server}", self.store))
            }
            StoreKind::Embedded if number == 1 => {
                Some(format!("embedded://{}", self.directory().join("store").join("cluster").display()))
            }
            StoreKind::Embedded => Some(format!("unix://{}", self.embedded_socket().display())),
            StoreKind::None => None,
        }
    }
}

/// Name of the file that holds a lab's [`Shape`].
pub(crate) const RECORD: &str = "lab.json";

/// Client port of etcd.
const ETCD_PORT: u16 = 2379;

/// HTTP port of consul.
const CONSUL_PORT: u16 = 8500;

/// Cgroup of all containers of the lab of this name. Cgroups are one tree for the whole machine, and labs under
/// different directories may have the same name.
pub(crate) fn cgroup(name: &str) -> String {
    let base = base_directory();
    if base == Path::new(DEFAULT_DIRECTORY) {
        return format!("netns-harness-{name}");
    }
    format!("netns-harness-{name}@{}", base.to_string_lossy().replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(store: StoreKind, family: Family) -> Shape {
        Shape {
            name: "name".into(),
            engines: vec![EngineVersion::V26_1],
            store,
            family,
            mtu: 1500,
            daemon: None,
            daemon_args: Vec::new(),
            engine_args: Vec::new(),
            classic: false,
            resolver: None,
            own_boot_id: true,
            owner: None,
        }
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        check_name("a-lab-2").unwrap();
        for name in ["", "..", "a/b", "A", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn servers_have_one_address_for_all_hosts() {
        assert_eq!(shape(StoreKind::Etcd, Family::V4).store_url(2).unwrap(), "etcd://192.0.2.254:2379");
        assert_eq!(
            shape(StoreKind::Consul, Family::V6).store_url(1).unwrap(),
            "consul://[2001:db8::fe]:8500"
        );
        assert_eq!(shape(StoreKind::None, Family::V4).store_url(1), None);
    }

    #[test]
    fn only_the_first_host_opens_the_embedded_store() {
        let shape = shape(StoreKind::Embedded, Family::V4);
        assert!(shape.store_url(1).unwrap().starts_with("embedded:///"));
        assert!(shape.store_url(1).unwrap().ends_with("/name/store/cluster"));
        assert!(shape.store_url(2).unwrap().ends_with("/name/store/cluster.sock"));
    }
}
