//! Takes the records of a network out of the store.

use super::{TRIES, Verdict, keep_changing, set_closing};
use crate::{
    model::{AddressClaim, ClaimKind, Network, NetworkClaim, Pool, Removed},
    reconcile::housekeeping::Unfinished,
    store::{
        Entry, Outcome, TXN_ROOM, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
};

/// Takes a network that was removed, or had to give way, out of the store, whoever uses it, and leaves the
/// tombstone there.
pub(in crate::reconcile) async fn erase(
    ledger: &Ledger,
    network: &Network,
    tomb: &Removed,
) -> Result<(), Unfinished> {
    let key = keys::removed(&network.id);
    for _ in 0..TRIES {
        let Some(held) = ledger.get::<Network>(&keys::network(&network.id)).await? else {
            let record = keys::network(&network.id);
            let txn = Txn::new().absent(record).put(key.as_str(), record::encode(tomb));
            if ledger.commit(txn).await? == Outcome::Committed {
                return Ok(());
            }
            continue;
        };
        let Some(pools) = set_closing(ledger, &held, true).await? else { continue };
        let guards: Vec<_> = pools.iter().map(|pool| &pool.entry).collect();
        if matches!(delete_all(ledger, &held, &pools, &guards, tomb).await?, Verdict::Removed) {
            return Ok(());
        }
    }
    Err(keep_changing(ledger))
}

pub(super) async fn delete_all(
    ledger: &Ledger,
    network: &Held<Network>,
    pools: &[Held<Pool>],
    guards: &[&Entry],
    tomb: &Removed,
) -> Result<Verdict, Unfinished> {
    let id = &network.record.id;
    let mut loose = Vec::new();
    for pool in pools {
        loose.extend(ledger.store().range(&keys::addresses(&pool.record.cidr)).await?);
        loose.extend(ledger.store().range(&keys::wanted(&pool.record.cidr, None)).await?);
    }
    loose.extend(ledger.store().range(&keys::endpoints(id)).await?);
    loose.extend(ledger.store().range(&keys::departed_of(id)).await?);
    loose.sort_by_key(belongs_to_network);
    // A daemon may end between two transactions, and then the network lives on: what it needs goes with it.
    let last = 7 + guards.len() + pools.len();
    let together = loose.split_off(loose.len().saturating_sub(TXN_ROOM.saturating_sub(last)));
    // A subnet that somebody has opened again, and a host that has returned, are guarded against in every
    // part.
    let room = TXN_ROOM - guards.len();
    for part in loose.chunks(room) {
        let guarded = guards.iter().fold(Txn::new(), |txn, entry| txn.unchanged(entry));
        let txn = part.iter().fold(guarded, |txn, entry| txn.delete(entry.key.as_str()));
        if ledger.commit(txn).await? == Outcome::Conflict {
            return Ok(Verdict::LookAgain);
        }
    }
    let mut txn = guards.iter().fold(Txn::new(), |txn, entry| txn.unchanged(entry));
    txn = txn
        .unchanged(&network.entry)
        .delete(network.entry.key.as_str())
        .put(keys::removed(id), record::encode(tomb));
    let name = network.record.name.as_deref().map(keys::name);
    for key in [Some(keys::vni(network.record.vni)), name].into_iter().flatten() {
        // After the store was lost somebody else may have come to hold it.
        let claim = ledger.get::<NetworkClaim>(&key).await?;
        if let Some(claim) = claim.filter(|claim| claim.record.network == *id) {
            txn = txn.unchanged(&claim.entry).delete(key);
        }
    }
    for pool in pools {
        txn = txn.delete(pool.entry.key.as_str());
    }
    txn = together.iter().fold(txn, |txn, entry| txn.delete(entry.key.as_str()));
    Ok(if ledger.commit(txn).await? == Outcome::Committed { Verdict::Removed } else { Verdict::LookAgain })
}

/// Whether a network cannot be without it, unlike the traces of its containers.
fn belongs_to_network(entry: &Entry) -> bool {
    let claim = record::decode::<AddressClaim>(&entry.key, &entry.value);
    entry.key.starts_with(keys::DEPARTED)
        || claim.is_ok_and(|claim| matches!(claim.kind, ClaimKind::Gateway | ClaimKind::Auxiliary))
}
