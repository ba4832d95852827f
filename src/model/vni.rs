//! VXLAN network identifiers (RFC 7348: 24 bits).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A VXLAN network identifier, 1 to 16777215.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// Why a number is no VNI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is not a number from 1 to 16777215")]
pub struct VniError(String);

impl Vni {
    /// The largest VNI.
    pub const MAX: u32 = 0x00ff_ffff;
    /// The first VNI that is chosen automatically. The ones below are left to people, and to Docker's own overlay
    /// driver: it numbers a swarm's networks from 4096 on, and takes that one as soon as a host joins a swarm.
    pub const FIRST_AUTOMATIC: u32 = 1 << 16;

    /// The first VNI that a swarm's network gets. Docker's own overlay driver numbers a swarm's networks from
    /// 4096 on, and makes their devices on a host only with the first task there.
    pub const FIRST_IN_SWARMS: u32 = 1 << 20;

    /// The probe network's own VNI; no network of containers gets it.
    pub const PROBE: Self = Self(Self::MAX);

    /// Checks and wraps `number`.
    pub fn new(number: u32) -> Result<Self, VniError> {
        if (1..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(VniError(number.to_string())) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;
    fn try_from(number: u32) -> Result<Self, VniError> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl FromStr for Vni {
    type Err = VniError;
    fn from_str(text: &str) -> Result<Self, VniError> {
        text.trim().parse().ok().and_then(|n| Self::new(n).ok()).ok_or_else(|| VniError(text.to_owned()))
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
