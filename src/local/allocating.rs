//! What keeps those who claim addresses for one host out of each other's way: calls of the engine, which
//! come by the dozen when it starts, and the task that fills the reserve. In memory only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{MutexGuard, PoisonError},
};

use ipnet::IpNet;

use super::Local;

/// Addresses that this host is claiming right now, and the last one per subnet.
#[derive(Debug, Default)]
pub struct Allocating {
    in_flight: BTreeSet<(IpNet, IpAddr)>,
    filling: BTreeSet<IpNet>,
    /// Where the next search of a subnet begins.
    pub last: BTreeMap<IpNet, IpAddr>,
}

impl Allocating {
    /// Addresses of a subnet that somebody here is claiming.
    pub fn in_flight(&self, cidr: &IpNet) -> impl Iterator<Item = IpAddr> {
        let cidr = *cidr;
        self.in_flight.iter().filter(move |(of, _)| *of == cidr).map(|(_, ip)| *ip)
    }
}

/// While it lives, the reserve of a subnet is being filled.
#[derive(Debug)]
pub struct Filling<'a> {
    local: &'a Local,
    cidr: IpNet,
}

/// While it lives, nobody else on this host claims the address or enters it in the book.
#[derive(Debug)]
pub struct InFlight<'a> {
    local: &'a Local,
    address: (IpNet, IpAddr),
}

impl Local {
    /// What this host is claiming right now.
    pub fn allocating(&self) -> MutexGuard<'_, Allocating> {
        self.allocating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to fill the reserve of a subnet.
    pub fn begin_filling(&self, cidr: &IpNet) -> Filling<'_> {
        self.allocating().filling.insert(*cidr);
        Filling { local: self, cidr: *cidr }
    }

    /// Whether the reserve of a subnet is being filled.
    pub fn is_filling(&self, cidr: &IpNet) -> bool {
        self.allocating().filling.contains(cidr)
    }

    /// Begins to claim an address; `None` while somebody else here does.
    pub fn begin_claim(&self, cidr: &IpNet, ip: IpAddr) -> Option<InFlight<'_>> {
        self.begin_chosen(cidr, |_| Some(ip)).map(|(_, in_flight)| in_flight)
    }

    /// Begins to claim the address that `choose` finds in view of the others; `None` if it finds none, or one
    /// that somebody else here is claiming.
    pub fn begin_chosen(
        &self,
        cidr: &IpNet,
        choose: impl FnOnce(&mut Allocating) -> Option<IpAddr>,
    ) -> Option<(IpAddr, InFlight<'_>)> {
        let mut state = self.allocating();
        let ip = choose(&mut state)?;
        state.in_flight.insert((*cidr, ip)).then(|| (ip, InFlight { local: self, address: (*cidr, ip) }))
    }
}

/// Also when a call is cut off.
impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.local.allocating().in_flight.remove(&self.address);
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.local.allocating().filling.remove(&self.cidr);
    }
}
