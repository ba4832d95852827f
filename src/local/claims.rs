//! The claim book: every address that this host holds for its containers, or ahead of them. The store's
//! records are its image, made by a background task, so that an address can change hands here while the
//! store is away.

mod own;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{Local, LocalData, LocalEndpoint, LocalError, Release, files};
use crate::model::{ClaimKind, EndpointId, NetworkId, NodeId};
pub use own::{OwnClaim, Taken};

/// How long an address without an endpoint counts as handed out a moment ago, in milliseconds: an engine
/// creates the endpoint right after it has got the address.
const HANDED_OUT_MS: u64 = 30_000;

impl Local {
    /// Hands an address of the reserve out, durably; `None` if there is none.
    pub fn spend(&self, cidr: &IpNet, container: Option<&str>) -> Result<Option<IpAddr>, LocalError> {
        self.change(|data| {
            let now = crate::clock::unix_millis();
            let Some(claim) = data.next_of(cidr, container, now) else { return Ok(None) };
            let ip = claim.ip;
            let claim = OwnClaim { named: false, ..claim };
            self.hand_out(data, claim, ClaimKind::Container, container)?;
            Ok(Some(ip))
        })
    }

    /// Hands out one particular address, durably, if this host holds it and nobody has it. One that was
    /// handed out and never used counts as free after a while, and at once if that was before this start:
    /// an answer that the end of a daemon has cut off is asked for again.
    pub fn take(&self, cidr: &IpNet, ip: IpAddr, container: Option<&str>) -> Result<Taken, LocalError> {
        self.change(|data| {
            let Some(claim) = data.claims.get(&(*cidr, ip)).filter(|claim| claim.lost_to.is_none()) else {
                return Ok(Taken::NotHeld);
            };
            if let Some(user) = data.user_of(cidr, ip) {
                return Ok(Taken::InUse(user.container.clone()));
            }
            if claim.kind.is_use() && self.handed_out_lately(claim.since_ms) {
                return Ok(Taken::InUse(claim.container.clone()));
            }
            let claim = OwnClaim { named: true, ..claim.clone() };
            self.hand_out(data, claim, ClaimKind::Container, container)?;
            Ok(Taken::Yes)
        })
    }

    /// Notes that an endpoint of the engine has an address, which its own IPAM chose (`engine`) or ours
    /// did. `false`, without a change, if this host does not hold it, or holds it for a living container.
    pub fn take_for_endpoint(
        &self,
        cidr: &IpNet,
        ip: IpAddr,
        endpoint: &EndpointId,
    ) -> Result<bool, LocalError> {
        self.change(|data| {
            let Some(claim) = data.claims.get(&(*cidr, ip)).filter(|claim| claim.lost_to.is_none()) else {
                return Ok(false);
            };
            // The engine has given it away anew, so whoever had it of its own choice here is gone.
            if claim.kind == ClaimKind::Container && data.user_of(cidr, ip).is_some() {
                return Ok(false);
            }
            let kind = ClaimKind::Engine { endpoint: endpoint.clone() };
            self.hand_out(data, claim.clone(), kind, None)?;
            Ok(true)
        })
    }

    /// Notes that an endpoint has an address that our own IPAM has handed out. `new` is what is entered if
    /// the book does not have it any more.
    pub fn use_for_container(&self, new: &OwnClaim) -> Result<(), LocalError> {
        let known = |data: &LocalData| data.claims.get(&new.key()).is_some_and(|claim| claim.kind.is_use());
        if self.read(known) {
            return Ok(());
        }
        self.change(|data| {
            let claim = data.claims.get(&new.key()).unwrap_or(new).clone();
            let container = claim.container.clone();
            self.hand_out(data, claim, ClaimKind::Container, container.as_deref())
        })
    }

    /// Enters what the store has just granted, or what an endpoint has; `false`, and nothing is entered, if
    /// the engine no longer has the network.
    pub fn hold(&self, claim: OwnClaim) -> Result<bool, LocalError> {
        self.change(|data| {
            let bound = data.binding_of(&claim.network).is_some();
            if bound {
                self.store_claim(data, claim, true)?;
            }
            Ok(bound)
        })
    }

