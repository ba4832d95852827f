//! Finds out whether the store is the one that this host knows, and fills one that is not any more: one that
//! was emptied, or set back to an earlier time, gets again what lives.
//!
//! The cluster's record names an *incarnation* of the store. Whoever finds the record gone, or a mark lower
//! than it was, draws a new one; every host that meets an incarnation it has not confirmed puts in what is
//! missing, each with create-if-absent and in any order, and confirms it then. Only under a confirmed
//! incarnation does "not there" mean "removed", and only then do other parts of this host write.

mod addresses;
mod networks;
mod rivals;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    cluster::{self, Memory, Sight},
    housekeeping::Unfinished,
    mirror::Health,
};
use crate::{
    backoff::Backoff,
    chance, clock,
    local::{KnownCluster, Local},
    model::{Mark, Meta, NodeId, Snapshot},
    store::{
        Guard, Store as _, StoreError, Txn, Watch, WatchEvent,
        gate::{Footing, Gate},
        keys,
        ledger::Ledger,
        record,
    },
    watched::Watched,
};

/// How often to look without any sign that something happened.
const PERIOD: Duration = Duration::from_secs(10);
/// The same while other hosts fill the store.
const CLOSELY: Duration = Duration::from_millis(500);
/// How long hosts that know of another cluster may say that a store in which one was founded is theirs.
const PROVISIONAL: Duration = Duration::from_secs(5);
/// How long new claims wait at most for hosts that have not filled the store again.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// How long they wait at least.
const SETTLES_AFTER: Duration = Duration::from_secs(3);

