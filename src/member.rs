//! This host's place in the cluster: its record, which lives as long as its lease.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    local::Local,
    model::{HostRoute, Node},
    store::{LeaseId, StoreError, Txn, keys, ledger::Ledger, record},
};

/// Time after which a host that no longer renews its record is missed. Consul takes no shorter one.
const TTL: Duration = Duration::from_secs(10);

/// What changes about a host while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Networks in its routing table.
    pub routes: Vec<HostRoute>,
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
        let lease = self.ledger.store().lease(TTL).await?;
        self.write(&lease).await?;
        info!(node = %self.node.id, "registered in the cluster");
        retry.reset();
        *told = false;
        let mut last_answer = Instant::now();
        let mut own_state = self.local.changes();
        let mut written_in = self.incarnation();
        loop {
            tokio::select! {
                // A store that was emptied has lost the record, and the lease perhaps not.
                _ = own_state.changed() => if self.incarnation() != written_in {
                    written_in = self.incarnation();
                    self.write(&lease).await?;
                },
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

    fn incarnation(&self) -> Option<String> {
        self.local.read(|data| data.store_incarnation().map(str::to_owned))
    }

    async fn write(&mut self, lease: &LeaseId) -> Result<(), StoreError> {
        let facts = self.facts.borrow_and_update().clone();
        let node = Node {
            routes: facts.routes,
            underlay_mtu: facts.underlay_mtu,
            engine_version: facts.engine_version,
            ..self.node.clone()
        };
        let txn = Txn::new().put_leased(keys::node(&node.id), record::encode(&node), lease);
        self.ledger.commit(txn).await?;
        Ok(())
    }
}
