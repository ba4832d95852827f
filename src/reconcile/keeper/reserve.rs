//! The reserve of one subnet: claims what is missing, gives back what is too much.

use std::net::IpAddr;

use tracing::debug;

use super::{Done, Found, Keeper, View, image::new_claim};
use crate::{
    clock,
    ipam::{Direction, ReserveQuestion, plan_reserve},
    local::OwnClaim,
    model::{ClaimKind, IpamMode},
    reconcile::housekeeping::Unfinished,
    store::{Outcome, Txn, keys, record},
    watched::Watched,
};

/// How long an address stays here after a container has left it, in milliseconds: an engine that restarts,
/// or a compose project, asks for as many as before.
const REST_MS: u64 = 60_000;
/// How long addresses are kept for containers that a host has taken down with it, in milliseconds.
const FORMER_MS: u64 = 600_000;

impl Keeper {
    pub(super) async fn keep_reserve(&self, view: &View, found: &Found) -> Result<Done, Unfinished> {
        let cidr = view.subnet.cidr;
        let reserve = self.local.read(|data| data.reserve_of(&cidr));
        let now = clock::unix_millis();
        let called_for = view.wanted.contains(&None);
        let is_wanted = |ip: IpAddr| called_for || view.wanted.contains(&Some(ip));
        let change = self.plan(view, found, &reserve, called_for);
        let mut gone = Vec::new();
        for claim in reserve {
            let surplus = change.give_back.contains(&claim.ip);
            let age = now.saturating_sub(claim.since_ms);
            let rested = age >= if claim.former { FORMER_MS } else { REST_MS };
            if (surplus && rested) || (is_wanted(claim.ip) && (!claim.former || rested)) {
                gone.push(claim);
            }
        }
        let given_back = self.give_back(found, gone).await?;
        let claimed = self.claim(view, found, &change.claim).await?;
        Ok(if given_back == Outcome::Committed && claimed == Outcome::Committed {
            Done::Yes
        } else {
            Done::LookAgain
        })
    }

    fn plan(
        &self,
        view: &View,
        found: &Found,
        reserve: &[OwnClaim],
        called_for: bool,
    ) -> crate::ipam::ReserveChange {
        let subnet = &view.subnet;
        let held: Vec<IpAddr> =
            reserve.iter().map(|claim| claim.ip).filter(|ip| !view.wanted.contains(&Some(*ip))).collect();
        let mut taken = found.unreadable.clone();
        taken.extend(found.records.keys());
        taken.extend(subnet.gateway.into_iter().chain(subnet.aux.values().copied()));
        taken.extend(&view.used);
        // What lives elsewhere stays where it is, also if the store has lost its claim.
        let snapshot = self.snapshot.now();
        let others = snapshot.endpoints_of(&view.network.id).filter(|e| e.node != *self.local.node());
        taken.extend(others.flat_map(|endpoint| endpoint.addresses.iter().copied()));
        taken.extend(view.wanted.iter().flatten());
        let state = self.local.allocating();
        taken.extend(state.in_flight(&subnet.cidr));
        taken.extend(self.local.read(|data| data.claims_in(&subnet.cidr).map(|c| c.ip).collect::<Vec<_>>()));
        for ip in &held {
            taken.remove(ip);
        }
        plan_reserve(&ReserveQuestion {
            cidr: subnet.cidr,
            range: found.pool.record.ip_range.or(subnet.ip_range),
            hosts: view.hosts,
            taken: &taken,
            held: &held,
            last: state.last.get(&subnet.cidr).copied(),
            // The other end is left to the engine whose own IPAM serves the network.
            direction: if view.network.ipam == IpamMode::Engine { Direction::Down } else { Direction::Up },
            lowest: view.engine,
            called_for,
        })
    }

    /// Gives addresses back: here first, so that nobody gets one of them after that.
    async fn give_back(&self, found: &Found, claims: Vec<OwnClaim>) -> Result<Outcome, Unfinished> {
        let mut txn = Txn::new();
        for claim in claims {
            if !self.local.give_up(&claim)? {
                continue;
            }
            debug!(ip = %claim.ip, "giving back an address of the reserve");
            if let Some(entry) = found.own(claim.ip, self.local.node()) {
                txn = txn.unchanged(entry).delete(entry.key.as_str());
            }
            if txn.len() + 2 > crate::store::TXN_ROOM {
                self.ledger.commit(std::mem::take(&mut txn)).await?;
            }
        }
        if txn.is_empty() { Ok(Outcome::Committed) } else { Ok(self.ledger.commit(txn).await?) }
    }

    async fn claim(&self, view: &View, found: &Found, wanted: &[IpAddr]) -> Result<Outcome, Unfinished> {
        let cidr = view.subnet.cidr;
        if wanted.is_empty() {
            return Ok(Outcome::Committed);
        }
        let _filling = self.local.begin_filling(&cidr);
        let begun = wanted.iter().filter_map(|ip| Some((*ip, self.local.begin_claim(&cidr, *ip)?)));
        let begun: Vec<_> = begun.collect();
        let claims: Vec<_> = begun
            .iter()
            .map(|(ip, _)| new_claim(view, *ip, ClaimKind::Reserve, self.local.moment()))
            .collect();
        if claims.is_empty() {
            return Ok(Outcome::Committed);
        }
        // Before the store answers: a call that goes on from there meanwhile must not be overtaken.
        if let Some(last) = claims.last().filter(|_| !view.engine) {
            self.local.allocating().last.insert(cidr, last.ip);
        }
        let mut txn = Txn::new().unchanged(&found.pool.entry);
        for claim in &claims {
            let key = keys::address(&cidr, claim.ip);
            txn = txn.absent(key.as_str()).put(key, record::encode(&claim.record(self.local.node())));
        }
        if self.ledger.commit(txn).await? == Outcome::Conflict {
            return Ok(Outcome::Conflict);
        }
        for claim in claims {
            self.enter(claim)?;
        }
        Ok(Outcome::Committed)
    }
}
