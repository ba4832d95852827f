//! What a lab can be made of: engine versions, cluster stores, underlay families.

use std::fmt;
use std::str::FromStr;

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// A Docker engine the harness can run on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EngineVersion {
    /// 20.10.24, Debian 12's own, built without cluster store support: taken from this machine.
    V20_10_24,
    /// 20.10.5 of Debian 11, the last one built with `--cluster-store` for etcd and consul.
    V20_10_5,
    /// 26.1 of Debian 13.
    V26_1,
    /// 28.5 of Debian's unstable branch.
    V28_5,
}

impl EngineVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V20_10_5, Self::V20_10_24, Self::V26_1, Self::V28_5];

    /// The version as it is written on the command line, such as `26.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V20_10_24 => "20.10.24",
            Self::V20_10_5 => "20.10.5",
            Self::V26_1 => "26.1",
            Self::V28_5 => "28.5",
        }
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EngineVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "20.10" | "20.10.24" => Self::V20_10_24,
            "20.10.5" => Self::V20_10_5,
            "26.1" => Self::V26_1,
            "28.5" => Self::V28_5,
            _ => bail!("no engine {text:?} here: choose 20.10 (20.10.24), 20.10.5, 26.1 or 28.5"),
        })
    }
}

/// The cluster store that a lab's daemons share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One etcd server at the store address, port 2379.
    Etcd,
    /// One consul server at the store address, port 8500.
    Consul,
    /// A file opened by the first host's daemon, which serves it to the others on a Unix socket.
    Embedded,
    /// No store at all.
    None,
}

impl StoreKind {
    /// The kind as it is written on the command line, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Consul => "consul",
            Self::Embedded => "embedded",
            Self::None => "none",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StoreKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "etcd" => Self::Etcd,
            "consul" => Self::Consul,
            "embedded" => Self::Embedded,
            "none" => Self::None,
            _ => bail!("no store {text:?} here: choose etcd, consul, embedded or none"),
        })
    }
}

/// Address family of the underlay that joins the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `192.0.2.N/24`, the store at `192.0.2.254` (documentation range, RFC 5737).
    V4,
    /// `2001:db8::N/64`, the store at `2001:db8::fe` (documentation range, RFC 3849); no IPv4 on the underlay.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

impl FromStr for Family {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "v4" => Self::V4,
            "v6" => Self::V6,
            _ => bail!("no address family {text:?}: choose v4 or v6"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_what_it_prints() {
        for version in EngineVersion::ALL {
            assert_eq!(version.to_string().parse::<EngineVersion>().unwrap(), version);
        }
        for kind in [StoreKind::Etcd, StoreKind::Consul, StoreKind::Embedded, StoreKind::None] {
            assert_eq!(kind.to_string().parse::<StoreKind>().unwrap(), kind);
        }
        for family in [Family::V4, Family::V6] {
            assert_eq!(family.to_string().parse::<Family>().unwrap(), family);
        }
    }

    #[test]
    fn the_short_20_10_is_debian_12s() {
        assert_eq!("20.10".parse::<EngineVersion>().unwrap(), EngineVersion::V20_10_24);
    }

    #[test]
    fn an_unknown_version_names_the_choices() {
        let error = "19.03".parse::<EngineVersion>().unwrap_err().to_string();
        assert!(error.contains("19.03") && error.contains("26.1"), "{error}");
    }
}
