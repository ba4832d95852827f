//! What becomes of a network when an engine has removed it: with no container left anywhere it goes from
//! the cluster, otherwise it leaves this host alone.
//!
//! That nobody takes an address while we look is not left to luck: every claim of an address is guarded
//! by the record of its subnet, and the removal changes that record first.

mod erasing;
mod users;

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{cluster, housekeeping::Unfinished};
use crate::{
    clock,
    local::Local,
    model::{Mode, Network, NetworkId, Pool, Removed, Snapshot},
    store::{
        Entry, Outcome, StoreError, TXN_ROOM, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
};

use erasing::delete_all;
pub(super) use erasing::erase;
pub(crate) use users::hosts_using;
use users::{own_claims, users};

/// How often to look again when others change the subnet's record at the same time.
const TRIES: u32 = 16;

/// This host's engine has removed `network`.
pub(super) async fn leave(
    ledger: &Ledger,
    local: &Local,
    network: &NetworkId,
    title: &str,
) -> Result<(), Unfinished> {
    for _ in 0..TRIES {
        let Some(held) = ledger.get::<Network>(&keys::network(network)).await? else {
            // In a store that was emptied it is not gone: other hosts put it back.
            return if cluster::is_known(&**ledger.store(), local, &Snapshot::default()).await? {
                Ok(())
            } else {
                Err(Unfinished::Settling)
            };
        };
        if held.record.mode() == Mode::Classic {
            // The engines have agreed that nobody uses it any more. What the store still has of endpoints is on
            // its way out, or was left behind by an engine that crashed.
            erase(ledger, &held.record, &tomb(&held.record, local)).await?;
            info!(network = title, "network removed from the cluster");
            return Ok(());
        }
        match try_remove(ledger, local, &held).await? {
            Verdict::Removed => {
                info!(network = title, "network removed from the cluster");
                return Ok(());
            }
            Verdict::InUse(hosts) => {
                let mark = keys::departed(network, local.node());
                // Guarded: whoever used it may have removed it by now.
                let marked =
                    Txn::new().unchanged(&held.entry).put(mark, record::encode(&serde_json::json!({})));
                if ledger.commit(marked).await? == Outcome::Conflict {
                    continue;
                }
                // Whoever has given back the last address since then had no mark to see.
                finish_if_departed(ledger, local, network).await?;
                if ledger.get::<Network>(&keys::network(network)).await?.is_none() {
                    return Ok(());
                }
                warn!(
                    network = title,
                    hosts = hosts.join(", "),
                    "network removed here only: containers on other hosts still use it"
                );
                return Ok(());
            }
            Verdict::LookAgain => {}
        }
    }
    Err(keep_changing(ledger))
}

/// The last endpoint of `network` has left this host: if some engine has removed the network, the
/// question of its end comes up again.
pub(super) async fn finish_if_departed(
    ledger: &Ledger,
    local: &Local,
    network: &NetworkId,
) -> Result<(), Unfinished> {
    let marks = ledger.store().range(&keys::departed_of(network)).await?;
    if marks.is_empty() {
        return Ok(());
    }
    let Some(held) = ledger.get::<Network>(&keys::network(network)).await? else {
        // In a store that was emptied it is not gone: other hosts put it back.
        return if cluster::is_known(&**ledger.store(), local, &Snapshot::default()).await? {
            Ok(forget_marks(ledger, network, &marks).await?)
        } else {
            Err(Unfinished::Settling)
        };
    };
    // A container that has its address and not yet its endpoint is on its way: it uses the network.
    if own_claims(ledger, local, &held.record).await? {
        return Ok(());
    }
    let pools = own_pools(ledger, &held.record).await?;
    // Closing refuses containers that start meanwhile on other hosts: only where the end is in sight.
    if !users(ledger, local, &held.record, &pools).await?.living.is_empty() {
        return Ok(());
    }
    if matches!(try_remove(ledger, local, &held).await?, Verdict::Removed) {
        info!(
            network = held.record.title(),
            "network removed from the cluster: its last container is gone, and a host had removed it"
        );
    }
    Ok(())
}

/// Marks that were written while the network was being removed belong to nothing.
async fn forget_marks(ledger: &Ledger, network: &NetworkId, marks: &[Entry]) -> Result<(), StoreError> {
    for part in marks.chunks(TXN_ROOM - 1) {
        let gone = Txn::new().absent(keys::network(network));
        ledger.commit(part.iter().fold(gone, |txn, mark| txn.delete(mark.key.as_str()))).await?;
    }
    Ok(())
}

/// Reopens the subnets of a network whose removal was broken off. Whoever is only just removing it meets
/// a changed claim and looks again.
pub(super) async fn reopen(ledger: &Ledger, network: &NetworkId) -> Result<(), Unfinished> {
    if let Some(held) = ledger.get::<Network>(&keys::network(network)).await? {
        set_closing(ledger, &held, false).await?;
    }
    Ok(())
}

enum Verdict {
    Removed,
    InUse(Vec<String>),
    LookAgain,
}

async fn try_remove(ledger: &Ledger, local: &Local, network: &Held<Network>) -> Result<Verdict, Unfinished> {
    let Some(pools) = set_closing(ledger, network, true).await? else { return Ok(Verdict::LookAgain) };
    let users = users(ledger, local, &network.record, &pools).await?;
    if !users.living.is_empty() {
        let mut hosts = Vec::new();
        for node in users.living {
            let known = ledger.get::<crate::model::Node>(&keys::node(&node)).await?;
            hosts.push(known.map_or_else(|| node.to_string(), |held| held.record.hostname));
        }
        set_closing(ledger, network, false).await?;
        return Ok(Verdict::InUse(hosts));
    }
    let guards: Vec<_> = pools.iter().map(|pool| &pool.entry).chain(&users.deaths).collect();
    delete_all(ledger, network, &pools, &guards, &tomb(&network.record, local)).await
}

fn tomb(network: &Network, local: &Local) -> Removed {
    Removed {
        title: network.title().to_owned(),
        by: local.node().clone(),
        since: clock::unix_seconds(),
        gave_way: None,
        extra: BTreeMap::new(),
    }
}

/// Closes or reopens all subnets of a network; `None` if another host changed one meanwhile.
async fn set_closing(
    ledger: &Ledger,
    network: &Held<Network>,
    closing: bool,
) -> Result<Option<Vec<Held<Pool>>>, StoreError> {
    let mut txn = Txn::new();
    for subnet in &network.record.subnets {
        let key = keys::pool(&subnet.cidr);
        let Some(pool) = ledger.get::<Pool>(&key).await? else { continue };
        if pool.record.network.as_ref() == Some(&network.record.id) && pool.record.closing != closing {
            let changed = Pool { closing, ..pool.record.clone() };
            txn = txn.unchanged(&pool.entry).put(key, record::encode(&changed));
        }
    }
    if !txn.is_empty() && ledger.commit(txn).await? == Outcome::Conflict {
        return Ok(None);
    }
    Ok(Some(own_pools(ledger, &network.record).await?))
}

/// The claims on a network's subnets.
async fn own_pools(ledger: &Ledger, network: &Network) -> Result<Vec<Held<Pool>>, StoreError> {
    let mut pools = Vec::new();
    for subnet in &network.subnets {
        let pool = ledger.get::<Pool>(&keys::pool(&subnet.cidr)).await?;
        pools.extend(pool.filter(|pool| pool.record.network.as_ref() == Some(&network.id)));
    }
    Ok(pools)
}

fn keep_changing(ledger: &Ledger) -> Unfinished {
    StoreError::Unavailable {
        store: ledger.store().kind().to_owned(),
        detail: "the network's records keep changing".to_owned(),
    }
    .into()
}
