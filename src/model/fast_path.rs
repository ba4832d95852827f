//! Whether packets may go past the bridges.

use std::{fmt, str::FromStr};

/// `--fast-path`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FastPathMode {
    /// Where the kernel can.
    #[default]
    Auto,
    /// A daemon whose kernel cannot does not start.
    On,
    /// By the bridges.
    Off,
}

impl FastPathMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for FastPathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FastPathMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("no such way; give auto, on or off"),
        }
    }
}
