//! Asks for hosts that have lost their lease, and declares those dead that nobody reaches.
//!
//! Every host does this for the suspects on whose jury it is (`crate::jury`). What it finds stands in its own
//! record in the store; whoever first sees that all jurors miss a host writes it down.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Applied, mirror::Health};
use crate::{
    chance, clock,
    dataplane::{DataplaneError, Prober},
    jury::{Unreachable, Verdict, cases, verdict},
    model::{Death, KnownHost, NodeId, Snapshot},
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger, record},
    watched::{Followed, Watched},
};

/// Rest before a host is asked for at first: the records of one that has just registered are told by
/// several watches, one after the other.
const SETTLE: Duration = Duration::from_millis(250);
/// Rest before a host that has answered, or could not be asked for, is asked for again.
const AGAIN: Duration = Duration::from_secs(4);
/// Rest before one that has not: nobody should be called missing any longer than it is.
const MISSED_AGAIN: Duration = Duration::from_millis(600);
/// Rest until the kernel is looked at again for a way to a host.
const SOON: Duration = Duration::from_millis(100);
/// Age from which this host's own word no longer counts: it may have been frozen since.
const FRESH: Duration = Duration::from_secs(6);
/// Rest after a word of death that the store did not take.
const RETRY: Duration = Duration::from_secs(1);
/// How long this host has to have a suspect's address before it takes the suspect for its own former self, or
/// for one that is gone: addresses move between living hosts, and one that has just lost its own tells its new
/// one within seconds.
const INHERITED: Duration = Duration::from_secs(20);
/// Most hosts that are asked for at the same time.
const AT_ONCE: usize = 64;

/// The task.
pub struct Liveness {
    /// The store.
    pub ledger: Ledger,
    /// This host.
    pub node: NodeId,
    /// Asks.
    pub prober: Arc<dyn Prober>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What the kernel here holds: without a way to it, nobody is asked for.
    pub applied: watch::Receiver<Arc<Applied>>,
    /// Whether what is known of the cluster comes from the store, and not from an earlier run.
    pub health: watch::Receiver<Health>,
    /// What this host says as a juror.
    pub unreachable: watch::Sender<Unreachable>,
}

/// A suspect that this host asks for.
struct Case {
    incarnation: u64,
    /// When to ask next; absent: it is being asked for.
    ask_at: Option<Instant>,
    /// It has been asked for at least once.
    asked: bool,
    /// When it was missed last; absent: it was not.
    missed: Option<Instant>,
}

/// Suspects whose address this host has: their registrations, and since when.
type Former = BTreeMap<NodeId, (u64, Instant)>;
type Answer = (NodeId, u64, Result<bool, DataplaneError>);

