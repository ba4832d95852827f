//! The Docker engine of this host, seen through its API. The one place that knows that API.
//!
//! It never takes part in a driver call: the engine holds locks while it calls us, and asking it back
//! from a handler can wait for ever. Names, networks and the state of containers are learnt beside it:
//! events are hints, inspection is the truth, and every new connection asks for a full look.

mod answers;
mod connection;
mod docker;
mod driver_name;
mod events;
mod info;
pub mod names;

use std::{collections::BTreeMap, net::IpAddr};

use futures_util::future::BoxFuture;
use ipnet::IpNet;

use crate::model::EngineMode;

pub use docker::{Deadlines, DockerEngine};
pub use driver_name::DriverName;
pub use events::EngineEvents;

/// What every call on an engine gives.
pub type EngineFuture<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// An engine's API, as far as it is needed. Every call ends within a deadline.
pub trait EngineApi: Send + Sync + 'static {
    /// Which engine it is; also the way to see whether it answers.
    fn version(&self) -> EngineFuture<'_, EngineInfo>;

    /// How it runs: by itself, with a cluster store of its own, or in a swarm.
    fn mode(&self) -> EngineFuture<'_, EngineMode>;

    /// All networks whose driver is `driver`, or `driver` with a tag (a managed plugin's name has one,
    /// such as `rs-overlay:latest`), each with its endpoints, sorted by id.
    fn networks<'a>(&'a self, driver: &'a str) -> EngineFuture<'a, Vec<EngineNetwork>>;

    /// The network with just this id or just this name. The engine itself would also take the beginning
    /// of an id, which a name may happen to be; that is not taken here.
    fn network<'a>(&'a self, id_or_name: &'a str) -> EngineFuture<'a, Option<EngineNetwork>>;

    /// Creates a network and answers its id. The engine calls our own driver meanwhile.
    fn create_network<'a>(&'a self, spec: &'a NetworkSpec) -> EngineFuture<'a, String>;

    /// Removes a network; one that is not there is no error.
    fn remove_network<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()>;

    /// A container, running or not. Waits, up to the deadline, while the engine is connecting the
    /// container to a network: do not repeat it without a pause.
    fn container<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<EngineContainer>>;

    /// The full ids of all running containers, sorted.
    fn containers(&self) -> EngineFuture<'_, Vec<String>>;

    /// The name of the managed plugin with this id, with its tag.
    fn plugin_name<'a>(&'a self, id: &'a str) -> EngineFuture<'a, String>;

    /// Follows the engine from now on. Must be called inside a tokio runtime.
    fn events(&self) -> EngineEvents;
}

/// Which engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its own version, as it states it: `28.5.2+dfsg4`.
    pub version: String,
    /// The API version that is spoken with it: `1.44`, or less with an older engine.
    pub api_version: String,
}

/// A network as the engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineNetwork {
    /// Full id: 64 hexadecimal digits, or 25 letters and digits in a swarm.
    pub id: String,
    /// Name.
    pub name: String,
    /// Driver, with the tag where the driver is a managed plugin.
    pub driver: String,
    /// `local`, `global` or `swarm`.
    pub scope: String,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `-o` options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IPAM driver; `default` is the engine's own.
    pub ipam_driver: String,
    /// `--ipam-opt` options.
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets, in the order in which they were given.
    pub ipam: Vec<IpamConfig>,
    /// Endpoints of started containers, by full endpoint id.
    pub endpoints: BTreeMap<String, EngineEndpoint>,
    /// When it was created, RFC 3339 as the engine writes it.
    pub created: String,
}

/// One subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamConfig {
    /// `--subnet`.
    pub subnet: Option<IpNet>,
    /// `--gateway`.
    pub gateway: Option<IpAddr>,
    /// `--ip-range`.
    pub ip_range: Option<IpNet>,
    /// `--aux-address`: name to address.
    pub aux: BTreeMap<String, IpAddr>,
}

/// An endpoint in a network's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEndpoint {
    /// Full id of its container; absent while engines from 28 on are still joining it.
    pub container: Option<String>,
    /// The container's name. Up to 27 it is the container's id while the container is being joined.
    pub name: String,
}

