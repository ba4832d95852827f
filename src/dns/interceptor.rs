//! The interceptor of one sandbox.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use super::{tcp, udp, upstream::Upstream};
use crate::{
    dataplane::{
        interception::{Interception, InterceptionError, Rules},
        namespace::Namespace,
    },
    model::NetworkId,
    names::Zone,
    watched::Watched,
};

/// What one sandbox may know: the zone, and the networks it is on in the order in which they are searched.
#[derive(Debug, Clone)]
pub struct Names {
    /// All names, swapped whole.
    pub zone: watch::Receiver<Arc<Zone>>,
    /// The sandbox's networks.
    pub networks: watch::Receiver<Arc<[NetworkId]>>,
    /// From when on the zone's moments are counted.
    pub epoch: Instant,
}

impl Names {
    /// Names that never change.
    pub fn fixed(zone: Zone, networks: Vec<NetworkId>) -> Self {
        // A value whose sender is gone stays readable.
        Self {
            zone: watch::channel(Arc::new(zone)).1,
            networks: watch::channel(networks.into()).1,
            epoch: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> (Arc<Zone>, Arc<[NetworkId]>, Duration) {
        (self.zone.now(), self.networks.now(), self.epoch.elapsed())
    }
}

/// Answers the queries of one sandbox until it is closed or dropped. Its sockets keep the sandbox's network
/// namespace alive.
#[derive(Debug)]
pub struct Interceptor {
    // In this order: first the rules go and Docker answers again, then those who answered.
    rules: Rules,
    tasks: JoinSet<()>,
    namespace: Arc<Namespace>,
}

impl Interceptor {
    /// Takes over the queries of the sandbox at `path`. Needs to be called from within a runtime, and blocks
    /// for about 1 ms. A file that is not a namespace yet is an error of kind `NotFound` or `InvalidInput`, a
    /// loopback that is not up yet one of kind `NetworkUnreachable`.
    pub fn open(path: &Path, names: Names) -> Result<Self, InterceptionError> {
        let failed = |what| move |source| InterceptionError::Failed { what, source };
        let namespace = Arc::new(Namespace::open(path).map_err(failed("open the sandbox"))?);
        let Interception { udp, tcp, rules } = Interception::open(&namespace)?;
        let register = failed("wait for a socket");
        let udp = UdpSocket::from_std(udp).map_err(register)?;
        let tcp = TcpListener::from_std(tcp).map_err(register)?;
        let upstream = Arc::new(Upstream::new(namespace.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(udp::serve(udp, names.clone(), upstream.clone()));
        tasks.spawn(tcp::serve(tcp, names, upstream));
        Ok(Self { rules, tasks, namespace })
    }

    /// Whether the namespace at `path` is the one whose queries are answered.
    pub fn serves(&self, path: &Path) -> io::Result<bool> {
        self.namespace.is_at(path)
    }

    /// Whether a part of it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.tasks.try_join_next().is_some()
    }

    /// Gives the queries back to Docker, closes all sockets and waits until they are closed.
    pub async fn close(self) {
        let Self { rules, mut tasks, namespace } = self;
        drop(rules);
        tasks.shutdown().await;
        drop(namespace);
    }
}
