//! Who holds an address, and what its subnet belongs to.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Driver, DriverError, claims};
use crate::{
    model::{AddressClaim, ClaimKind, Endpoint, Network, Pool, Subnet},
    store::keys,
};

impl Driver {
    /// The network and subnet behind a pool, as far as this host knows.
    pub(super) fn known_subnet(&self, cidr: &IpNet) -> Option<(Network, Subnet)> {
        let of = |network: &Network| {
            network.subnets.iter().find(|s| s.cidr == *cidr).map(|s| (network.clone(), s.clone()))
        };
        self.snapshot().networks.values().find_map(of).or_else(|| {
            self.local.read(|data| data.bindings.values().find_map(|binding| of(&binding.network)))
        })
    }

    pub(super) fn pool_title(&self, pool: &Pool) -> String {
        let Some(id) = &pool.network else { return "(being created)".to_owned() };
        self.snapshot().networks.get(id).map_or(id.short(), |network| network.title()).to_owned()
    }

    /// The error that tells who has an address, where, and since when it was asked for.
    pub(super) async fn address_taken(
        &self,
        pool: &Pool,
        ip: IpAddr,
        claim: &AddressClaim,
        advice: &str,
    ) -> DriverError {
        let snapshot = self.snapshot();
        let host = claims::host_title(&snapshot, &claim.node);
        let holder = match &claim.kind {
            ClaimKind::Gateway => "its gateway".to_owned(),
            ClaimKind::Auxiliary => format!("an auxiliary address, claimed on host {host}"),
            ClaimKind::Reserve => format!("host {host} in reserve, which has not given it back"),
            ClaimKind::Container | ClaimKind::Engine { .. } => {
                let name = match &claim.container {
                    Some(name) => Some(name.clone()),
                    None => self.container_at(pool, ip).await,
                };
                match name {
                    Some(name) => format!("container {name} on host {host}"),
                    None => format!("a container on host {host}"),
                }
            }
        };
        DriverError::AddressTaken { ip, network: self.pool_title(pool), holder, advice: advice.to_owned() }
    }

    async fn container_at(&self, pool: &Pool, ip: IpAddr) -> Option<String> {
        let network = pool.network.as_ref()?;
        // An error here only makes the message poorer.
        let endpoints = self.ledger.list::<Endpoint>(&keys::endpoints(network)).await.ok()?;
        let found = endpoints.into_iter().find(|held| held.record.addresses.contains(&ip))?;
        Some(found.record.title().to_owned())
    }
}
