//! This host's place in the cluster: its record, which lives as long as its lease.

pub mod returning;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    jury::Unreachable,
    local::Local,
    model::{Death, ForeignVxlan, HostRoute, KnownHost, Mode, Node, Scope, Underlay},
    store::{
        LeaseId, Outcome, StoreError, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
    watched::Followed,
};

/// Time after which a host that no longer renews its record is missed. Consul makes 10 to 20 s of it. To be
/// missed costs nothing as long as the host answers its peers, so it can be short: from a power cut to the
/// word of death it takes this long, half a second of etcd's, and the two seconds of a jury.
const TTL: Duration = Duration::from_secs(7);
/// How often it is renewed: two renewals may be lost.
const RENEW: Duration = Duration::from_secs(2);
/// How often to see whether the records are still there: somebody may have deleted them alone.
const REREAD: Duration = Duration::from_secs(10);
/// How often to look again when others write of this host's death at the same time.
const TRIES: u32 = 8;

/// What changes about a host while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Networks in its routing table.
    pub routes: Vec<HostRoute>,
    /// VXLAN devices of other programs.
    pub vxlans: Vec<ForeignVxlan>,
    /// Release of its engine, once it has answered.
    pub engine_version: Option<String>,
    /// Its probe device is there.
    pub probe: bool,
    /// Scope under which its engine has, or would have, registered the driver.
    pub scope: Scope,
    /// How its engine runs, once that is known.
    pub mode: Option<Mode>,
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
    /// Its way to its peers.
    pub underlay: watch::Receiver<Underlay>,
    /// What it says as a juror.
    pub unreachable: watch::Receiver<Unreachable>,
}