/// The task.
pub struct Refill {
    /// The store, and who is told how it is.
    pub gate: Gate,
    /// This host's state.
    pub local: Arc<Local>,
    /// The cluster as it was known last: while the store is not confirmed, nothing goes from it.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Tells when the store was away.
    pub health: watch::Receiver<Health>,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
struct Looks {
    /// Since when the store has a cluster that was only just founded.
    founded: Option<Instant>,
    /// When an incarnation that is not the cluster's first was confirmed here, while others may not have.
    confirmed: Option<Instant>,
    /// Why the store is left alone, once that was said.
    told: Option<String>,
}

impl Refill {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(150), Duration::from_secs(1));
        let mut looks = Looks::default();
        let mut watch = self.gate.watch(keys::CLUSTER);
        loop {
            let round = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                round = self.round(&mut looks) => round,
            };
            let pause = match round {
                Ok(pause) => {
                    retry.reset();
                    pause
                }
                Err(Unfinished::Store(error @ StoreError::Unsettled { .. })) => {
                    debug!(%error, "the store has changed while it was filled");
                    self.gate.set(Footing::Unsure);
                    retry.pause()
                }
                Err(Unfinished::Store(error)) => {
                    debug!(%error, "the store could not be looked at");
                    self.gate.set(Footing::Away { error, at: Instant::now() });
                    retry.pause()
                }
                Err(error @ Unfinished::Settling) => {
                    debug!(%error, "the store is looked at again");
                    retry.pause()
                }
                Err(Unfinished::Local(error)) => {
                    warn!(%error, "cannot remember the state of the cluster store");
                    retry.pause()
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Ok(()) = self.health.changed() => {
                    if self.health.see(|health| health.trouble.is_some()) {
                        self.gate.doubt();
                    }
                }
                () = self.gate.wanted() => {}
                () = sign(&mut watch) => self.gate.doubt(),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look, and what follows from it; the answer is when to look again.
    async fn round(&self, looks: &mut Looks) -> Result<Duration, Unfinished> {
        let memory = Memory::of(&self.local, &self.snapshot.now());
        let sight = cluster::look(&**self.gate.inner(), &memory).await?;
        match sight {
            Sight::Same { guard, marks, meta } => {
                looks.told = None;
                let begun = looks.confirmed.is_some();
                let settles = self.settles(looks, &meta, &marks);
                if begun {
                    // What other hosts held in a store that was set back, they give up in this time.
                    let ledger = Ledger::new(self.gate.under(guard.clone()));
                    let held = addresses::in_use(&ledger, &self.local).await?;
                    if settles.is_none() {
                        let done = |node: &NodeId| has_told(&marks, node, &meta);
                        addresses::insist(&ledger, &self.local, &held, done).await?;
                    }
                }
                self.gate.set(Footing::Sure { guard, settles });
                let provisional = self.endorse(looks, &meta, memory.cluster).await?;
                Ok(if settles.is_some() { CLOSELY } else { provisional.unwrap_or(PERIOD) })
            }
            Sight::Empty => self.begin(memory.cluster).await,
            Sight::Turned { meta, guard } => {
                self.confirm(looks, meta, guard).await?;
                Ok(Duration::ZERO)
            }
            Sight::Doubtful { meta, entry, why } => {
                if !meta.incarnation.is_empty() {
                    warn!("the cluster store {why}; the hosts fill it again");
                }
                let turns = meta.turns + u64::from(!meta.incarnation.is_empty());
                let txn = Txn::new().unchanged(&entry);
                let txn = if meta.incarnation.is_empty() {
                    txn
                } else {
                    txn.delete(keys::incarnation(&meta.incarnation))
                };
                self.turn(txn, Meta { turns, ..meta }).await?;
                Ok(Duration::ZERO)
            }
            Sight::Usurped { meta, entry } => {
                warn!(
                    "the cluster store was emptied, and a new cluster was founded in it; the hosts fill it again"
                );
                let txn = Txn::new().unchanged(&entry).delete(keys::incarnation(&meta.incarnation));
                let Some(known) = memory.cluster else { return Ok(Duration::ZERO) };
                let void = meta.void.iter().cloned().chain([meta.incarnation.clone()]).collect();
                let meta =
                    Meta { cluster: known.id, turns: known.turns + 1, provisional: false, void, ..meta };
                self.turn(txn, meta).await?;
                Ok(Duration::ZERO)
            }
            Sight::Foreign(found) => {
                let known = memory.cluster.map(|known| known.id).unwrap_or_default();
                Ok(self.leave_alone(looks, format!(
                    "holds cluster {found}, and this host belongs to {known}: nothing is read from it or written to it; give the daemon the store of its own cluster, or an empty state directory to join this one"
                )))
            }
            Sight::Unreadable(error) => {
                Ok(self
                    .leave_alone(looks, format!("is left alone, since its cluster cannot be read: {error}")))
            }
        }
    }

    fn leave_alone(&self, looks: &mut Looks, why: String) -> Duration {
        if looks.told.as_ref() != Some(&why) {
            warn!("the cluster store {why}");
            looks.told = Some(why.clone());
        }
        self.gate.set(Footing::Foreign(why));
        PERIOD
    }

    /// The store has no cluster: it is new, or was emptied.
    async fn begin(&self, known: Option<KnownCluster>) -> Result<Duration, Unfinished> {
        let (cluster, turns, provisional) = if let Some(known) = known {
            warn!("the cluster store was emptied; the hosts fill it again");
            (known.id, known.turns + 1, known.provisional)
        } else {
            (format!("{:016x}", chance::number()), 0, true)
        };
        let meta = Meta {
            cluster,
            incarnation: String::new(),
            turns,
            provisional,
            void: Vec::new(),
            created_at: clock::unix_seconds(),
            extra: BTreeMap::new(),
        };
        self.turn(Txn::new().absent(keys::META), meta).await?;
        Ok(Duration::ZERO)
    }

    /// Makes a cluster that was only just founded a cluster like any other once nobody has said for some time
    /// that the store is another one's; answers when to look after it again.
    async fn endorse(
        &self,
        looks: &mut Looks,
        meta: &Meta,
        known: Option<KnownCluster>,
    ) -> Result<Option<Duration>, Unfinished> {
        if !meta.provisional {
            looks.founded = None;
            if let Some(known) = known.filter(|known| known.provisional) {
                self.local.set_cluster(KnownCluster { provisional: false, ..known })?;
            }
            return Ok(None);
        }
        let since = *looks.founded.get_or_insert_with(Instant::now);
        let left = PROVISIONAL.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let ledger = Ledger::new(self.gate.inner().clone());
        if let Some(held) = ledger.get::<Meta>(keys::META).await?.filter(|held| held.record == *meta) {
            let lasting = Meta { provisional: false, ..meta.clone() };
            // On a conflict somebody else has done it, or said whose store it is.
            ledger
                .commit(Txn::new().unchanged(&held.entry).put(keys::META, record::encode(&lasting)))
                .await?;
        }
        Ok(Some(Duration::ZERO))
    }

    /// Writes the cluster's record with a new incarnation. Whoever loses the race for it finds the winner's
    /// at the next look.
    async fn turn(&self, guards: Txn, meta: Meta) -> Result<(), StoreError> {
        let incarnation = format!("{:016x}", chance::number());
        let key = keys::incarnation(&incarnation);
        let meta = Meta { incarnation, ..meta };
        let txn =
            guards.put(keys::META, record::encode(&meta)).put(key, record::encode(&serde_json::json!({})));
        self.gate.inner().txn(txn).await?;
        Ok(())
    }

    /// Puts in what this host knows, and remembers that it is there.
    async fn confirm(&self, looks: &mut Looks, meta: Meta, guard: Guard) -> Result<(), Unfinished> {
        self.gate.set(Footing::Refilling);
        let known = self.local.read(|data| data.cluster.clone());
        let first = known.is_none();
        let snapshot = self.snapshot.now();
        let filling = networks::Filling {
            ledger: Ledger::new(self.gate.under(guard)),
            local: &self.local,
            snapshot: &snapshot,
            newcomers: [&meta.void[..], std::slice::from_ref(&meta.incarnation)].concat(),
            before: known.as_ref().and_then(|known| known.incarnation.as_deref()),
        };
        filling.run().await?;
        if !first {
            info!(incarnation = %meta.incarnation, "the cluster store has what this host knows");
        }
        looks.confirmed = (meta.turns > 0).then(Instant::now);
        self.local.set_cluster(KnownCluster {
            id: meta.cluster,
            incarnation: Some(meta.incarnation),
            turns: meta.turns,
            provisional: meta.provisional,
        })?;
        Ok(())
    }

    /// Until when hosts may still be filling the store: for some time, unless all that live have said that
    /// they are done.
    fn settles(&self, looks: &mut Looks, meta: &Meta, marks: &BTreeMap<NodeId, Mark>) -> Option<Instant> {
        let since = looks.confirmed?;
        let snapshot = self.snapshot.now();
        let done = |node: &NodeId| has_told(marks, node, meta);
        let all = done(self.local.node()) && snapshot.nodes.keys().chain(snapshot.marks.keys()).all(done);
        let over = since.elapsed() >= SETTLES_WITHIN || (all && since.elapsed() >= SETTLES_AFTER);
        if over {
            looks.confirmed = None;
        }
        looks.confirmed.map(|since| since + SETTLES_WITHIN)
    }
}

/// Waits for a sign that the store may not be what it was: a new listing, as after any break, or something
/// gone, or another incarnation. Cancel safe.
async fn sign(watch: &mut Watch) {
    loop {
        match watch.next().await {
            Some(WatchEvent::InitDone | WatchEvent::Delete(_)) => return,
            Some(WatchEvent::Put(entry)) if entry.key.starts_with(keys::META) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// Whether a host has told the store all it has, in its present incarnation.
fn has_told(marks: &BTreeMap<NodeId, Mark>, node: &NodeId, meta: &Meta) -> bool {
    marks.get(node).is_some_and(|mark| mark.incarnation == meta.incarnation)
}
