//! The daemon's settings: flag over environment over file over default, all checked before anything is
//! touched.
//!
//! `resolve` is pure, so every case of precedence is a unit test. `load` is the same with the process's
//! real environment and the file that `--config` names, `survey` tells where each setting comes from.

mod advertise;
mod closest;
mod env_file;
mod error;
mod file;
mod flags;
mod here;
mod pool;
mod sources;
mod store;
mod survey;
mod text;

use std::path::PathBuf;

pub use advertise::Advertise;
pub use error::ConfigError;
pub use flags::Flags;
pub use here::{load, survey, survey_service};
pub use pool::AddrPool;
pub use store::{StoreOptions, check_store_url};
pub use survey::{Setting, Source, Survey};
pub use text::{LogFormat, LogLevel};

use crate::model::{FastPathMode, ScopeChoice};
use sources::Sources;

/// Where the daemon listens for the engine, and where the other commands find it.
pub const DEFAULT_SOCKET: &str = "/run/docker/plugins/rs-overlay.sock";
/// Where the daemon keeps what must survive a restart.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rs-overlay";
/// Where the engine listens on a host with default settings.
pub const DEFAULT_DOCKER_HOST: &str = "/var/run/docker.sock";
/// The UDP port that IANA gave to VXLAN (RFC 7348, section 5).
pub const DEFAULT_VXLAN_PORT: u16 = 4789;
/// The configuration file of the packaged service.
pub const SERVICE_CONFIG: &str = "/etc/rs-overlay/config.toml";
/// The file with the environment of the packaged service.
pub const SERVICE_ENVIRONMENT: &str = "/etc/default/rs-overlay";

/// Names of all settings that may stand in a file, in the order in which `--help` lists them. Each is
/// the flag without its dashes; the environment variable follows from it by `env_name`.
pub const SETTINGS: [&str; 13] = [
    "cluster-store",
    "cluster-advertise",
    "cluster-store-opt",
    "state-dir",
    "socket",
    "docker-host",
    "scope",
    "fast-path",
    "vxlan-port",
    "default-addr-pool",
    "hostname",
    "log-level",
    "log-format",
];

/// Settings that hold a list.
const LISTS: [&str; 2] = ["cluster-store-opt", "default-addr-pool"];

/// Everything that a user can choose, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// URL of the cluster store, as `check_store_url` accepts it. It holds no credentials.
    pub cluster_store: String,
    /// Certificates, credentials and the key prefix for the store.
    pub store_options: StoreOptions,
    /// Address or interface of the underlay; absent: the one on the default route.
    pub cluster_advertise: Option<Advertise>,
    /// Directory for what must survive a restart; absolute.
    pub state_dir: PathBuf,
    /// Unix socket on which the engine finds the plugin; absolute.
    pub socket: PathBuf,
    /// Unix socket of the engine; absolute.
    pub docker_host: PathBuf,
    /// Scope that the driver answers to the engine.
    pub scope: ScopeChoice,
    /// Whether packets may go past the bridges.
    pub fast_path: FastPathMode,
    /// UDP port of all VXLAN devices.
    pub vxlan_port: u16,
    /// Where subnets come from when a user gives none; never empty.
    pub default_addr_pools: Vec<AddrPool>,
    /// Name by which people know this host.
    pub hostname: String,
    /// Least important level that is logged.
    pub log_level: LogLevel,
    /// Shape of a log line.
    pub log_format: LogFormat,
}

/// The environment variable of a setting: `cluster-store` is `RS_OVERLAY_CLUSTER_STORE`.
pub fn env_name(setting: &str) -> String {
    format!("RS_OVERLAY_{}", setting.replace('-', "_").to_ascii_uppercase())
}

/// Joins the four sources of settings. `file` is the text of the configuration file, `machine` the
/// machine's own name, which is the default of `--hostname`. An empty variable counts as not set: that is
/// how a managed plugin's configuration holds variables that the user has not given. A list replaces the
/// list of a weaker source as a whole.
pub fn resolve(
    flags: Flags,
    env: impl Fn(&str) -> Option<String>,
    file: Option<&str>,
    machine: &str,
) -> Result<DaemonConfig, ConfigError> {
    resolve_all(flags, &env, file, machine, Vec::new()).into_config()
}

/// The same with all that is to be told of it; `errors` are those of reading the sources.
fn resolve_all(
    flags: Flags,
    env: &dyn Fn(&str) -> Option<String>,
    file: Option<&str>,
    machine: &str,
    mut errors: Vec<ConfigError>,
) -> Survey {
    let (file, wrong) = file.map(file::parse).unwrap_or_default();
    errors.extend(wrong);
    let sources = Sources::new(env, &file, errors);

    let state_dir = sources
        .one("state-dir", flags.state_dir, text::absolute_path)
        .unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR));
    let cluster_store = sources
        .one("cluster-store", flags.cluster_store, |url| check_store_url(url).map(|()| url.to_owned()))
        .unwrap_or_else(|| format!("embedded://{}", state_dir.join("store").display()));
    let mut default_addr_pools =
        sources.many("default-addr-pool", flags.default_addr_pool, str::parse::<AddrPool>);
    if default_addr_pools.is_empty() {
        default_addr_pools.push(AddrPool::standard());
    }
    let hostname = sources.one("hostname", flags.hostname, text::hostname).or_else(|| {
        let of_machine = text::hostname(machine).map_err(|problem| {
            ConfigError::value("the machine's name", machine, format!("{problem}; give --hostname"))
        });
        if sources.was_given("hostname") { None } else { sources.keep(of_machine) }
    });
    let config = DaemonConfig {
        cluster_store,
        store_options: store::options(&sources, flags.cluster_store_opt),
        cluster_advertise: sources.one("cluster-advertise", flags.cluster_advertise, str::parse::<Advertise>),
        state_dir,
        socket: sources
            .one("socket", flags.socket, text::socket_path)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
        docker_host: sources
            .one("docker-host", flags.docker_host, text::docker_host)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DOCKER_HOST)),
        scope: sources.one("scope", flags.scope, text::scope).unwrap_or_default(),
        fast_path: sources.one("fast-path", flags.fast_path, str::parse::<FastPathMode>).unwrap_or_default(),
        vxlan_port: sources.one("vxlan-port", flags.vxlan_port, text::port).unwrap_or(DEFAULT_VXLAN_PORT),
        default_addr_pools,
        hostname: hostname.unwrap_or_default(),
        log_level: sources.one("log-level", flags.log_level, str::parse::<LogLevel>).unwrap_or_default(),
        log_format: sources.one("log-format", flags.log_format, str::parse::<LogFormat>).unwrap_or_default(),
    };
    let (mut settings, errors) = sources.finish();
    for setting in &mut settings {
        setting.complete(&config);
    }
    settings.sort_by_key(|setting| SETTINGS.iter().position(|name| *name == setting.name));
    let outcome = if errors.is_empty() { Ok(config) } else { Err(errors) };
    Survey { settings, file: None, outcome, doubts: Vec::new() }
}

#[cfg(test)]
mod tests;