    /// The container at an address is gone: it rests in the reserve. `false` if this host does not hold it.
    /// One that an endpoint has rests when that goes. Engines delete endpoints first, so what is given back
    /// may be what another container had before the host went down.
    pub fn rest(&self, cidr: &IpNet, ip: IpAddr) -> Result<bool, LocalError> {
        self.change(|data| match data.claims.get(&(*cidr, ip)).cloned() {
            Some(claim) if claim.kind.is_use() && data.user_of(cidr, ip).is_some() => {
                self.store_claim(data, OwnClaim { given_back: true, ..claim }, false)?;
                Ok(true)
            }
            _ => self.rest_claim(data, cidr, ip, false),
        })
    }

    /// Strikes an address out that is still as `claim` says, before the store is told: from then on nobody
    /// here gets it.
    pub fn give_up(&self, claim: &OwnClaim) -> Result<bool, LocalError> {
        self.change(|data| {
            let same = data.claims.get(&claim.key()) == Some(claim);
            let free =
                same && claim.kind == ClaimKind::Reserve && data.user_of(&claim.cidr, claim.ip).is_none();
            if free {
                self.strike_claim(data, &claim.cidr, claim.ip)?;
                // After a power cut it must not be there again: somebody else may have it by then.
                files::sync_dir(&self.dir.join("claims"))?;
            }
            Ok(free)
        })
    }

    /// Notes whether another host holds an address of this host's book. One in reserve is struck out;
    /// `true` if that is news.
    pub fn mark_lost(&self, cidr: &IpNet, ip: IpAddr, holder: Option<&NodeId>) -> Result<bool, LocalError> {
        self.change(|data| {
            let Some(claim) = data.claims.get(&(*cidr, ip)) else { return Ok(false) };
            if claim.lost_to.as_ref() == holder {
                return Ok(false);
            }
            if holder.is_some() && !claim.kind.is_use() && data.user_of(cidr, ip).is_none() {
                self.strike_claim(data, cidr, ip)?;
            } else {
                let marked = OwnClaim { lost_to: holder.cloned(), ..claim.clone() };
                self.store_claim(data, marked, true)?;
            }
            Ok(true)
        })
    }

    /// Puts what was handed out long ago, and has no endpoint, back into the reserve: a start that failed.
    /// Answers the addresses.
    pub fn rest_left_behind(&self, older_than_ms: u64) -> Result<Vec<IpAddr>, LocalError> {
        let now = crate::clock::unix_millis();
        let left = |data: &LocalData| -> Vec<_> {
            let old = data.claims.values().filter(|claim| {
                claim.kind.is_use()
                    && now.saturating_sub(claim.since_ms.max(self.opened_ms)) > older_than_ms
                    && data.user_of(&claim.cidr, claim.ip).is_none()
            });
            old.map(OwnClaim::key).collect()
        };
        if self.read(|data| left(data).is_empty()) {
            return Ok(Vec::new());
        }
        self.change(|data| {
            let left = left(data);
            for (cidr, ip) in &left {
                self.rest_claim(data, cidr, *ip, false)?;
            }
            Ok(left.into_iter().map(|(_, ip)| ip).collect())
        })
    }

    /// Whether something of this moment may still be on its way to becoming an endpoint.
    pub fn handed_out_lately(&self, since_ms: u64) -> bool {
        let age = crate::clock::unix_millis().saturating_sub(since_ms);
        since_ms > self.opened_ms && age <= HANDED_OUT_MS
    }

    fn hand_out(
        &self,
        data: &mut LocalData,
        claim: OwnClaim,
        kind: ClaimKind,
        container: Option<&str>,
    ) -> Result<(), LocalError> {
        let container = container.map(str::to_owned);
        let since_ms = self.moment();
        self.store_claim(
            data,
            OwnClaim { kind, container, since_ms, former: false, given_back: false, ..claim },
            true,
        )
    }

    /// No container of this host lives: they will ask again, in about the order of before.
    pub(super) fn rest_all(&self, data: &mut LocalData) -> Result<(), LocalError> {
        let mut used: Vec<_> = data.claims.values().filter(|claim| claim.kind.is_use()).cloned().collect();
        used.sort_by_key(|claim| claim.since_ms);
        for claim in used {
            self.rest_claim(data, &claim.cidr, claim.ip, true)?;
        }
        Ok(())
    }

