//! Addresses for networks whose IPAM driver is ours: `RequestAddress` and `ReleaseAddress`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Driver, DriverError, claims::TRIES};
use crate::{
    chance, clock,
    ipam::{AddressChoice, Direction, Hold, PoolId, choose_address, usable},
    local::Release,
    model::{AddressClaim, ClaimKind, IpamMode, Network, Pool, Subnet},
    store::{Outcome, Txn, keys, ledger::Held, record},
};

/// An own claim without an endpoint is left over from a start that failed once it is this old: an engine
/// creates the endpoint right after it has got the address.
const FORGOTTEN_MS: u64 = 30_000;

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
}

impl Driver {
    /// Claims an address: the given one or a free one.
    pub async fn request_address(&self, request: AddressRequest) -> Result<IpAddr, DriverError> {
        let cidr = request.pool.cidr;
        if let Some(ip) = request.address {
            // A swarm node asks for what its manager has handed out.
            if request.pool.hold == Hold::Again {
                return Ok(ip);
            }
            check_usable(&cidr, ip, request.gateway)?;
        }
        for attempt in 0..TRIES {
            let key = keys::pool(&cidr);
            let pool = self.ledger.get::<Pool>(&key).await?;
            let pool = pool.ok_or(DriverError::PoolGone { cidr, why: "is not claimed in the cluster" })?;
            if pool.record.closing {
                return Err(DriverError::PoolGone { cidr, why: "is being removed" });
            }
            if let Some(ip) = self.part_of_network(&request, &pool.record) {
                return Ok(ip);
            }
            let claimed = match request.address {
                Some(ip) => self.claim_given(&request, &pool, ip).await?,
                None => self.claim_free(&request, &pool, attempt).await?,
            };
            if let Some(ip) = claimed {
                return Ok(ip);
            }
        }
        Err(DriverError::Contended { what: "an address", tries: TRIES })
    }

    /// Whoever attaches a network asks again for its gateway and its auxiliary addresses, before the
    /// engine here has the network. From then on it is a container that asks.
    fn part_of_network(&self, request: &AddressRequest, pool: &Pool) -> Option<IpAddr> {
        let (network, subnet) = self.known_subnet(&pool.cidr)?;
        // Not that of a network which had the subnet before and is not forgotten here yet.
        if pool.network.as_ref() != Some(&network.id) {
            return None;
        }
        if request.gateway {
            return subnet.gateway.filter(|gateway| request.address.is_none_or(|ip| ip == *gateway));
        }
        let attaching = self.local.read(|data| data.binding_of(&network.id).is_none());
        request.address.filter(|ip| attaching && subnet.aux.values().any(|aux| aux == ip))
    }

    /// One attempt at a given address; `None` if a race was lost and another look is needed.
    async fn claim_given(
        &self,
        request: &AddressRequest,
        pool: &Held<Pool>,
        ip: IpAddr,
    ) -> Result<Option<IpAddr>, DriverError> {
        let cidr = pool.record.cidr;
        let key = keys::address(&cidr, ip);
        let txn = Txn::new().unchanged(&pool.entry);
        // Before the claim is read: a claim that is met afterwards, and was not queued, is one that stays.
        let queued = self.local.read(|data| data.releases.contains_key(&Release::key_of(&cidr, ip)));
        let mut claim = self.new_claim(request, &pool.record);
        let mut taken = None;
        let txn = match self.ledger.get::<AddressClaim>(&key).await? {
            None => txn.absent(key.as_str()),
            Some(old) if self.may_renew(&old.record, request, &cidr, ip, queued) => {
                claim.generation = old.record.generation;
                txn.unchanged(&old.entry)
            }
            Some(old) => {
                let leave = self.leave_to_take(&pool.record, &old).await?.filter(|_| !request.gateway);
                let Some(leave) = taken.insert(leave).as_ref() else {
                    let advice = "choose another --ip, or remove that container";
                    return Err(self.address_taken(&pool.record, ip, &old.record, advice).await);
                };
                claim.generation = leave.generation;
                leave.guard(txn)
            }
        };
        let outcome = self.ledger.commit(txn.put(key.as_str(), record::encode(&claim))).await?;
        if outcome == Outcome::Conflict {
            return Ok(None);
        }
        if let Some(leave) = taken.flatten() {
            self.taken_over(cidr, ip, &leave)?;
        }
        // A container that comes back at once finds its address still queued to be given back.
        self.local.cancel_release(&cidr, ip)?;
        Ok(Some(ip))
    }

    /// An own claim that nothing uses any more, or a gateway that is asked for again.
    fn may_renew(
        &self,
        old: &AddressClaim,
        request: &AddressRequest,
        cidr: &IpNet,
        ip: IpAddr,
        queued: bool,
    ) -> bool {
        let own = old.node == *self.node();
        match old.kind {
            ClaimKind::Gateway => request.gateway,
            ClaimKind::Auxiliary => own && !request.gateway && self.known_subnet(cidr).is_none(),
            ClaimKind::Container | ClaimKind::Engine { .. } => {
                let forgotten = clock::unix_millis().saturating_sub(old.since_ms) > FORGOTTEN_MS;
                let unused = || self.local.read(|data| data.user_of(cidr, ip).is_none());
                own && !request.gateway && (forgotten || queued) && unused()
            }
        }
    }

