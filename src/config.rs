//! The daemon's settings: flag over environment over file over default, all checked before anything is
//! touched.
//!
//! `resolve` is pure, so every case of precedence is a unit test. `load` is the same with the process's
//! real environment and the file that `--config` names.

mod advertise;
mod closest;
mod error;
mod file;
mod flags;
mod pool;
mod sources;
mod store;
mod text;

use std::path::{Path, PathBuf};

pub use advertise::Advertise;
pub use error::ConfigError;
pub use flags::Flags;
pub use pool::AddrPool;
pub use store::{StoreOptions, check_store_url};
pub use text::{LogFormat, LogLevel};

use crate::model::ScopeChoice;
use sources::Sources;

/// Where the daemon listens for the engine, and where the other commands find it.
pub const DEFAULT_SOCKET: &str = "/run/docker/plugins/rs-overlay.sock";
/// Where the daemon keeps what must survive a restart.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rs-overlay";
/// Where the engine listens on a host with default settings.
pub const DEFAULT_DOCKER_HOST: &str = "/var/run/docker.sock";
/// The UDP port that IANA gave to VXLAN (RFC 7348, section 5).
pub const DEFAULT_VXLAN_PORT: u16 = 4789;

/// Names of all settings that may stand in a file, in the order in which `--help` lists them. Each is
/// the flag without its dashes; the environment variable follows from it by `env_name`.
pub const SETTINGS: [&str; 12] = [
    "cluster-store",
    "cluster-advertise",
    "cluster-store-opt",
    "state-dir",
    "socket",
    "docker-host",
    "scope",
    "vxlan-port",
    "default-addr-pool",
    "hostname",
    "log-level",
    "log-format",
];

/// The environment entry by which a managed plugin's configuration tells the daemon that it is one.
pub const MANAGED: &str = "RS_OVERLAY_MANAGED";

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
    /// Whether the engine runs this daemon as a managed plugin.
    pub managed: bool,
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

/// Reads the process's environment and the file named by `--config` or `RS_OVERLAY_CONFIG`, and
/// resolves all settings.
pub fn load(flags: Flags) -> Result<DaemonConfig, ConfigError> {
    for setting in SETTINGS.into_iter().chain(["config"]) {
        let name = env_name(setting);
        if let Some(Err(raw)) = std::env::var_os(&name).map(std::ffi::OsString::into_string) {
            return Err(ConfigError::value(name, raw.to_string_lossy(), "is not UTF-8"));
        }
    }
    let env = |name: &str| std::env::var(name).ok();
    let file = read_file(&flags, &env)?;
    let machine = nix::unistd::gethostname().unwrap_or_default();
    resolve(flags, env, file.as_deref(), &machine.to_string_lossy())
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
    let file = file.map(file::parse).transpose()?.unwrap_or_default();
    let sources = Sources::new(&env, &file);

    let state_dir = sources
        .one("state-dir", flags.state_dir, text::absolute_path)?
        .unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR));
    let cluster_store = sources
        .one("cluster-store", flags.cluster_store, |url| check_store_url(url).map(|()| url.to_owned()))?
        .unwrap_or_else(|| format!("embedded://{}", state_dir.join("store").display()));
    let mut default_addr_pools =
        sources.many("default-addr-pool", flags.default_addr_pool, str::parse::<AddrPool>)?;
    if default_addr_pools.is_empty() {
        default_addr_pools.push(AddrPool::standard());
    }
    let hostname = match sources.one("hostname", flags.hostname, text::hostname)? {
        Some(name) => name,
        None => text::hostname(machine).map_err(|problem| {
            ConfigError::value("the machine's name", machine, format!("{problem}; give --hostname"))
        })?,
    };
    Ok(DaemonConfig {
        cluster_store,
        store_options: store::options(&sources, flags.cluster_store_opt)?,
        cluster_advertise: sources.one(
            "cluster-advertise",
            flags.cluster_advertise,
            str::parse::<Advertise>,
        )?,
        state_dir,
        socket: sources
            .one("socket", flags.socket, text::socket_path)?
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
        docker_host: sources
            .one("docker-host", flags.docker_host, text::docker_host)?
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DOCKER_HOST)),
        scope: sources.one("scope", flags.scope, text::scope)?.unwrap_or_default(),
        managed: managed(&env)?,
        vxlan_port: sources.one("vxlan-port", flags.vxlan_port, text::port)?.unwrap_or(DEFAULT_VXLAN_PORT),
        default_addr_pools,
        hostname,
        log_level: sources.one("log-level", flags.log_level, str::parse::<LogLevel>)?.unwrap_or_default(),
        log_format: sources.one("log-format", flags.log_format, str::parse::<LogFormat>)?.unwrap_or_default(),
    })
}

/// No setting of a user's: a managed plugin's own configuration says what it is, and nothing else about its
/// process would.
fn managed(env: &impl Fn(&str) -> Option<String>) -> Result<bool, ConfigError> {
    let Some(value) = env(MANAGED).filter(|value| !value.is_empty()) else { return Ok(false) };
    text::yes_or_no(&value).map_err(|problem| ConfigError::value(MANAGED, value, problem))
}

fn read_file(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, ConfigError> {
    let (name, path) = match (&flags.config, env("RS_OVERLAY_CONFIG").filter(|path| !path.is_empty())) {
        (Some(path), _) => ("--config", path.clone()),
        (None, Some(path)) => ("RS_OVERLAY_CONFIG", path),
        (None, None) => return Ok(None),
    };
    match std::fs::read_to_string(Path::new(&path)) {
        Ok(text) => Ok(Some(text)),
        Err(err) => Err(ConfigError::value(name, path, format!("cannot be read: {err}; give a TOML file"))),
    }
}

#[cfg(test)]
mod tests;
