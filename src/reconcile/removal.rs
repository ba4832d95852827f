//! What becomes of a network when an engine has removed it: with no container left anywhere it goes from
//! the cluster, otherwise it leaves this host alone.
//!
//! That nobody takes an address while we look is not left to luck: every claim of an address is guarded
//! by the record of its subnet, and the removal changes that record first.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{cluster, housekeeping::Unfinished};
use crate::{
    clock,
    local::{Local, Release},
    model::{
        AddressClaim, ClaimKind, Death, Endpoint, Mode, Network, NetworkClaim, NetworkId, NodeId, Pool,
        Removed, Snapshot,
    },
    store::{
        Entry, Outcome, StoreError, TXN_ROOM, Txn, keys,
        ledger::{Held, Ledger},
        record,
    },
};

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

/// Who has a container in a network.
struct Users {
    /// Hosts that live, or may.
    living: Vec<NodeId>,
    /// The words of death that make the others not count.
    deaths: Vec<Entry>,
}

/// Most words of death that a removal is guarded by; beyond that there are none left to return.
const MOST_DEATHS: usize = 16;

/// Hosts that have a container in the network: all but this one by the store's word, this one by its own.
/// What is on a dead host is no use of it.
async fn users(
    ledger: &Ledger,
    local: &Local,
    network: &Network,
    pools: &[Held<Pool>],
) -> Result<Users, StoreError> {
    let own = local.node();
    let mut users: Vec<NodeId> = Vec::new();
    for pool in pools {
        // What a swarm's manager has handed out says nothing about who uses it.
        if network.allocated {
            break;
        }
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&pool.record.cidr)).await?;
        let held = claims.into_iter().filter(|c| c.record.kind.is_use());
        users.extend(held.map(|claim| claim.record.node));
    }
    let endpoints = ledger.list::<Endpoint>(&keys::endpoints(&network.id)).await?;
    users.extend(endpoints.into_iter().map(|held| held.record.node));
    users.retain(|node| node != own);
    let mut deaths = ledger.list::<Death>(keys::DEAD).await?;
    deaths.retain(|death| users.contains(&death.record.id));
    users.retain(|node| deaths.iter().all(|death| death.record.id != *node));
    if local.read(|data| data.networks_in_use().contains(&network.id)) {
        users.push(own.clone());
    }
    users.sort();
    users.dedup();
    let deaths = deaths.into_iter().take(MOST_DEATHS).map(|death| death.entry).collect();
    Ok(Users { living: users, deaths })
}

/// Whether a container here has, or is about to have, an address of the network: by the book, and by the
/// store where that knows of a claim that is not entered yet.
async fn own_claims(ledger: &Ledger, local: &Local, network: &Network) -> Result<bool, StoreError> {
    if network.allocated {
        return Ok(local.read(|data| data.uses(&network.id)));
    }
    for subnet in &network.subnets {
        let claims = ledger.list::<AddressClaim>(&keys::addresses(&subnet.cidr)).await?;
        let own = claims.iter().filter(|c| c.record.node == *local.node() && c.record.kind.is_use());
        let own: Vec<_> = own.filter_map(|claim| keys::address_of(&claim.entry.key)).collect();
        // The book and the queue are read afterwards: what has left them since is in the book's own words.
        let in_use = local.read(|data| {
            let unsettled = |ip: &std::net::IpAddr| {
                !data.claims.contains_key(&(subnet.cidr, *ip))
                    && !data.releases.contains_key(&Release::key_of(&subnet.cidr, *ip))
            };
            data.uses(&network.id) || own.iter().any(unsettled)
        });
        if in_use {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes a network that was removed, or had to give way, out of the store, whoever uses it, and leaves the
/// tombstone there.
pub(super) async fn erase(ledger: &Ledger, network: &Network, tomb: &Removed) -> Result<(), Unfinished> {
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

fn keep_changing(ledger: &Ledger) -> Unfinished {
    StoreError::Unavailable {
        store: ledger.store().kind().to_owned(),
        detail: "the network's records keep changing".to_owned(),
    }
    .into()
}

async fn delete_all(
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
