//! Writes into each network's record what the underlays of all hosts carry, so that all hosts and all
//! containers have the same MTU at any moment, whoever can see whom.
//!
//! Each host speaks for its own underlay: whoever carries less than a record says lowers it, at once. It is
//! raised by one host alone, when all hosts have said for a while that they carry more, and nobody is missing:
//! of a host without a lease nobody knows what it carries now.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    model::{Network, NodeId, Snapshot, Underlay},
    plan::{carried_by_all, inner_mtu},
    store::{Outcome, StoreError, Txn, keys, ledger::Ledger, record},
    watched::Followed,
};

/// For how long all hosts have to carry more before a network is raised: a host that starts may not know yet
/// by which routes it reaches the others.
const STEADY: Duration = Duration::from_secs(10);

/// The task.
pub struct MtuKeeper {
    /// The store.
    pub ledger: Ledger,
    /// This host.
    pub node: NodeId,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What this host's underlay carries.
    pub underlay: watch::Receiver<Underlay>,
}

impl MtuKeeper {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        // What all hosts carry, and since when.
        let mut steady: Option<(u32, Instant)> = None;
        loop {
            let snapshot = self.snapshot.catch_up();
            let underlay = self.underlay.catch_up();
            let all = carried_by_all(&snapshot, underlay.vtep, underlay.mtu);
            let (_, since) = *match &mut steady {
                Some(known) if known.0 == all => known,
                other => other.insert((all, Instant::now())),
            };
            let raise_at = since + STEADY;
            let may_raise = self.raises(&snapshot);
            let mut wake = None;
            match self.round(&snapshot, &underlay, all, may_raise && raise_at <= Instant::now()).await {
                Ok(()) => {
                    retry.reset();
                    let lower = snapshot
                        .networks
                        .values()
                        .any(|network| network.carried.is_some_and(|old| old < all));
                    if may_raise && lower && raise_at > Instant::now() {
                        wake = Some(raise_at);
                    }
                }
                Err(error) => {
                    debug!(%error, "the MTU of a network is not written yet");
                    wake = Some(Instant::now() + retry.pause());
                }
            }
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = self.snapshot.changed() => if changed.is_err() { return },
                Ok(()) = self.underlay.changed() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Whether this host is the one that raises, while nobody is missing.
    fn raises(&self, snapshot: &Snapshot) -> bool {
        snapshot.nodes.keys().next() == Some(&self.node) && snapshot.suspects().next().is_none()
    }

    async fn round(
        &self,
        snapshot: &Snapshot,
        underlay: &Underlay,
        all: u32,
        raise: bool,
    ) -> Result<(), StoreError> {
        let own = inner_mtu(underlay.vtep, underlay.mtu);
        let wrong = |network: &&Network| wanted(network.carried, own, all, raise).is_some();
        let wrong: BTreeSet<_> = snapshot.networks.values().filter(wrong).map(|n| n.id.clone()).collect();
        for id in wrong {
            let Some(held) = self.ledger.get::<Network>(&keys::network(&id)).await? else { continue };
            let Some(mtu) = wanted(held.record.carried, own, all, raise) else { continue };
            let network = Network { carried: Some(mtu), ..held.record.clone() };
            let txn = Txn::new().unchanged(&held.entry).put(keys::network(&id), record::encode(&network));
            // After a lost race the next look, which the other's change brings about, finds what is left to do.
            if self.ledger.commit(txn).await? == Outcome::Conflict {
                continue;
            }
            let name = network.title();
            match held.record.carried {
                Some(old) if old > mtu => {
                    warn!(network = %name, from = old, to = mtu, "this host's underlay carries less: the network's MTU is lowered on all hosts");
                }
                Some(old) => {
                    info!(network = %name, from = old, to = mtu, "all underlays carry more: the network's MTU is raised");
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// What a record should say that says `written`; `None`: just that.
fn wanted(written: Option<u32>, own: u32, all: u32, raise: bool) -> Option<u32> {
    match written {
        None => Some(all),
        Some(old) if own < old => Some(own),
        Some(old) if raise && all > old => Some(all),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_lowers_for_itself_and_raises_for_all() {
        for (written, own, all, raise, want) in [
            (None, 1450, 1350, false, Some(1350)),
            (Some(1450), 1450, 1450, true, None),
            (Some(1450), 1350, 1350, false, Some(1350)),
            // Another host's business.
            (Some(1450), 1450, 1350, false, None),
            (Some(1350), 1450, 1450, false, None),
            (Some(1350), 1450, 1450, true, Some(1450)),
            (Some(1350), 8950, 1450, true, Some(1450)),
        ] {
            assert_eq!(wanted(written, own, all, raise), want, "{written:?} {own} {all} {raise}");
        }
    }
}