impl Member {
    /// Runs until `cancel`. The record is left to its lease then: a daemon that stops has not taken its
    /// containers along.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut told = false;
        loop {
            let stay = tokio::select! {
                biased;
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
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// Registers and renews until something fails; `told` is whether people know that it is not registered.
    async fn stay(&mut self, retry: &mut Backoff, told: &mut bool) -> Result<(), StoreError> {
        let lease = self.ledger.store().lease(TTL).await?;
        // From before the records are written: what happens to the store meanwhile is noticed.
        let mut own_state = self.local.changes();
        let mut written_in = self.store_incarnation();
        self.register(&lease).await?;
        info!(node = %self.node.id, incarnation = self.node.incarnation, "registered in the cluster");
        retry.reset();
        *told = false;
        let mut last_answer = Instant::now();
        // News must not put off the renewal, however often there are some.
        let mut renew_at = last_answer + RENEW;
        let mut reread_at = last_answer + REREAD;
        loop {
            let changed = tokio::select! {
                biased;
                () = sleep_until(renew_at) => {
                    renew_at = Instant::now() + RENEW;
                    match self.ledger.store().keep_alive(&lease).await {
                        Ok(()) => last_answer = Instant::now(),
                        Err(error @ StoreError::LeaseEnded(_)) => return Err(error),
                        // A store that is away for a moment has not forgotten the lease yet.
                        Err(error) if last_answer.elapsed() > TTL => return Err(error),
                        Err(_) => {}
                    }
                    if Instant::now() < reread_at {
                        continue;
                    }
                    // A store that does not answer is asked again after the next renewal.
                    match self.is_there().await {
                        Ok(there) => {
                            reread_at = Instant::now() + REREAD;
                            if there {
                                continue;
                            }
                        }
                        Err(_) => continue,
                    }
                    warn!("somebody has deleted this host's record from the store; it is written again");
                    Ok(())
                }
                // A store that was emptied has lost the record, and the lease perhaps not.
                changed = own_state.changed() => {
                    let now = self.store_incarnation();
                    if std::mem::replace(&mut written_in, now.clone()) == now {
                        continue;
                    }
                    changed
                }
                changed = self.facts.changed() => changed,
                Ok(()) = self.underlay.changed() => Ok(()),
                changed = self.unreachable.changed() => changed,
            };
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
            self.write(&lease).await?;
        }
    }

    /// Puts this host's record. Whatever happened while it had none comes first: an address of it that is
    /// another's now is found before anything here is offered to the cluster, and once more afterwards,
    /// since only the end of its death ends the takeovers.
    async fn register(&mut self, lease: &LeaseId) -> Result<(), StoreError> {
        let (host_key, dead_key) = (keys::host(&self.node.id), keys::dead(&self.node.id));
        for _ in 0..TRIES {
            let known = self.ledger.get::<KnownHost>(&host_key).await?;
            let death = self.ledger.get::<Death>(&dead_key).await?;
            let lost = returning::find_lost(&self.ledger, &self.local).await?;
            returning::cut_off(&self.ledger, &self.local, lost).await?;
            let before = known.as_ref().map_or(0, |held| held.record.incarnation);
            self.node.incarnation =
                self.local.next_incarnation(before).map_err(|error| StoreError::Refused {
                    store: self.ledger.store().kind().to_owned(),
                    detail: error.to_string(),
                })?;
            let txn = match &death {
                Some(death) => Txn::new().unchanged(&death.entry).delete(dead_key.as_str()),
                None => Txn::new().absent(dead_key.as_str()),
            };
            let (node, host) = self.records(known.as_ref());
            let txn = txn
                .put_leased(keys::node(&node.id), record::encode(&node), lease)
                .put(host_key.as_str(), record::encode(&host));
            if self.ledger.commit(txn).await? == Outcome::Conflict {
                continue;
            }
            if let Some(death) = death {
                let by = death.record.by;
                warn!(declared_by = %by, "this host was declared dead while it was away; it is back");
                let lost = returning::find_lost(&self.ledger, &self.local).await?;
                returning::cut_off(&self.ledger, &self.local, lost).await?;
            }
            return Ok(());
        }
        Err(StoreError::Unavailable {
            store: self.ledger.store().kind().to_owned(),
            detail: "what the cluster says of this host keeps changing".to_owned(),
        })
    }

    /// Whether the store has both records of this host.
    async fn is_there(&self) -> Result<bool, StoreError> {
        let node = self.ledger.get::<Node>(&keys::node(&self.node.id)).await?;
        let host = self.ledger.get::<KnownHost>(&keys::host(&self.node.id)).await?;
        Ok(node.is_some() && host.is_some())
    }

    fn store_incarnation(&self) -> Option<String> {
        self.local.read(|data| data.store_incarnation().map(str::to_owned))
    }

    /// The lease ends when the host is missed: from then on this fails, and the host registers anew.
    async fn write(&mut self, lease: &LeaseId) -> Result<(), StoreError> {
        let known = self.ledger.get::<KnownHost>(&keys::host(&self.node.id)).await?;
        let (node, host) = self.records(known.as_ref());
        let mut txn = Txn::new().put_leased(keys::node(&node.id), record::encode(&node), lease);
        if known.is_none_or(|known| known.record != host) {
            txn = txn.put(keys::host(&node.id), record::encode(&host));
        }
        self.ledger.commit(txn).await?;
        Ok(())
    }

    fn records(&mut self, known: Option<&Held<KnownHost>>) -> (Node, KnownHost) {
        let facts = self.facts.catch_up();
        let underlay = self.underlay.catch_up();
        let node = Node {
            routes: facts.routes,
            vxlans: facts.vxlans,
            vtep: underlay.vtep,
            underlay_mtu: underlay.mtu,
            engine_version: facts.engine_version,
            probe: facts.probe,
            scope: facts.scope.as_str().to_owned(),
            mode: facts.mode,
            unreachable: self.unreachable.catch_up(),
            ..self.node.clone()
        };
        let host = KnownHost {
            id: node.id.clone(),
            hostname: node.hostname.clone(),
            vtep: node.vtep,
            incarnation: node.incarnation,
            probe: node.probe,
            about: node.about(),
            left_at: None,
            extra: known.map(|held| held.record.extra.clone()).unwrap_or_default(),
        };
        (node, host)
    }
}