    /// A container of this host has left an address, or, if `former`, went down with the host.
    pub(super) fn rest_claim(
        &self,
        data: &mut LocalData,
        cidr: &IpNet,
        ip: IpAddr,
        former: bool,
    ) -> Result<bool, LocalError> {
        let Some(claim) = data.claims.get(&(*cidr, ip)).cloned() else { return Ok(false) };
        if claim.lost_to.is_some() {
            self.strike_claim(data, cidr, ip)?;
            return Ok(true);
        }
        // An engine that clears up after a crash gives back what rests already.
        if claim.kind == ClaimKind::Reserve {
            return Ok(true);
        }
        let user = data.user_of(cidr, ip).and_then(|endpoint| endpoint.container.clone());
        let container = user.or_else(|| claim.container.clone());
        let since_ms = self.moment();
        let rested = OwnClaim {
            kind: ClaimKind::Reserve,
            container,
            since_ms,
            used: true,
            former,
            given_back: false,
            ..claim
        };
        self.store_claim(data, rested, former)?;
        Ok(true)
    }

    /// An endpoint is gone, and with it what was claimed with it.
    pub(super) fn rest_claims_of(
        &self,
        data: &mut LocalData,
        endpoint: &LocalEndpoint,
        former: bool,
    ) -> Result<(), LocalError> {
        for (cidr, ip) in &endpoint.claimed {
            let kind = ClaimKind::Engine { endpoint: endpoint.id.clone() };
            match data.claims.get(&(*cidr, *ip)) {
                Some(claim) if claim.kind == kind => {
                    self.rest_claim(data, cidr, *ip, former)?;
                }
                // Somebody else has it by now.
                Some(_) => {}
                None => self.queue_release(data, cidr, *ip)?,
            }
        }
        Ok(())
    }

    /// Gives back the claims in networks that this host no longer has: a daemon that was killed while it
    /// forgot a network may have left some in the book, which nobody would look at again.
    pub(super) fn release_homeless_claims(&self) -> Result<(), LocalError> {
        let homeless: BTreeSet<_> = self.read(|data| {
            let used = data.networks_in_use();
            let networks = data.claims.values().map(|claim| &claim.network);
            networks.filter(|id| data.binding_of(id).is_none() && !used.contains(id)).cloned().collect()
        });
        if homeless.is_empty() {
            return Ok(());
        }
        self.change(|data| homeless.iter().try_for_each(|network| self.release_claims_of(data, network)))
    }

    /// The engine no longer has the network: what was held in it is queued to be given back.
    pub(super) fn release_claims_of(
        &self,
        data: &mut LocalData,
        network: &NetworkId,
    ) -> Result<(), LocalError> {
        let claims: Vec<_> =
            data.claims.values().filter(|claim| claim.network == *network).cloned().collect();
        for claim in claims {
            if claim.lost_to.is_none() {
                self.queue_release(data, &claim.cidr, claim.ip)?;
            }
            self.strike_claim(data, &claim.cidr, claim.ip)?;
        }
        files::sync_dir(&self.dir.join("claims"))
    }

    pub(super) fn store_claim(
        &self,
        data: &mut LocalData,
        claim: OwnClaim,
        durable: bool,
    ) -> Result<(), LocalError> {
        files::write(&self.claim_file(&claim.cidr, claim.ip), &claim, durable)?;
        data.claims.insert(claim.key(), claim);
        Ok(())
    }

    fn strike_claim(&self, data: &mut LocalData, cidr: &IpNet, ip: IpAddr) -> Result<(), LocalError> {
        files::remove(&self.claim_file(cidr, ip))?;
        data.claims.remove(&(*cidr, ip));
        Ok(())
    }

    fn claim_file(&self, cidr: &IpNet, ip: IpAddr) -> std::path::PathBuf {
        self.file("claims", &Release::key_of(cidr, ip).replace('/', "_"))
    }
}

#[cfg(test)]
mod tests;
