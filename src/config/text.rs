//! Checks of the settings that are one word, one number or one path. Every refusal says what is right.

use std::{path::PathBuf, str::FromStr};

use crate::model::ScopeChoice;

/// Least important level that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures that someone must look at.
    Error,
    /// Deviations that mend themselves.
    Warn,
    /// Changes that a user sees.
    #[default]
    Info,
    /// What happened and why.
    Debug,
    /// Every message.
    Trace,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `--scope`.
pub(super) fn scope(text: &str) -> Result<ScopeChoice, &'static str> {
    match text {
        "auto" => Ok(ScopeChoice::Auto),
        "local" => Ok(ScopeChoice::Local),
        "global" => Ok(ScopeChoice::Global),
        _ => Err("no such scope; give auto, local or global"),
    }
}

impl FromStr for LogLevel {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err("no such level; give trace, debug, info, warn or error"),
        }
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("no such format; give text or json"),
        }
    }
}

/// A path that does not depend on the directory in which the daemon was started.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(PathBuf::from(text))
    } else {
        Err("no absolute path; give one that begins with /")
    }
}

/// The path of a unix socket: the kernel takes 107 bytes (`sun_path`, unix(7)).
pub(super) fn socket_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.len() > 107 {
        return Err("longer than the 107 bytes that a unix socket's path may have; give a shorter one");
    }
    if text.ends_with('/') {
        return Err("a directory; give the path of a socket in it");
    }
    absolute_path(text)
}

/// The engine's socket, as `unix:///path` or as a path.
pub(super) fn docker_host(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.contains("://") || !path.starts_with('/') {
        return Err("the engine is reached over its local socket only; give for example \
                    unix:///var/run/docker.sock"
            .to_owned());
    }
    socket_path(path).map_err(str::to_owned)
}

/// A UDP port.
pub(super) fn port(text: &str) -> Result<u16, &'static str> {
    match text.parse::<u16>() {
        Ok(port @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err("no UDP port; give a number from 1 to 65535"),
    }
}

/// A host's name: 1 to 253 letters, digits, `-`, `.` and `_`.
pub(super) fn hostname(text: &str) -> Result<String, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if plain && (1..=253).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("no host name; give 1 to 253 letters, digits, '-', '.' or '_'")
    }
}
