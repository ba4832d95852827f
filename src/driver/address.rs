//! Addresses for networks whose IPAM driver is ours: `RequestAddress` and `ReleaseAddress`. Both are answered
//! from this host's own book wherever that can be; the rest is claimed in the store.

mod claim;

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::time::Instant;

use super::{Driver, DriverError};
use crate::{
    ipam::{Hold, PoolId, usable},
    local::{Release, Taken},
    model::Subnet,
};

/// Longest wait for a reserve that is being filled, which takes one round trip to the store: the first
/// container of a new network gets the first address.
const FILLED: Duration = Duration::from_millis(300);

/// `RequestAddress`, in our terms.
#[derive(Debug, Clone)]
pub struct AddressRequest {
    /// Where from.
    pub pool: PoolId,
    /// Just this one.
    pub address: Option<IpAddr>,
    /// As the gateway.
    pub gateway: bool,
    /// Name of the container, where the engine tells it (29 and newer).
    pub container: Option<String>,
}

impl AddressRequest {
    /// Reads the texts of the call.
    pub fn parse(
        pool: &str,
        address: &str,
        gateway: bool,
        container: Option<String>,
    ) -> Result<Self, DriverError> {
        let pool = pool
            .parse()
            .map_err(|_| DriverError::invalid("pool id", pool, "one that rs-overlay has given out"))?;
        let address = if address.is_empty() { None } else { Some(super::parse_ip(address)?) };
        Ok(Self { pool, address, gateway, container })
    }

    /// Whether this host's book may answer: not for networks that engines share, whose addresses one host
    /// may ask for and another give back.
    fn is_own(&self) -> bool {
        !self.gateway && self.pool.hold == Hold::Local
    }
}

impl Driver {
    /// Hands an address out: the given one or a free one. One of this host's reserve goes without the store.
    pub async fn request_address(&self, request: AddressRequest) -> Result<IpAddr, DriverError> {
        let cidr = request.pool.cidr;
        if let Some(ip) = request.address {
            // A swarm node asks for what its manager has handed out.
            if request.pool.hold == Hold::Again {
                return Ok(ip);
            }
            check_usable(&cidr, ip, request.gateway)?;
        }
        if let Some(ip) = self.take_from_book(&request)? {
            return Ok(ip);
        }
        if request.address.is_none()
            && request.is_own()
            && self.filled(&cidr).await
            && let Some(ip) = self.take_from_book(&request)?
        {
            return Ok(ip);
        }
        self.claim_address(&request).await.map_err(|error| self.without_store(&request, error))
    }

    /// Waits for a reserve that is being filled just now; `false` if there is nothing to wait for.
    async fn filled(&self, cidr: &IpNet) -> bool {
        let end = Instant::now() + FILLED;
        let begun = self.local.is_filling(cidr);
        while self.local.is_filling(cidr) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun
    }

    /// What this host holds already.
    pub(super) fn take_from_book(&self, request: &AddressRequest) -> Result<Option<IpAddr>, DriverError> {
        if !request.is_own() {
            return Ok(None);
        }
        let cidr = &request.pool.cidr;
        let container = request.container.as_deref();
        let Some(ip) = request.address else { return Ok(self.local.spend(cidr, container)?) };
        match self.local.take(cidr, ip, container)? {
            Taken::Yes => Ok(Some(ip)),
            Taken::NotHeld => Ok(None),
            Taken::InUse(name) => {
                let snapshot = self.snapshot();
                let name = name.map_or_else(|| "a container".to_owned(), |name| format!("container {name}"));
                Err(DriverError::AddressTaken {
                    ip,
                    network: self.network_title(cidr),
                    holder: format!("{name} on host {}", snapshot.node_title(self.node())),
                    advice: "choose another --ip, or remove that container".to_owned(),
                })
            }
        }
    }

    /// Says what can be done while the store is away.
    fn without_store(&self, request: &AddressRequest, error: DriverError) -> DriverError {
        let DriverError::Store(cause) = error else { return error };
        let cidr = &request.pool.cidr;
        let network = self.network_title(cidr);
        let reserve = self.local.read(|data| data.reserve_of(cidr));
        let (what, instead) = match request.address {
            Some(ip) if !reserve.is_empty() => {
                let some: Vec<_> = reserve.iter().take(3).map(|claim| claim.ip.to_string()).collect();
                (
                    format!(
                        "address {ip} of network {network} is not in this host's reserve, and claiming it"
                    ),
                    format!(
                        "a container without --ip, or with one of the reserve such as {}, can be started now",
                        some.join(" or ")
                    ),
                )
            }
            Some(ip) => (
                format!("address {ip} of network {network} is not in this host's reserve, and claiming it"),
                "running containers are not affected, try again when the store is back".to_owned(),
            ),
            None => (
                format!("this host has no address of network {network} left in reserve, and claiming one"),
                "running containers are not affected, try again when the store is back".to_owned(),
            ),
        };
        DriverError::NeedsStore { what, cause, instead }
    }

    /// The container at an address is gone, and the address rests. Towards the engine this always succeeds.
    pub fn release_address(&self, pool: &PoolId, ip: IpAddr) -> Result<(), DriverError> {
        let reserved = self.known_subnet(&pool.cidr).is_some_and(|(_, subnet)| is_reserved(&subnet, ip));
        if reserved || pool.hold == Hold::Again || self.local.rest(&pool.cidr, ip)? {
            return Ok(());
        }
        self.local.put_release(Release { cidr: pool.cidr, ip, until_ms: self.local.moment() })?;
        Ok(())
    }

    fn network_title(&self, cidr: &IpNet) -> String {
        self.known_subnet(cidr).map_or_else(|| cidr.to_string(), |(network, _)| network.title().to_owned())
    }
}

fn check_usable(cidr: &IpNet, ip: IpAddr, gateway: bool) -> Result<(), DriverError> {
    let why = if !cidr.contains(&ip) {
        "it lies outside"
    } else if !usable(cidr, ip) && !gateway {
        "it is the network's own or its broadcast address"
    } else {
        return Ok(());
    };
    Err(DriverError::AddressUnusable { ip, cidr: *cidr, why })
}

/// Gateway or auxiliary address of a subnet.
fn is_reserved(subnet: &Subnet, ip: IpAddr) -> bool {
    subnet.gateway == Some(ip) || subnet.aux.values().any(|aux| *aux == ip)
}
