//! The addresses that an endpoint comes with: held in this host's book, or claimed in the store.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NewEndpoint;
use crate::{
    driver::{Driver, DriverError, claims::TRIES, takeover::Leave, wanted::LOOK_AGAIN},
    local::{Binding, OwnClaim},
    model::{AddressClaim, ClaimKind, Pool},
    store::{Outcome, Txn, keys, record},
};

const ADVICE: &str = "if Docker chose it, start the container again and it will get another; a network created with --ipam-driver rs-overlay never meets this";

impl Driver {
    /// What our own IPAM has handed out is in the book. Where it is not any more, as when the engine took
    /// its time, the endpoint has the address all the same, and the store is told.
    pub(super) fn enter_in_book(&self, binding: &Binding, new: &NewEndpoint) -> Result<(), DriverError> {
        for ip in &new.addresses {
            if let Some(subnet) = binding.network.subnet_of(*ip) {
                self.local.use_for_container(&self.new_claim_of(
                    binding,
                    subnet.cidr,
                    *ip,
                    ClaimKind::Container,
                ))?;
            }
        }
        Ok(())
    }

    /// Sees to it that this host holds all addresses that the engine's own IPAM has chosen for an endpoint.
    pub(super) async fn claim_engines_choice(
        &self,
        binding: &Binding,
        new: &NewEndpoint,
    ) -> Result<Vec<(IpNet, IpAddr)>, DriverError> {
        let mut wanted = Vec::new();
        for ip in &new.addresses {
            let subnet = binding.network.subnet_of(*ip).ok_or_else(|| {
                let cidr =
                    binding.network.subnets.first().map_or_else(|| IpNet::from(*ip), |subnet| subnet.cidr);
                DriverError::AddressUnusable { ip: *ip, cidr, why: "it lies outside" }
            })?;
            wanted.push((subnet.cidr, *ip));
        }
        let mut missing = wanted.clone();
        if let Err(error) = self.claim_missing(binding, new, &mut missing).await {
            for (cidr, ip) in wanted.iter().filter(|address| !missing.contains(address)) {
                self.local.rest(cidr, *ip)?;
            }
            let DriverError::Store(cause) = error else { return Err(error) };
            let ips: Vec<_> = missing.iter().map(|(_, ip)| ip.to_string()).collect();
            return Err(DriverError::NeedsStore {
                what: format!(
                    "address {} of network {} is not in this host's reserve, and claiming it",
                    ips.join(" and "),
                    binding.network.title()
                ),
                cause,
                instead: "running containers are not affected, try again when the store is back".to_owned(),
            });
        }
        Ok(wanted)
    }

    /// Takes out of `missing` what this host holds.
    fn take_held(&self, new: &NewEndpoint, missing: &mut Vec<(IpNet, IpAddr)>) -> Result<(), DriverError> {
        let mut kept = Vec::new();
        for (cidr, ip) in missing.iter() {
            if !self.local.take_for_endpoint(cidr, *ip, &new.id)? {
                kept.push((*cidr, *ip));
            }
        }
        *missing = kept;
        Ok(())
    }

    /// Claims in one transaction what this host does not hold; `missing` is in the end what it failed on.
    async fn claim_missing(
        &self,
        binding: &Binding,
        new: &NewEndpoint,
        missing: &mut Vec<(IpNet, IpAddr)>,
    ) -> Result<(), DriverError> {
        let mut called = false;
        for _ in 0..TRIES {
            self.take_held(new, missing)?;
            let begun: Vec<_> =
                missing.iter().map_while(|(cidr, ip)| self.local.begin_claim(cidr, *ip)).collect();
            if begun.len() < missing.len() {
                drop(begun);
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            // Somebody here may have been claiming one until now.
            let before = missing.len();
            self.take_held(new, missing)?;
            if missing.is_empty() {
                return Ok(());
            }
            if missing.len() < before {
                continue;
            }
            self.settled().await?;
            let mut txn = Txn::new();
            let mut claims = Vec::new();
            let mut taken = Vec::new();
            let mut elsewhere = None;
            for (cidr, ip) in missing.iter() {
                let kind = ClaimKind::Engine { endpoint: new.id.clone() };
                let mut claim = self.new_claim_of(binding, *cidr, *ip, kind);
                match self.engine_claim(txn.clone(), &mut claim, &mut taken, called).await? {
                    Some(more) => txn = more,
                    None => elsewhere = Some((*cidr, *ip)),
                }
                claims.push(claim);
            }
            if let Some((cidr, ip)) = elsewhere {
                called = true;
                self.call_for(&cidr, ip).await?;
                continue;
            }
            if called {
                txn = missing.iter().fold(txn, |txn, (cidr, ip)| txn.delete(keys::wanted(cidr, Some(*ip))));
            }
            if self.ledger.commit(txn).await? == Outcome::Committed {
                for (ip, leave) in taken {
                    leave.tell(ip);
                }
                for claim in claims {
                    self.local.hold(claim)?;
                }
                return Ok(());
            }
        }
        Err(DriverError::Contended { what: "an address", tries: TRIES })
    }

    /// Adds one claim to a transaction; `None` if another host holds the address in reserve and has not been
    /// asked for it yet.
    async fn engine_claim(
        &self,
        txn: Txn,
        claim: &mut OwnClaim,
        taken: &mut Vec<(IpAddr, Leave)>,
        called: bool,
    ) -> Result<Option<Txn>, DriverError> {
        let (cidr, ip) = claim.key();
        let pool = self.ledger.get::<Pool>(&keys::pool(&cidr)).await?;
        let pool = pool.ok_or(DriverError::PoolGone { cidr, why: "is not claimed in the cluster" })?;
        if pool.record.closing {
            return Err(DriverError::PoolGone { cidr, why: "is being removed" });
        }
        let key = keys::address(&cidr, ip);
        let txn = txn.unchanged(&pool.entry);
        let txn = match self.ledger.get::<AddressClaim>(&key).await? {
            None => txn.absent(key.as_str()),
            // The engine has given it away anew, so whoever held it on this host is gone.
            Some(old) if old.record.node == *self.node() && self.is_engines(&old.record, &cidr, ip) => {
                claim.generation = old.record.generation;
                txn.unchanged(&old.entry)
            }
            Some(old) => match self.leave_to_take(&pool.record, &old).await? {
                Some(leave) => {
                    claim.generation = leave.generation;
                    let txn = leave.guard(txn);
                    taken.push((ip, leave));
                    txn
                }
                None if self.is_reserve_elsewhere(&old.record) && !called => return Ok(None),
                None => return Err(self.address_taken(&pool.record, ip, &old.record, ADVICE).await),
            },
        };
        Ok(Some(txn.put(key, record::encode(&claim.record(self.node())))))
    }

    fn is_engines(&self, old: &AddressClaim, cidr: &IpNet, ip: IpAddr) -> bool {
        match old.kind {
            ClaimKind::Engine { .. } | ClaimKind::Reserve => true,
            ClaimKind::Container => self.local.read(|data| data.user_of(cidr, ip).is_none()),
            ClaimKind::Gateway | ClaimKind::Auxiliary => false,
        }
    }

    fn new_claim_of(&self, binding: &Binding, cidr: IpNet, ip: IpAddr, kind: ClaimKind) -> OwnClaim {
        OwnClaim {
            cidr,
            ip,
            network: binding.network.id.clone(),
            kind,
            container: None,
            generation: 0,
            since_ms: self.local.moment(),
            named: false,
            used: false,
            former: false,
            given_back: false,
            lost_to: None,
        }
    }
}
