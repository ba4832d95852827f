//! The host's own kernel, over route netlink.
//!
//! Bridges, VXLAN devices and the bridge's ends of the containers' veth pairs live in one namespace of
//! ours, out of reach of the host's packet filters; the tunnels' UDP sockets and the routing of their
//! packets stay in the host's namespace, where the devices are created.
//!
//! # How what is half made is observed
//!
//! Every deviation is shown as a value that no wish contains, so that `diff` repairs it if it is wanted
//! and deletes it if it is not:
//!
//! | In the kernel | In the `Overlay` | Repaired by |
//! |---|---|---|
//! | bridge missing, down, without alias, wrong settings; VXLAN device likewise | local `0.0.0.0`, port 0, no FDB | `ReplaceVxlan` |
//! | MTUs of bridge and VXLAN device differ | MTU 0 | `SetMtu` |
//! | no link says which network it is | network `unnamed` | `DeleteSegment`, `AddSegment` |
//! | port down, out of its bridge, wrong flags, static row missing or one too many | port with MTU 0 | `AddPort`, in place |
//! | one of an FDB entry's two rows missing or wrong | VTEP `0.0.0.0` | `SetFdb` |
//! | bridge that gives the tunnel frames for all, or does not | `flood` of the device | `ReplaceVxlan` |
//! | flood entry with settings that we never make | VTEP `0.0.0.0` | `DeleteFlood`, `SetFlood` |
//! | a port's source rules not whole | port with MTU 0 | `AddPort`, in place |
//! | a port has a part of the fast path, or one that leads elsewhere | port with MTU 0 | `AddPort`, in place |
//! | no program on the VXLAN device | `fast` of the segment is off | `SetPath` |
//! | fast path's map lacks a forwarding entry, or has one too many | VTEP `0.0.0.0` | `SetFdb`, `DeleteFdb` |
//! | neighbour of ours that is not permanent | the bridge's own MAC | `SetNeighbour` |
//!
//! The probe segment is one VXLAN device without a bridge (see `probe`); its address is part of being as it
//! should be, and what it learns is not shown.
//!
//! A MAC cannot be behind a port and behind a VTEP of the same segment at once: the bridge has one row for
//! it, and the later step wins.

mod attach;
mod choice;
mod entries;
mod error;
mod events;
mod fdb;
mod fit;
mod guards;
mod link_messages;
mod links;
mod neighbours;
mod observe;
mod paths;
mod ports;
mod probe;
mod routes;
mod segments;
mod socket;
mod tables;
mod trial;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use netlink_packet_route::link::InfoKind;
use tokio::{sync::mpsc, task::JoinSet};
use tracing::info;

pub(super) use self::{
    error::Failure,
    links::Link,
    socket::{Channel, messages, open_socket, receive},
};
use super::{
    Attachment, Changed, Dataplane, DataplaneError,
    fast_path::FastPath,
    names::{Named, parse_link},
    namespace::Namespace,
    quiet,
    sources::SourceRules,
};
use crate::{
    lockfile::{LockError, Lockfile, in_brackets},
    model::EndpointId,
    plan::{Op, Overlay},
};
pub use choice::DataPath;

/// Where our namespace is pinned unless the user says otherwise: under a directory that a managed plugin
/// shares with the host, so that a plugin and a plain daemon adopt each other's state.
pub const DEFAULT_NAMESPACE: &str = "/var/run/docker/rs-overlay/netns/overlay";

/// Which namespaces to work in.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// File on which our namespace is pinned.
    pub namespace: PathBuf,
    /// The host's namespace; absent: the one of the thread that opens the kernel.
    pub host_namespace: Option<PathBuf>,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self { namespace: DEFAULT_NAMESPACE.into(), host_namespace: None }
    }
}

/// The host's namespace: the one pinned at `path`, or the one of the calling thread.
pub(super) fn host_namespace(path: Option<&Path>) -> Result<Namespace, DataplaneError> {
    path.map_or_else(Namespace::current, Namespace::open).map_err(|error| DataplaneError::Refused {
        what: "the host's network namespace".into(),
        detail: error.to_string(),
    })
}

