//! The kernel, seen as something that can be observed and changed. Nothing here decides.

mod announce;
pub mod connections;
pub mod fake;
mod fast_path;
pub mod host;
pub mod interception;
pub mod names;
pub mod namespace;
pub mod netlink;
mod nftables;
pub mod prober;
mod quiet;
mod raw;
mod sources;

use std::{
    collections::BTreeSet,
    future::Future,
    net::IpAddr,
    path::{Path, PathBuf},
};

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use tokio::sync::mpsc;

pub use sources::Forged;

use crate::{
    model::EndpointId,
    plan::{Op, Overlay},
};

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel refused a request; `detail` is its own explanation where it gave one.
    #[error("{what}: {detail}")]
    Refused {
        /// What was asked, and of which object.
        what: String,
        /// The errno's text and the kernel's extended acknowledgement.
        detail: String,
    },
    /// The kernel did not answer in time, or the connection to it broke.
    #[error("{what}: no answer from the kernel")]
    Silent {
        /// What was asked, and of which object.
        what: String,
    },
    /// Another program holds what we need.
    #[error("{what}: {holder} holds it; {remedy}")]
    Taken {
        /// What we need.
        what: String,
        /// Who has it.
        holder: String,
        /// What the user can do.
        remedy: String,
    },
}

/// Something of ours may have changed in the kernel: look again. It carries no detail on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed;

/// What a container's end needs inside of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The container's network namespace.
    pub sandbox: PathBuf,
    /// Its addresses, each with the length of its subnet's prefix.
    pub addresses: Vec<IpNet>,
}

/// A host's kernel. One reconciler is its only writer.
pub trait Dataplane: Send + Sync + 'static {
    /// Reads all kernel state that is provably ours.
    fn observe(&self) -> impl Future<Output = Result<Overlay, DataplaneError>> + Send;

    /// Carries out `ops` in order and answers one result for each, in the same order. A step that fails
    /// does not stop those behind it.
    fn apply(&self, ops: &[Op]) -> impl Future<Output = Vec<Result<(), DataplaneError>>> + Send;

    /// Whether known unicast can take the short way past the bridge here. It stays so for as long as this is open.
    fn has_fast_path(&self) -> bool {
        false
    }

    /// Endpoints whose container's end waits in the host's namespace for somebody to come for it.
    fn waiting(&self) -> impl Future<Output = Result<BTreeSet<EndpointId>, DataplaneError>> + Send {
        async { Ok(BTreeSet::new()) }
    }

    /// Puts an end that waits into a running container, as an engine does, and answers the name that it has
    /// there: the first free one of `eth0`, `eth1` and so on.
    fn attach(&self, link: &Attachment) -> impl Future<Output = Result<String, DataplaneError>> + Send {
        async {
            let what = format!("link of endpoint {}", link.endpoint.short());
            Err(DataplaneError::Refused { what, detail: "this kernel has no containers".into() })
        }
    }

    /// Gives an end that is inside of a running container another MTU. `false`: it is not inside (yet).
    fn fit(
        &self,
        _endpoint: &EndpointId,
        _sandbox: &Path,
        _mtu: u32,
    ) -> impl Future<Output = Result<bool, DataplaneError>> + Send {
        async { Ok(true) }
    }

    /// Makes sure that what has to outlive this process does; answers whether something had to be done.
    fn keep(&self) -> impl Future<Output = Result<bool, DataplaneError>> + Send {
        async { Ok(false) }
    }

    /// Notices of changes from now on. The channel is bounded; a full one already says "look again".
    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError>;
}

/// Asks other hosts whether they are there. The kernel of a host answers, so that one whose daemon has died
/// is there still.
pub trait Prober: Send + Sync + 'static {
    /// Whether the host that takes VXLAN packets at `vtep` answers within about two seconds. An error means
    /// that this host cannot ask, which says nothing about the other.
    fn answers(&self, vtep: IpAddr) -> BoxFuture<'_, Result<bool, DataplaneError>>;
}