impl Liveness {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut open: BTreeMap<NodeId, Case> = BTreeMap::new();
        let mut asking: JoinSet<Answer> = JoinSet::new();
        let mut former = Former::new();
        let mut seen = BTreeMap::new();
        loop {
            let snapshot = self.snapshot.catch_up();
            self.take_up(&snapshot, &mut open);
            self.ask(&snapshot, &mut open, &mut asking);
            self.tell(&open);
            let retry = self.judge(&snapshot, &open, &mut former).await;
            self.note_leaving(&snapshot, &mut seen).await;
            let full = asking.len() >= AT_ONCE;
            let ask_at = open.values().filter_map(|case| case.ask_at).min().filter(|_| !full);
            let wake = ask_at.into_iter().chain(retry).min();
            // Every arm is cancel safe: a change stays visible, and an answer stays in its set.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = self.snapshot.changed() => if changed.is_err() { return },
                Some(answer) = asking.join_next() => {
                    if let Ok(answer) = answer {
                        take_answer(answer, &mut open);
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Notes in the record of a host when its lease was seen to end, for people. The first of the hosts that
    /// live does so; `seen` has the registrations that it saw alive, and a record that it does not reach stays
    /// without the time.
    async fn note_leaving(&self, snapshot: &Snapshot, seen: &mut BTreeMap<NodeId, u64>) {
        if !self.health.see(|health| health.synced) {
            return;
        }
        for suspect in snapshot.suspects() {
            let left = seen.remove(&suspect.id).is_some_and(|incarnation| incarnation == suspect.incarnation);
            if !left || snapshot.nodes.keys().next() != Some(&self.node) {
                continue;
            }
            if let Err(error) = self.note(suspect).await {
                debug!(%error, host = %suspect.hostname, "when its lease ended is not noted");
            }
        }
        seen.extend(snapshot.nodes.values().map(|node| (node.id.clone(), node.incarnation)));
    }

    async fn note(&self, suspect: &KnownHost) -> Result<(), StoreError> {
        let key = keys::host(&suspect.id);
        let known = self.ledger.get::<KnownHost>(&key).await?;
        let Some(known) = known.filter(|known| known.record.incarnation == suspect.incarnation) else {
            return Ok(());
        };
        let noted = KnownHost { left_at: Some(clock::unix_seconds()), ..known.record };
        // Who is back has written its record itself, without this.
        let txn = Txn::new().unchanged(&known.entry).absent(keys::node(&suspect.id));
        self.ledger.commit(txn.put(key, record::encode(&noted))).await.map(drop)
    }

    /// Makes the open cases those that are this host's now. What was found of an earlier registration of a
    /// host says nothing about the present one.
    fn take_up(&self, snapshot: &Snapshot, open: &mut BTreeMap<NodeId, Case>) {
        let mine = cases(snapshot, &self.node);
        let current = |id: &NodeId, case: &Case| {
            mine.iter().any(|suspect| suspect.id == *id && suspect.incarnation == case.incarnation)
        };
        open.retain(|id, case| current(id, case));
        for suspect in mine {
            open.entry(suspect.id.clone()).or_insert_with(|| Case {
                incarnation: suspect.incarnation,
                ask_at: Some(Instant::now() + SETTLE),
                asked: false,
                missed: None,
            });
        }
    }

    fn ask(&self, snapshot: &Snapshot, open: &mut BTreeMap<NodeId, Case>, asking: &mut JoinSet<Answer>) {
        for (id, case) in open {
            let due = case.ask_at.is_some_and(|at| at <= Instant::now());
            let Some(host) = snapshot.hosts.get(id).filter(|_| due && asking.len() < AT_ONCE) else {
                continue;
            };
            if !self.applied.now().can_ask(host.vtep) {
                case.missed = None;
                case.ask_at = Some(Instant::now() + SOON);
                continue;
            }
            case.ask_at = None;
            if !std::mem::replace(&mut case.asked, true) {
                info!(host = %host.hostname, "a host has lost its lease; asking for it");
            }
            let (prober, id, incarnation, vtep) =
                (Arc::clone(&self.prober), id.clone(), case.incarnation, host.vtep);
            asking.spawn(async move { (id, incarnation, prober.answers(vtep).await) });
        }
    }

    /// Puts what was found into this host's record.
    fn tell(&self, open: &BTreeMap<NodeId, Case>) {
        let missed = open.iter().filter(|(_, case)| case.is_missed());
        let missed: Unreachable = missed.map(|(id, case)| (id.clone(), case.incarnation)).collect();
        self.unreachable.send_if_modified(|told| {
            let changed = *told != missed;
            *told = missed;
            changed
        });
    }

    /// Writes down the deaths that are certain; the answer is when to try again, if that failed.
    async fn judge(
        &self,
        snapshot: &Snapshot,
        open: &BTreeMap<NodeId, Case>,
        former: &mut Former,
    ) -> Option<Instant> {
        let mut retry: Option<Instant> = None;
        let mut inherited = Former::new();
        for suspect in snapshot.suspects() {
            let missed_here = || open.get(&suspect.id).is_some_and(Case::is_missed);
            let certain = match verdict(snapshot, suspect) {
                Verdict::Dead => missed_here(),
                Verdict::Replaced(heir) if heir == self.node => {
                    let known = former.get(&suspect.id).filter(|(of, _)| *of == suspect.incarnation);
                    let since = known.map_or_else(Instant::now, |(_, since)| *since);
                    inherited.insert(suspect.id.clone(), (suspect.incarnation, since));
                    let at = since + INHERITED;
                    let certain = at <= Instant::now();
                    if !certain {
                        retry = Some(retry.map_or(at, |retry| retry.min(at)));
                    }
                    certain
                }
                Verdict::Replaced(_) | Verdict::Missed(_) | Verdict::Unasked | Verdict::NoJury => false,
            };
            if !certain {
                continue;
            }
            match self.declare(suspect).await {
                Ok(true) => {
                    warn!(host = %suspect.hostname, vtep = %suspect.vtep, "a host is dead: its lease has ended and it answers none of its jury");
                }
                // Another juror was faster, or the host is back: the mirror will tell.
                Ok(false) => {}
                Err(error) => {
                    debug!(%error, host = %suspect.hostname, "a death is not written down yet");
                    let again = Instant::now() + RETRY;
                    retry = Some(retry.map_or(again, |retry| retry.min(again)));
                }
            }
        }
        *former = inherited;
        retry
    }

    /// One transaction, refused if the host has its lease again, or has had it since. `false`: another host
    /// was faster, or it is back.
    async fn declare(&self, suspect: &KnownHost) -> Result<bool, StoreError> {
        let key = keys::host(&suspect.id);
        let Some(known) = self.ledger.get::<KnownHost>(&key).await? else { return Ok(false) };
        if known.record.incarnation != suspect.incarnation {
            return Ok(false);
        }
        let death = Death {
            id: suspect.id.clone(),
            hostname: suspect.hostname.clone(),
            incarnation: suspect.incarnation,
            by: self.node.clone(),
            since: clock::unix_seconds(),
            extra: BTreeMap::new(),
        };
        let dead = keys::dead(&suspect.id);
        let txn = Txn::new()
            .unchanged(&known.entry)
            .absent(keys::node(&suspect.id))
            .absent(dead.as_str())
            .put(dead, record::encode(&death));
        Ok(self.ledger.commit(txn).await? == Outcome::Committed)
    }
}

impl Case {
    fn is_missed(&self) -> bool {
        self.missed.is_some_and(|at| at.elapsed() < FRESH)
    }
}

fn take_answer((id, incarnation, answer): Answer, open: &mut BTreeMap<NodeId, Case>) {
    let Some(case) = open.get_mut(&id).filter(|case| case.incarnation == incarnation) else { return };
    let now = Instant::now();
    let rest = match answer {
        Ok(true) => {
            if case.missed.take().is_some() {
                info!(host = %id, "the host answers again");
            }
            AGAIN
        }
        Ok(false) => {
            if case.missed.replace(now).is_none() {
                info!(host = %id, "the host does not answer");
            }
            MISSED_AGAIN
        }
        Err(error) => {
            case.missed = None;
            debug!(%error, host = %id, "cannot ask for a host");
            AGAIN
        }
    };
    // Apart, so that the jurors of many suspects do not all ask at once.
    case.ask_at = Some(now + rest.mul_f64(chance::half_to_all()));
}
