//! The name by which engines remember a pool, for years: it says everything by itself.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

/// A pool as an engine holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolId {
    /// The subnet.
    pub cidr: IpNet,
    /// What the engine has of it.
    pub hold: Hold,
}

/// How an engine holds a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// In the local address space: a plain engine's network.
    Local,
    /// In the global address space: networks of a swarm's manager or of a cluster store.
    Global,
    /// A swarm node's second claim, in its local space, on a pool of the global space. What it asks for
    /// has been handed out by the manager, and what it gives back stays the manager's.
    Again,
}

/// Why a text is no pool id of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pool id {0:?} is not one that rs-overlay has given out")]
pub struct PoolIdError(String);

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hold = match self.hold {
            Hold::Local => "local",
            Hold::Global => "global",
            Hold::Again => "again",
        };
        write!(f, "rs-overlay/{hold}/{}", self.cidr)
    }
}

impl FromStr for PoolId {
    type Err = PoolIdError;
    fn from_str(text: &str) -> Result<Self, PoolIdError> {
        let error = || PoolIdError(text.to_owned());
        let rest = text.strip_prefix("rs-overlay/").ok_or_else(error)?;
        let (hold, cidr) = rest.split_once('/').ok_or_else(error)?;
        let hold = match hold {
            "local" => Hold::Local,
            "global" => Hold::Global,
            "again" => Hold::Again,
            _ => return Err(error()),
        };
        Ok(Self { cidr: cidr.parse::<IpNet>().map_err(|_| error())?.trunc(), hold })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comes_back_as_it_went() {
        for text in
            ["rs-overlay/local/10.9.0.0/24", "rs-overlay/global/fd00::/64", "rs-overlay/again/10.9.0.0/24"]
        {
            assert_eq!(text.parse::<PoolId>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = text.parse::<PoolId>();
        }
    }
}
