//! From the book to the store: records that are missing, that differ, or that the book does not have.

use std::net::IpAddr;

use tracing::{info, warn};

use super::{Done, Found, Keeper, LEFT_BEHIND_MS, View};
use crate::{
    clock,
    local::{CutOff, OwnClaim, Release},
    model::{AddressClaim, ClaimKind},
    reconcile::housekeeping::Unfinished,
    store::{Outcome, Txn, keys, ledger::Held, record},
    watched::Watched,
};

/// Addresses in one transaction: each takes a guard and a change, all together one more guard.
const BATCH: usize = 24;

/// What has been told.
pub(super) struct Told {
    pub(super) done: Done,
    /// Some record is another one than was found.
    pub(super) changed: bool,
    /// An address that a container had is one of the reserve now, also by the store's word.
    pub(super) freed: bool,
}

/// A host that holds, by the store's word, an address of this host's book.
enum Rival {
    Wins,
    Loses,
}

/// One record to write.
struct Step {
    ip: IpAddr,
    claim: AddressClaim,
    /// What it replaces.
    old: Option<Held<AddressClaim>>,
}

impl Keeper {
    /// Makes the records equal to the book.
    pub(super) async fn tell(&self, view: &View, found: &Found) -> Result<Told, Unfinished> {
        let mut done = Done::Yes;
        let mut steps = Vec::new();
        let is_others = |held: &Held<AddressClaim>| held.record.node != *self.local.node();
        let contested = view.claims.iter().any(|claim| found.records.get(&claim.ip).is_some_and(is_others));
        // Asked after the records were read: they may be those of a store that was set back a moment ago.
        let believed = !contested || self.is_believed().await?;
        for claim in &view.claims {
            let held = found.records.get(&claim.ip);
            let wanted = claim.record(self.local.node());
            match held {
                Some(held) if is_others(held) && !believed => done = Done::LookAgain,
                Some(held) if is_others(held) => match self.rival(view, claim, held) {
                    Rival::Wins => self.lose(view, claim, held)?,
                    Rival::Loses => {
                        steps.push(Step { ip: claim.ip, claim: wanted, old: Some(held.clone()) });
                    }
                },
                Some(held) if held.record == wanted => self.keep_own(claim)?,
                _ if found.unreadable.contains(&claim.ip) => {}
                _ => {
                    self.keep_own(claim)?;
                    steps.push(Step { ip: claim.ip, claim: wanted, old: held.cloned() });
                }
            }
        }
        steps.extend(self.fixed(view, found));
        let was_use = |step: &Step| step.old.as_ref().is_some_and(|old| old.record.kind.is_use());
        let freed = steps.iter().any(|step| was_use(step) && !step.claim.kind.is_use());
        for batch in steps.chunks(BATCH) {
            if self.write(view, found, batch).await? == Outcome::Conflict {
                done = Done::LookAgain;
            }
        }
        let mut adopted = false;
        for held in found.records.values() {
            adopted |= self.adopt(view, held).await?;
        }
        Ok(Told { done, changed: adopted || !steps.is_empty(), freed: freed || adopted })
    }

    /// Which of two hosts has an address that both have in their books: the higher generation, which a
    /// takeover leaves. The same generation twice comes of a store that was lost. Then a claim that is held
    /// in reserve yields, and of two hosts that both use the address the one with the lower id stays. Only to
    /// be asked when all have had the time to give up what they no longer have.
    fn rival(&self, view: &View, claim: &OwnClaim, held: &Held<AddressClaim>) -> Rival {
        let (own, other) = (claim.generation, held.record.generation);
        if other > own || !view.used.contains(&claim.ip) {
            return Rival::Wins;
        }
        let yields =
            own > other || held.record.kind == ClaimKind::Reserve || *self.local.node() < held.record.node;
        if yields { Rival::Loses } else { Rival::Wins }
    }

    async fn write(&self, view: &View, found: &Found, batch: &[Step]) -> Result<Outcome, Unfinished> {
        let cidr = &view.subnet.cidr;
        let mut txn = Txn::new();
        let mut created = Vec::new();
        for step in batch {
            let key = keys::address(cidr, step.ip);
            txn = if let Some(old) = &step.old {
                txn.unchanged(&old.entry)
            } else {
                created.push(step);
                txn.absent(key.as_str())
            };
            txn = txn.put(key, record::encode(&step.claim));
        }
        // A network that is being removed gets no new claims.
        let txn = if created.is_empty() { txn } else { txn.unchanged(&found.pool.entry) };
        let outcome = self.ledger.commit(txn).await?;
        let bound = || self.local.read(|data| data.binding_of(&view.network.id).is_some());
        if outcome == Outcome::Committed && !created.is_empty() && !bound() {
            // The engine has removed the network meanwhile, and what was queued then may be settled.
            for step in created.into_iter().filter(|step| !step.claim.kind.is_fixed()) {
                let until_ms = self.local.moment();
                self.local.put_release(Release { cidr: *cidr, ip: step.ip, until_ms })?;
            }
        }
        Ok(outcome)
    }

