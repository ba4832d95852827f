//! Asking the other hosts for addresses that they hold in reserve.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Driver, DriverError};
use crate::{
    model::{AddressClaim, ClaimKind, Wanted},
    store::{Txn, keys, record},
};

/// How long a call waits for others to give something back. A host that lives does so within a few round
/// trips to the store.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);
/// Pause between two looks.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(40);

impl Driver {
    /// Whether another host holds the address without having a container for it.
    pub(super) fn is_reserve_elsewhere(&self, claim: &AddressClaim) -> bool {
        claim.kind == ClaimKind::Reserve && claim.node != *self.node()
    }

    /// Asks for one address, and waits until its holder has given it back or does not seem to.
    pub(super) async fn call_for(&self, cidr: &IpNet, ip: IpAddr) -> Result<(), DriverError> {
        self.call(cidr, Some(ip)).await?;
        let key = keys::address(cidr, ip);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let held = self.ledger.get::<AddressClaim>(&key).await?;
            if !held.is_some_and(|held| self.is_reserve_elsewhere(&held.record)) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Asks for any address of a subnet that is full.
    pub(super) async fn call_for_any(&self, cidr: &IpNet) -> Result<(), DriverError> {
        self.call(cidr, None).await
    }

    /// The call stays in the store until an address is claimed by it, or for about a minute.
    async fn call(&self, cidr: &IpNet, ip: Option<IpAddr>) -> Result<(), DriverError> {
        if self.snapshot().wanted.contains(&(*cidr, ip)) {
            return Ok(());
        }
        let wanted = Wanted { node: self.node().clone(), extra: BTreeMap::new() };
        self.ledger.commit(Txn::new().put(keys::wanted(cidr, ip), record::encode(&wanted))).await?;
        Ok(())
    }
}
