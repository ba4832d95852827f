//! This host's place in the cluster: its record, which lives as long as its lease, and the cluster's own.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    clock,
    local::Local,
    model::{ForeignVxlan, HostRoute, Meta, Node},
    store::{LeaseId, StoreError, Txn, keys, ledger::Ledger, record},
};

/// Time after which a host that no longer renews its record is missed. Consul takes no shorter one.
const TTL: Duration = Duration::from_secs(10);

/// What changes about a host while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Networks in its routing table.
    pub routes: Vec<HostRoute>,
    /// VXLAN devices of other programs.
    pub vxlans: Vec<ForeignVxlan>,
    /// Largest packet that its underlay carries to its peers.
    pub underlay_mtu: u32,
    /// Release of its engine, once it has answered.
    pub engine_version: Option<String>,
}

/// The membership task.
pub struct Member {
    /// The store.
    pub ledger: Ledger,
    /// This host's state.
    pub local: Arc<Local>,
    /// What never changes about this host.
    pub node: Node,
    /// What does.
    pub facts: watch::Receiver<Facts>,
}

impl Member {
    /// Runs until `cancel`. The record is left to its lease then: a daemon that stops has not taken its
    /// containers along.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut told = false;
        loop {
            let stay = tokio::select! {
                () = cancel.cancelled() => return,
                stay = self.stay(&mut retry, &mut told) => stay,
            };
            // Once per outage: one of a night must not fill the log.
            if let Err(error) = stay {
                if std::mem::replace(&mut told, true) {
                    debug!(%error, "still not registered in the cluster");
                } else {
                    warn!(%error, "not registered in the cluster, trying again");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// Registers and renews until something fails; `told` is whether people know that it is not registered.
    async fn stay(&mut self, retry: &mut Backoff, told: &mut bool) -> Result<(), StoreError> {
        self.meet_cluster().await?;
        let lease = self.ledger.store().lease(TTL).await?;
        self.write(&lease).await?;
        info!(node = %self.node.id, "registered in the cluster");
        retry.reset();
        *told = false;
        let mut last_answer = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(TTL / 3) => match self.ledger.store().keep_alive(&lease).await {
                    Ok(()) => last_answer = Instant::now(),
                    Err(error @ StoreError::LeaseEnded(_)) => return Err(error),
                    // A store that is away for a moment has not forgotten the lease yet.
                    Err(error) if last_answer.elapsed() > TTL => return Err(error),
                    Err(_) => {}
                },
                changed = self.facts.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    self.write(&lease).await?;
                }
            }
        }
    }

    async fn write(&mut self, lease: &LeaseId) -> Result<(), StoreError> {
        let facts = self.facts.borrow_and_update().clone();
        let node = Node {
            routes: facts.routes,
            vxlans: facts.vxlans,
            underlay_mtu: facts.underlay_mtu,
            engine_version: facts.engine_version,
            ..self.node.clone()
        };
        let txn = Txn::new().put_leased(keys::node(&node.id), record::encode(&node), lease);
        self.ledger.commit(txn).await?;
        Ok(())
    }

    /// Finds the cluster's record, or makes it where there is none. A host remembers its first cluster:
    /// in a store that was wiped, or that is another one, it never takes "not there" for "removed".
    async fn meet_cluster(&self) -> Result<(), StoreError> {
        let meta = loop {
            if let Some(held) = self.ledger.get::<Meta>(keys::META).await? {
                break held.record;
            }
            let cluster = format!("{:016x}", rand::random::<u64>());
            let meta =
                Meta { cluster, created_at: clock::unix_seconds(), extra: std::collections::BTreeMap::new() };
            // Whoever loses this race finds the winner's record in the next round.
            self.ledger.commit(Txn::new().absent(keys::META).put(keys::META, record::encode(&meta))).await?;
        };
        match self.local.read(|data| data.cluster.clone()) {
            None => {
                if let Err(error) = self.local.set_cluster(&meta.cluster) {
                    warn!(%error, "cannot remember the cluster");
                }
            }
            Some(known) if known != meta.cluster => {
                warn!(%known, found = %meta.cluster, "the store belongs to another cluster, or was wiped; nothing is removed because of it");
            }
            Some(_) => {}
        }
        Ok(())
    }
}