    /// Gateways and auxiliary addresses that the store has lost: whoever is first claims them again.
    fn fixed(&self, view: &View, found: &Found) -> Vec<Step> {
        let subnet = &view.subnet;
        let gateway = subnet.gateway.map(|ip| (ip, ClaimKind::Gateway));
        let aux = subnet.aux.values().map(|ip| (*ip, ClaimKind::Auxiliary));
        let missing = gateway
            .into_iter()
            .chain(aux)
            .filter(|(ip, _)| !found.records.contains_key(ip) && !found.unreadable.contains(ip));
        let step = |(ip, kind)| {
            let node = self.local.node().clone();
            let since_ms = self.local.moment();
            let claim = AddressClaim { node, kind, container: None, generation: 0, since_ms };
            Step { ip, claim, old: None }
        };
        missing.map(step).collect()
    }

    /// The store says that another host holds an address of this host's book.
    fn lose(&self, view: &View, claim: &OwnClaim, held: &Held<AddressClaim>) -> Result<(), Unfinished> {
        let node = &held.record.node;
        if self.local.mark_lost(&claim.cidr, claim.ip, Some(node))? {
            let host = self.snapshot.now().node_title(node).to_owned();
            let (network, ip) = (view.network.title(), claim.ip);
            let user = self.local.read(|data| data.user_of(&claim.cidr, ip).map(|user| user.id.clone()));
            if let Some(endpoint) = user {
                warn!(network, %ip, host, "another host holds the address of a container of this host by now: the container is cut off the network");
                let (container, since) = (held.record.container.clone(), clock::unix_seconds());
                self.local.cut_off(&endpoint, CutOff { ip, node: node.clone(), host, container, since })?;
            } else {
                info!(network, %ip, host, "another host holds an address of this host's reserve by now");
            }
        }
        Ok(())
    }

    fn keep_own(&self, claim: &OwnClaim) -> Result<(), Unfinished> {
        if claim.lost_to.is_some() {
            self.local.mark_lost(&claim.cidr, claim.ip, None)?;
        }
        Ok(())
    }

    /// Enters a record of this host's in the book that is not there: of a container that began under an
    /// earlier release, or left behind by a call or a round that was broken off.
    async fn adopt(&self, view: &View, held: &Held<AddressClaim>) -> Result<bool, Unfinished> {
        let Some(ip) = keys::address_of(&held.entry.key) else { return Ok(false) };
        let cidr = view.subnet.cidr;
        let foreign = held.record.node != *self.local.node() || held.record.kind.is_fixed();
        if foreign || view.claims.iter().any(|claim| claim.ip == ip) {
            return Ok(false);
        }
        // Whoever claims it just now enters it, too.
        let Some(_in_flight) = self.local.begin_claim(&cidr, ip) else { return Ok(false) };
        let (booked, queued, user) = self.local.read(|data| {
            let user = data.user_of(&cidr, ip);
            (
                data.claims.contains_key(&(cidr, ip)),
                data.releases.contains_key(&Release::key_of(&cidr, ip)),
                user.map(|user| (user.id.clone(), user.claimed.contains(&(cidr, ip)))),
            )
        });
        if booked || queued {
            return Ok(false);
        }
        let in_use = user.is_some();
        let kind = match user {
            Some((endpoint, true)) => ClaimKind::Engine { endpoint },
            Some((_, false)) => ClaimKind::Container,
            None => ClaimKind::Reserve,
        };
        let age = clock::unix_millis().saturating_sub(held.record.since_ms);
        if !in_use && held.record.kind != ClaimKind::Reserve && age < LEFT_BEHIND_MS {
            return Ok(false);
        }
        let claim = new_claim(view, ip, kind, self.local.moment());
        let claim = OwnClaim { generation: held.record.generation, ..claim };
        // Written even where it says the same: a change of before that is still on its way must not take it.
        let text = record::encode(&claim.record(self.local.node()));
        let txn = Txn::new().unchanged(&held.entry).put(held.entry.key.as_str(), text);
        if self.ledger.commit(txn).await? == Outcome::Committed {
            self.enter(claim)?;
        }
        Ok(!in_use)
    }

    /// Enters what the store has granted; it goes back if the engine no longer has the network.
    pub(super) fn enter(&self, claim: OwnClaim) -> Result<(), Unfinished> {
        let (cidr, ip) = claim.key();
        if !self.local.hold(claim)? {
            let until_ms = self.local.moment();
            self.local.put_release(Release { cidr, ip, until_ms })?;
        }
        Ok(())
    }
}

/// An entry of the book.
pub(super) fn new_claim(view: &View, ip: IpAddr, kind: ClaimKind, since_ms: u64) -> OwnClaim {
    OwnClaim {
        cidr: view.subnet.cidr,
        ip,
        network: view.network.id.clone(),
        kind,
        container: None,
        generation: 0,
        since_ms,
        named: false,
        used: false,
        former: false,
        given_back: false,
        lost_to: None,
    }
}
