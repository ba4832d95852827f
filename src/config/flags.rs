//! The flags of `rs-overlay daemon`, as text: values are checked in one place for all sources.

/// Flags as the user gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[allow(clippy::doc_markdown, reason = "these docstrings are help texts, where backticks would be noise")]
pub struct Flags {
    /// Cluster store that all hosts share: etcd://h1:2379,h2:2379[/prefix], consul://h:8500[/prefix],
    /// embedded:///path (this machine only) or unix:///path.sock (another daemon's embedded store)
    /// [default: embedded, in the state directory]
    #[arg(long, value_name = "URL")]
    pub cluster_store: Option<String>,

    /// Address or interface at which other hosts reach this one; a port is accepted, as dockerd accepted
    /// it, and not used [default: the interface of the default route]
    #[arg(long, value_name = "ADDR|IFACE[:PORT]")]
    pub cluster_advertise: Option<String>,

    /// Option of the store, repeatable: kv.cacertfile, kv.certfile, kv.keyfile, kv.path, kv.username,
    /// kv.passwordfile, kv.tokenfile
    #[arg(long, value_name = "KEY=VALUE")]
    pub cluster_store_opt: Vec<String>,

    /// Directory for what must survive a restart [default: /var/lib/rs-overlay]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<String>,

    /// Unix socket on which the engine finds the plugin
    /// [default: /run/docker/plugins/rs-overlay.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,

    /// Unix socket of the engine [default: unix:///var/run/docker.sock]
    #[arg(long, value_name = "unix://PATH")]
    pub docker_host: Option<String>,

    /// Scope that the driver answers: local on plain engines, global in swarm mode or with the engine's
    /// own cluster store; auto asks the engine how it runs [default: auto]
    #[arg(long, value_name = "auto|local|global")]
    pub scope: Option<String>,

    /// Whether packets go past the bridges (eBPF, Linux 6.6): auto where the kernel can, on to start in no other
    /// way, off [default: auto]
    #[arg(long, value_name = "auto|on|off")]
    pub fast_path: Option<String>,

    /// UDP port of VXLAN, the same on all hosts [default: 4789]
    #[arg(long, value_name = "PORT")]
    pub vxlan_port: Option<String>,

    /// Range from which subnets are cut when a user gives none, repeatable
    /// [default: base=10.0.0.0/8,size=24]
    #[arg(long, value_name = "base=CIDR,size=BITS")]
    pub default_addr_pool: Vec<String>,

    /// Name by which people know this host [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Least important messages to log: trace, debug, info, warn, error [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Shape of log lines on standard error: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// TOML file with settings, keys named as these flags, lists as arrays
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
}