/// Keeps a second daemon away from the namespace: each would undo the other's work. The kernel drops the
/// lock with the process.
fn lock(namespace: &Path) -> Result<Lockfile, DataplaneError> {
    // A dot in front: whoever looks for namespaces here is not to meet it.
    let name = namespace.file_name().unwrap_or_default().to_string_lossy();
    let path = namespace.with_file_name(format!(".{name}.lock"));
    let what = format!("network namespace {}", namespace.display());
    if let Some(Err(error)) = path.parent().map(std::fs::create_dir_all) {
        return Err(DataplaneError::Refused { what, detail: error.to_string() });
    }
    Lockfile::take(&path).map_err(|error| match error {
        LockError::Io(error) => DataplaneError::Refused { what, detail: error.to_string() },
        LockError::Held(holder) => DataplaneError::Taken {
            what,
            holder: format!("another rs-overlay daemon{}", in_brackets(&holder)),
            remedy: "stop it first: a host has one".into(),
        },
    })
}

/// The kernel of this host.
#[derive(Debug)]
pub struct Kernel {
    inside: Channel,
    /// A second way into the same namespace: large tables are read side by side.
    aside: Arc<Channel>,
    host: Channel,
    adopted: bool,
    /// Which addresses each port may speak from.
    sources: Mutex<SourceRules>,
    /// The programs that take packets past the bridges.
    fast: Mutex<Option<FastPath>>,
    data_path: Mutex<DataPath>,
    /// Those who want to know that something has changed.
    told: Mutex<Vec<mpsc::WeakSender<Changed>>>,
    /// Held for as long as this kernel is written to from here; a trial needs none.
    lock: Option<Lockfile>,
    /// Listeners for changes; they end with it.
    listeners: Mutex<JoinSet<()>>,
}

impl Kernel {
    /// Opens the namespace of ours, or makes and pins it. What a former run left in it is adopted.
    pub async fn open(config: KernelConfig) -> Result<Self, DataplaneError> {
        let host = host_namespace(config.host_namespace.as_deref())?;
        let lock = lock(&config.namespace)?;
        let adopted = Namespace::open(&config.namespace).is_ok();
        let inside = Namespace::pinned(&config.namespace, &host)?;
        let sources = SourceRules::open(&inside).unwrap_or_else(|error| {
            info!(%error, "this kernel has no packet filter for bridges: what goes by a bridge is checked for its MAC alone");
            SourceRules::imagined()
        });
        let inside = Arc::new(inside);
        let kernel = Self {
            fast: Mutex::default(),
            data_path: Mutex::new(DataPath {
                fast: false,
                because: "the fast path has not been tried yet".into(),
            }),
            told: Mutex::default(),
            lock: Some(lock),
            adopted,
            sources: Mutex::new(sources),
            inside: Channel::new(inside.clone()),
            aside: Arc::new(Channel::new(inside)),
            host: Channel::new(Arc::new(host)),
            listeners: Mutex::default(),
        };
        kernel.prepare().await?;
        if let Err(error) = quiet::keep_filters_out(kernel.inside.namespace()) {
            info!(%error, "bridged packets meet the packet filters that are made for hosts, which costs time");
        }
        if let Err(error) = quiet::keep_questions_here(kernel.inside.namespace()) {
            info!(%error, "this kernel has no packet filter for bridges; containers that confirm addresses do so across the underlay");
        }
        Ok(kernel)
    }

    /// Whether our namespace was there already. If not, every link that a former run made is gone.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Leaves `about` for a second daemon that is refused the namespace.
    pub fn sign(&self, about: &str) {
        self.lock.iter().for_each(|lock| lock.sign(about));
    }

    /// The file on which our namespace is pinned.
    pub fn namespace(&self) -> &Path {
        self.inside.namespace().path()
    }

    /// Whether our namespace is still pinned, and so outlives this process.
    pub fn is_pinned(&self) -> bool {
        self.inside.namespace().is_at(self.namespace()).unwrap_or(false)
    }