    /// One attempt at a free address; `None` if a race was lost and another look is needed.
    async fn claim_free(
        &self,
        request: &AddressRequest,
        pool: &Held<Pool>,
        attempt: u32,
    ) -> Result<Option<IpAddr>, DriverError> {
        let cidr = pool.record.cidr;
        let entries = self.ledger.store().range(&keys::addresses(&cidr)).await?;
        let claimed: BTreeSet<IpAddr> =
            entries.iter().filter_map(|entry| keys::address_of(&entry.key)).collect();
        let known = self.known_subnet(&cidr).filter(|(n, _)| pool.record.network.as_ref() == Some(&n.id));
        let mut choice = self.choose(request, &pool.record, known.as_ref(), &claimed, attempt);
        let mut left = BTreeMap::new();
        if choice.is_none() && !request.gateway {
            left = self.left_by_the_dead(&pool.record).await?;
            let living = claimed.iter().filter(|ip| !left.contains_key(*ip)).copied().collect();
            choice = self.choose(request, &pool.record, known.as_ref(), &living, attempt);
        }
        let Some(ip) = choice else {
            let network = self.pool_title(&pool.record);
            return Err(DriverError::Full { cidr, network, claimed: claimed.len() });
        };
        let _in_flight = InFlight { driver: self, address: (cidr, ip) };
        let key = keys::address(&cidr, ip);
        let mut claim = self.new_claim(request, &pool.record);
        let txn = Txn::new().unchanged(&pool.entry);
        let leave = left.remove(&ip);
        let txn = match &leave {
            Some(leave) => {
                claim.generation = leave.generation;
                leave.guard(txn)
            }
            None => txn.absent(key.as_str()),
        };
        if self.ledger.commit(txn.put(key, record::encode(&claim))).await? == Outcome::Conflict {
            return Ok(None);
        }
        if let Some(leave) = &leave {
            self.taken_over(cidr, ip, leave)?;
        }
        Ok(Some(ip))
    }

    /// Chooses a free address and notes it as being claimed, so that calls of one host, which come by the
    /// dozen when an engine starts, do not race each other.
    fn choose(
        &self,
        request: &AddressRequest,
        pool: &Pool,
        known: Option<&(Network, Subnet)>,
        claimed: &BTreeSet<IpAddr>,
        attempt: u32,
    ) -> Option<IpAddr> {
        let engine_too = known.is_some_and(|(network, _)| network.ipam == IpamMode::Engine);
        let mut state = self.allocating();
        let mut taken = claimed.clone();
        taken.extend(state.in_flight.iter().filter(|(cidr, _)| *cidr == pool.cidr).map(|(_, ip)| *ip));
        taken.extend(
            known
                .iter()
                .flat_map(|(_, subnet)| subnet.gateway.into_iter().chain(subnet.aux.values().copied())),
        );
        let choice = AddressChoice {
            cidr: pool.cidr,
            range: if request.gateway {
                None
            } else {
                pool.ip_range.or(known.and_then(|(_, subnet)| subnet.ip_range))
            },
            taken: &taken,
            last: state.last.get(&pool.cidr).copied().filter(|_| !request.gateway),
            direction: if engine_too { Direction::Down } else { Direction::Up },
            // Hosts that have met once draw how far apart they go.
            skip: if attempt == 0 { 0 } else { chance::up_to(0..=attempt.min(16)) },
        };
        let ip = choose_address(&choice)?;
        state.in_flight.insert((pool.cidr, ip));
        if !request.gateway {
            state.last.insert(pool.cidr, ip);
        }
        Some(ip)
    }

    fn new_claim(&self, request: &AddressRequest, pool: &Pool) -> AddressClaim {
        let kind = match (request.gateway, &pool.network) {
            (true, _) => ClaimKind::Gateway,
            // Before there is a network no container can ask: these are auxiliary addresses. A swarm
            // manager, though, allocates for tasks in the global space at any time.
            (false, None) if pool.space == crate::model::Space::Local => ClaimKind::Auxiliary,
            (false, _) => ClaimKind::Container,
        };
        let container = request.container.clone();
        AddressClaim {
            node: self.node().clone(),
            kind,
            container,
            generation: 0,
            since_ms: self.local.moment(),
        }
    }

    /// Queues an address to be given back. Towards the engine this always succeeds.
    pub fn release_address(&self, pool: &PoolId, ip: IpAddr) -> Result<(), DriverError> {
        let reserved = self.known_subnet(&pool.cidr).is_some_and(|(_, subnet)| is_reserved(&subnet, ip));
        if reserved || pool.hold == Hold::Again {
            return Ok(());
        }
        self.local.put_release(Release { cidr: pool.cidr, ip, until_ms: self.local.moment() })?;
        Ok(())
    }
}

/// Ends the note that an address is being claimed, also when the call is cut off.
struct InFlight<'a> {
    driver: &'a Driver,
    address: (IpNet, IpAddr),
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.driver.allocating().in_flight.remove(&self.address);
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
