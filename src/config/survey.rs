//! All settings at once: what each is, where it comes from, and everything that is wrong with them.

use std::path::PathBuf;

use super::{AddrPool, Advertise, ConfigError, DaemonConfig, store};

/// The kind of place that a setting's value comes from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// Nobody gave it.
    Default,
}

/// A setting as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag without its dashes.
    pub name: &'static str,
    /// Its value as it was given, or the default in the same notation; nothing: there is none. Fit to be shown
    /// to anybody.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// The same for people: the flag, the variable, the file with its key.
    pub place: String,
}

/// What all sources say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Every setting, in the order of `SETTINGS`.
    pub settings: Vec<Setting>,
    /// The configuration file that was asked for.
    pub file: Option<PathBuf>,
    /// The settings for a daemon, or everything that is wrong.
    pub outcome: Result<DaemonConfig, Vec<ConfigError>>,
    /// What no daemon minds, and its user may: sentences.
    pub doubts: Vec<String>,
}

impl Survey {
    /// The settings for a daemon, or the first thing that is wrong.
    pub fn into_config(self) -> Result<DaemonConfig, ConfigError> {
        self.outcome.map_err(|errors| {
            let nothing = || ConfigError::place("the settings", "cannot be read");
            errors.into_iter().next().unwrap_or_else(nothing)
        })
    }
}

impl Setting {
    pub(super) fn new(name: &'static str, source: Source, place: &str, values: &[String]) -> Self {
        let shown = values.iter().map(|value| match name {
            "cluster-store-opt" => store::shown_option(value),
            _ => super::error::without_credentials(value),
        });
        let place = if source == Source::Default { "default" } else { place };
        Self { name, value: shown.collect::<Vec<_>>().join(" "), source, place: place.to_owned() }
    }

    /// Puts in what counts where nobody has given anything.
    pub(super) fn complete(&mut self, config: &DaemonConfig) {
        if self.source == Source::Default {
            self.value = of(self.name, config);
        }
    }
}

/// A setting's value in the notation in which users give it; nothing: there is none.
fn of(setting: &str, config: &DaemonConfig) -> String {
    match setting {
        "cluster-store" => config.cluster_store.clone(),
        "cluster-advertise" => {
            config.cluster_advertise.as_ref().map(Advertise::to_string).unwrap_or_default()
        }
        "state-dir" => config.state_dir.display().to_string(),
        "socket" => config.socket.display().to_string(),
        "docker-host" => format!("unix://{}", config.docker_host.display()),
        "scope" => config.scope.as_str().to_owned(),
        "fast-path" => config.fast_path.to_string(),
        "vxlan-port" => config.vxlan_port.to_string(),
        "default-addr-pool" => {
            config.default_addr_pools.iter().map(AddrPool::to_string).collect::<Vec<_>>().join(" ")
        }
        "hostname" => config.hostname.clone(),
        "log-level" => format!("{:?}", config.log_level).to_lowercase(),
        "log-format" => format!("{:?}", config.log_format).to_lowercase(),
        _ => String::new(),
    }
}