    /// Brings up the loopback and removes ports that a crash left without their alias: nobody has been
    /// told of them, and no one can tell whose they are.
    async fn prepare(&self) -> Result<(), DataplaneError> {
        let what = || format!("network namespace {}", self.namespace().display());
        for link in self.inside.links().await.map_err(|failure| failure.during(what()))? {
            if link.name == "lo" && !link.up {
                let up = self.inside.call(link_messages::set_up(link.index)).await;
                up.map_err(|failure| failure.during(what()))?;
            }
            if parse_link(&link.name) == Some(Named::Port) && link.is(&InfoKind::Veth) && !link.labelled {
                let deleted = self.inside.delete_link(link.index).await;
                deleted.map_err(|failure| failure.during(format!("unfinished port {}", link.name)))?;
            }
        }
        Ok(())
    }

    async fn step(&self, op: &Op) -> Result<(), DataplaneError> {
        match op {
            Op::AddSegment { vni, network, vxlan } => self.add_segment(*vni, network, vxlan).await,
            Op::ReplaceVxlan { vni, vxlan } => self.replace_vxlan(*vni, vxlan).await,
            Op::SetMtu { vni, mtu } => self.set_mtu(*vni, *mtu).await,
            Op::SetPath { vni, fast } => self.set_path(*vni, *fast).await,
            Op::DeleteSegment { vni } => self.delete_segment(*vni).await,
            Op::AddPort { vni, endpoint, port } => self.add_port(*vni, endpoint, *port).await,
            Op::SetPortPath { vni, endpoint, port } => self.set_path_of(*vni, endpoint, *port).await,
            Op::DeletePort { vni, endpoint } => self.delete_port(*vni, endpoint).await,
            Op::AddGuard(cidr) => self
                .host
                .call(routes::add_guard(*cidr))
                .await
                .map_err(|failure| failure.during(op.to_string())),
            Op::DeleteGuard(cidr) => routes::gone_is_fine(self.host.call(routes::delete_guard(*cidr)).await)
                .map_err(|failure| failure.during(op.to_string())),
            Op::SetFdb { .. }
            | Op::DeleteFdb { .. }
            | Op::SetFlood { .. }
            | Op::DeleteFlood { .. }
            | Op::SetNeighbour { .. }
            | Op::DeleteNeighbour { .. }
            | Op::Announce { .. } => self.entries(std::slice::from_ref(op)).await.into_iter().collect(),
        }
    }
}

impl Dataplane for Kernel {
    async fn observe(&self) -> Result<Overlay, DataplaneError> {
        observe::observe(self).await
    }

    async fn apply(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut results = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while let Some(first) = rest.first() {
            let entries = rest.iter().take_while(|op| entries::is_entry(op)).count();
            if entries > 0 {
                results.extend(self.entries(&rest[..entries]).await);
            } else {
                results.push(self.step(first).await);
            }
            rest = &rest[entries.max(1)..];
        }
        results
    }

    async fn waiting(&self) -> Result<BTreeSet<EndpointId>, DataplaneError> {
        self.ends_here().await
    }

    async fn attach(&self, link: &Attachment) -> Result<String, DataplaneError> {
        self.attach_end(link).await
    }

    async fn fit(&self, endpoint: &EndpointId, sandbox: &Path, mtu: u32) -> Result<bool, DataplaneError> {
        self.fit_end(endpoint, sandbox, mtu).await
    }

    fn has_fast_path(&self) -> bool {
        self.fast_path_lock().is_some()
    }

    async fn keep(&self) -> Result<bool, DataplaneError> {
        self.sweep().await?;
        self.inside.namespace().pin_again().map_err(|error| DataplaneError::Refused {
            what: format!("pinning network namespace {} again", self.namespace().display()),
            detail: error.to_string(),
        })
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        let (sender, receiver) = mpsc::channel(1);
        // Not held for longer than the listener: the channel ends with that.
        let weak = sender.downgrade();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(weak);
        let listener =
            events::listener(self.inside.namespace(), self.host.namespace(), sender).map_err(|error| {
                DataplaneError::Refused { what: "netlink notices".into(), detail: error.to_string() }
            })?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        while listeners.try_join_next().is_some() {}
        listeners.spawn(listener);
        Ok(receiver)
    }
}
