//! The kernel, seen as something that can be observed and changed. Nothing here decides.

mod announce;
pub mod fake;
pub mod host;
pub mod interception;
pub mod names;
pub mod namespace;
pub mod netlink;
mod nftables;
pub mod prober;
mod raw;

use std::{future::Future, net::IpAddr};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::plan::{Op, Overlay};

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

/// A host's kernel. One reconciler is its only writer.
pub trait Dataplane: Send + Sync + 'static {
    /// Reads all kernel state that is provably ours.
    fn observe(&self) -> impl Future<Output = Result<Overlay, DataplaneError>> + Send;

    /// Carries out `ops` in order and answers one result for each, in the same order. A step that fails
    /// does not stop those behind it.
    fn apply(&self, ops: &[Op]) -> impl Future<Output = Vec<Result<(), DataplaneError>>> + Send;

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