/// What `docker network create` needs.
#[expect(clippy::struct_excessive_bools, reason = "the flags of `docker network create`")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name; another network of that name is an error.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--ipv4=false`, which takes an engine of API 1.48 (Docker 28).
    pub without_ipv4: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `-o` options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IPAM driver; empty means the engine's own.
    pub ipam_driver: String,
    /// `--ipam-opt` options.
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets, in order.
    pub ipam: Vec<IpamConfig>,
}

/// A container as the engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineContainer {
    /// Full id.
    pub id: String,
    /// Name, without the `/` that the API puts in front.
    pub name: String,
    /// Hostname; the short id unless the user chose one.
    pub hostname: String,
    /// Whether its process runs.
    pub running: bool,
    /// Path of its network namespace, in the engine's view of the file system; absent when stopped.
    pub sandbox_key: Option<String>,
    /// Networks by Docker's network id. A container that was created and never started has none: the
    /// engine resolves its networks when it starts.
    pub networks: BTreeMap<String, EngineAttachment>,
}

/// A container's place in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineAttachment {
    /// Full endpoint id; absent when the container does not run.
    pub endpoint: Option<String>,
    /// Aliases as the engine gives them: below API 1.45 with the short id and the hostname among them.
    pub aliases: Vec<String>,
    /// All names that the engine's resolver answers there; empty with engines below API 1.44.
    pub dns_names: Vec<String>,
}

/// What an engine tells. An event is a hint to look at the object it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// The engine answers and its events are followed. Comes first, after every outage, and when events
    /// had to be left out: anything may have changed.
    Connected,
    /// The engine is away; once per outage. What is known stays as it is.
    Lost(String),
    /// Something happened to a network.
    Network {
        /// Full id.
        id: String,
        /// What.
        action: NetworkAction,
        /// Full id of the container that was connected or disconnected.
        container: Option<String>,
    },
    /// Something happened to a container.
    Container {
        /// Full id.
        id: String,
        /// What.
        action: ContainerAction,
    },
}

/// What happened to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAction {
    /// It was created.
    Create,
    /// It was removed.
    Destroy,
    /// A container joined it. Not told for a stopped container.
    Connect,
    /// A container left it. Engines from 28 on do not tell it for a stopped container.
    Disconnect,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerAction {
    /// It was created.
    Create,
    /// Its process runs.
    Start,
    /// Its process ended.
    Die,
    /// It was removed.
    Destroy,
    /// It has a new name. No driver call and no network event comes with it.
    Rename,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is nobody at the socket.
    #[error("the Docker engine at {host} cannot be reached: {detail}; is dockerd running?")]
    Unreachable {
        /// The socket.
        host: String,
        /// What the transport said.
        detail: String,
    },
    /// Another network has the name.
    #[error("the Docker engine already has a network named {name}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A network still has endpoints.
    #[error("Docker network {network} is in use: {detail}")]
    InUse {
        /// The network, as it was asked for.
        network: String,
        /// The engine's words.
        detail: String,
    },
    /// The engine does not have what a request needs.
    #[error("{what}: {detail}")]
    NotFound {
        /// What was asked, and of which object.
        what: String,
        /// The engine's words.
        detail: String,
    },
    /// The engine is too old for it, and was not asked.
    #[error("{what}: {detail}")]
    Unable {
        /// What was wanted, and of which object.
        what: String,
        /// What the engine lacks, and since when others have it.
        detail: String,
    },
    /// The engine said no.
    #[error("{what}: the Docker engine refuses: {detail}")]
    Refused {
        /// What was asked, and of which object.
        what: String,
        /// The engine's words.
        detail: String,
    },
    /// The engine did not answer in time. A change may have happened or not.
    #[error("{what}: no answer from the Docker engine in time")]
    Timeout {
        /// What was asked, and of which object.
        what: String,
    },
    /// The engine's answer makes no sense.
    #[error("{what}: the Docker engine's answer cannot be understood: {detail}")]
    Malformed {
        /// What was asked, and of which object.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}
