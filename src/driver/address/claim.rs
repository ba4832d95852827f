//! Addresses that this host does not hold yet, claimed in the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tokio::time::Instant;

use super::AddressRequest;
use crate::{
    chance,
    driver::{
        Driver, DriverError,
        claims::TRIES,
        wanted::{LOOK_AGAIN, PATIENCE},
    },
    ipam::{AddressChoice, Direction, choose_address},
    local::{Allocating, OwnClaim, Release},
    model::{AddressClaim, ClaimKind, IpamMode, Mode, Network, Pool, Space, Subnet},
    store::{Entry, Outcome, Txn, keys, ledger::Held, record},
};

/// What one claim has seen in its attempts.
#[derive(Default)]
struct Progress {
    attempt: u32,
    /// Since when others have been asked for what they hold in reserve.
    called: Option<Instant>,
}

impl Driver {
    /// Claims an address in the store and enters it in the book.
    pub(super) async fn claim_address(&self, request: &AddressRequest) -> Result<IpAddr, DriverError> {
        self.settled().await?;
        let cidr = request.pool.cidr;
        let mut progress = Progress::default();
        for attempt in 0..TRIES {
            progress.attempt = attempt;
            let key = keys::pool(&cidr);
            let pool = self.ledger.get::<Pool>(&key).await?;
            let pool = pool.ok_or(DriverError::PoolGone { cidr, why: "is not claimed in the cluster" })?;
            if pool.record.closing {
                return Err(DriverError::PoolGone { cidr, why: "is being removed" });
            }
            if let Some(ip) = self.part_of_network(request, &pool.record).await? {
                return Ok(ip);
            }
            let claimed = match request.address {
                Some(ip) => self.claim_given(request, &pool, ip, &mut progress).await?,
                None => self.claim_free(request, &pool, &mut progress).await?,
            };
            if let Some(ip) = claimed {
                return Ok(ip);
            }
        }
        Err(DriverError::Contended { what: "an address", tries: TRIES })
    }

    /// Whoever attaches a network asks again for its gateway and its auxiliary addresses, before the
    /// engine here has the network. From then on it is a container that asks.
    async fn part_of_network(
        &self,
        request: &AddressRequest,
        pool: &Pool,
    ) -> Result<Option<IpAddr>, DriverError> {
        let Some(network) = &pool.network else { return Ok(None) };
        // Not that of a network which had the subnet before and is not forgotten here yet.
        let known = self.known_subnet(&pool.cidr).filter(|(known, _)| known.id == *network);
        let subnet = if let Some((_, subnet)) = known {
            Some(subnet)
        } else {
            // Created elsewhere so lately that the snapshot here does not have it.
            let held = self.ledger.get::<Network>(&keys::network(network)).await?;
            held.and_then(|held| held.record.subnets.into_iter().find(|s| s.cidr == pool.cidr))
        };
        let Some(subnet) = subnet else { return Ok(None) };
        if request.gateway {
            return Ok(subnet.gateway.filter(|gateway| request.address.is_none_or(|ip| ip == *gateway)));
        }
        let attaching = self.local.read(|data| data.binding_of(network).is_none());
        Ok(request.address.filter(|ip| attaching && subnet.aux.values().any(|aux| aux == ip)))
    }

    /// One attempt at a given address; `None` if another look is needed.
    async fn claim_given(
        &self,
        request: &AddressRequest,
        pool: &Held<Pool>,
        ip: IpAddr,
        progress: &mut Progress,
    ) -> Result<Option<IpAddr>, DriverError> {
        let cidr = pool.record.cidr;
        let Some(_in_flight) = self.local.begin_claim(&cidr, ip) else {
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(None);
        };
        // Somebody here may have been claiming it until now.
        if let Some(ip) = self.take_from_book(request)? {
            return Ok(Some(ip));
        }
        let key = keys::address(&cidr, ip);
        let txn = Txn::new().unchanged(&pool.entry);
        // Before the claim is read: a claim that is met afterwards, and was not queued, is one that stays.
        let queued = self.local.read(|data| data.releases.contains_key(&Release::key_of(&cidr, ip)));
        let mut claim = self.new_claim(request, &pool.record);
        let mut taken = None;
        let txn = match self.ledger.get::<AddressClaim>(&key).await? {
            None => txn.absent(key.as_str()),
            Some(old)
                if self.may_renew(&old.record, request, &cidr, ip, queued)
                    || asked_again(&pool.record, &old.record, request) =>
            {
                claim.generation = old.record.generation;
                txn.unchanged(&old.entry)
            }
            Some(old) => match self.leave_to_take(&pool.record, &old).await?.filter(|_| !request.gateway) {
                Some(leave) => {
                    claim.generation = leave.generation;
                    taken.insert(leave).guard(txn)
                }
                None if self.is_reserve_elsewhere(&old.record) && progress.called.is_none() => {
                    progress.called = Some(Instant::now());
                    self.call_for(&cidr, ip).await?;
                    return Ok(None);
                }
                None => {
                    let advice = "choose another --ip, or remove that container";
                    return Err(self.address_taken(&pool.record, ip, &old.record, advice).await);
                }
            },
        };
        let txn = txn.put(key.as_str(), record::encode(&claim));
        let txn = if progress.called.is_some() { txn.delete(keys::wanted(&cidr, Some(ip))) } else { txn };
        if self.ledger.commit(txn).await? == Outcome::Conflict {
            return Ok(None);
        }
        if let Some(leave) = taken {
            leave.tell(ip);
        }
        // A container that comes back at once finds its address still queued to be given back.
        self.local.cancel_release(&cidr, ip)?;
        self.enter(request, &pool.record, ip, claim)?;
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
        let unused = || self.local.read(|data| data.user_of(cidr, ip).is_none());
        match old.kind {
            ClaimKind::Gateway => request.gateway,
            ClaimKind::Auxiliary => own && !request.gateway && self.known_subnet(cidr).is_none(),
            // Not in the book, or it would not have come to this.
            ClaimKind::Reserve => own && !request.gateway && unused(),
            ClaimKind::Container | ClaimKind::Engine { .. } => {
                let forgotten = !self.local.handed_out_lately(old.since_ms);
                own && !request.gateway && (forgotten || queued) && unused()
            }
        }
    }

    /// One attempt at a free address; `None` if another look is needed.
    async fn claim_free(
        &self,
        request: &AddressRequest,
        pool: &Held<Pool>,
        progress: &mut Progress,
    ) -> Result<Option<IpAddr>, DriverError> {
        let cidr = pool.record.cidr;
        let entries = self.ledger.store().range(&keys::addresses(&cidr)).await?;
        let claimed: BTreeSet<IpAddr> =
            entries.iter().filter_map(|entry| keys::address_of(&entry.key)).collect();
        let known = self.known_subnet(&cidr).filter(|(n, _)| pool.record.network.as_ref() == Some(&n.id));
        let choose_beside = |claimed: &BTreeSet<IpAddr>| {
            self.local.begin_chosen(&cidr, |state: &mut Allocating| {
                self.choose(request, &pool.record, known.as_ref(), claimed, progress.attempt, state)
            })
        };
        let mut choice = choose_beside(&claimed);
        let mut left = BTreeMap::new();
        if choice.is_none() && !request.gateway {
            left = self.left_by_the_dead(&pool.record).await?;
            let living = claimed.iter().filter(|ip| !left.contains_key(*ip)).copied().collect();
            choice = choose_beside(&living);
        }
        let Some((ip, _in_flight)) = choice else {
            if self.may_wait(&entries, &cidr, progress).await? {
                return Ok(None);
            }
            let network = self.pool_title(&pool.record);
            return Err(DriverError::Full { cidr, network, claimed: claimed.len() });
        };
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
        if let Some(leave) = leave {
            leave.tell(ip);
        }
        self.enter(request, &pool.record, ip, claim)?;
        Ok(Some(ip))
    }

    /// Whether others hold addresses of a full subnet in reserve, and may still give one back: they are
    /// asked to, and another look follows.
    async fn may_wait(
        &self,
        entries: &[Entry],
        cidr: &IpNet,
        progress: &mut Progress,
    ) -> Result<bool, DriverError> {
        let since = *progress.called.get_or_insert_with(Instant::now);
        let claims = entries.iter().filter_map(|e| record::decode::<AddressClaim>(&e.key, &e.value).ok());
        if since.elapsed() > PATIENCE || !claims.into_iter().any(|claim| self.is_reserve_elsewhere(&claim)) {
            return Ok(false);
        }
        self.call_for_any(cidr).await?;
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(true)
    }

    /// Chooses a free address that nobody here is claiming.
    fn choose(
        &self,
        request: &AddressRequest,
        pool: &Pool,
        known: Option<&(Network, Subnet)>,
        claimed: &BTreeSet<IpAddr>,
        attempt: u32,
        state: &mut Allocating,
    ) -> Option<IpAddr> {
        let engine_too = known.is_some_and(|(network, _)| network.ipam == IpamMode::Engine);
        let mut taken = claimed.clone();
        if let Some((network, subnet)) = known {
            taken.extend(subnet.gateway.into_iter().chain(subnet.aux.values().copied()));
            // What lives stays where it is, also if the store has lost its claim.
            let snapshot = self.snapshot();
            let living = snapshot.endpoints_of(&network.id).filter(|e| !snapshot.is_dead(&e.node));
            taken.extend(living.flat_map(|endpoint| endpoint.addresses.iter().copied()));
        }
        taken.extend(self.local.read(|data| data.claims_in(&pool.cidr).map(|c| c.ip).collect::<Vec<_>>()));
        taken.extend(state.in_flight(&pool.cidr));
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
        if !request.gateway {
            state.last.insert(pool.cidr, ip);
        }
        Some(ip)
    }

    fn new_claim(&self, request: &AddressRequest, pool: &Pool) -> AddressClaim {
        let mode = self.config.roles.now().mode();
        let may_manage = mode.is_none_or(|mode| mode == Mode::Swarm);
        let kind = match (request.gateway, &pool.network) {
            (true, _) => ClaimKind::Gateway,
            // Before there is a network no container can ask: these are auxiliary addresses. A swarm
            // manager, though, allocates for tasks in the global space at any time.
            (false, None) if pool.space == Space::Local || !may_manage => ClaimKind::Auxiliary,
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

    /// Enters in the book what the store has granted to a container of this engine.
    fn enter(
        &self,
        request: &AddressRequest,
        pool: &Pool,
        ip: IpAddr,
        claim: AddressClaim,
    ) -> Result<(), DriverError> {
        let Some(network) = pool.network.clone() else { return Ok(()) };
        if request.is_own() && claim.kind.is_use() {
            // Without a network of the engine's there is no container either, and the claim is swept up.
            self.local.hold(OwnClaim {
                cidr: pool.cidr,
                ip,
                network,
                kind: claim.kind,
                container: claim.container,
                generation: claim.generation,
                since_ms: claim.since_ms,
                named: request.address.is_some(),
                used: false,
                former: false,
                given_back: false,
                lost_to: None,
            })?;
        }
        Ok(())
    }
}

/// Whether a manager that has begun asks for what an earlier one had handed out to a container.
fn asked_again(pool: &Pool, old: &AddressClaim, request: &AddressRequest) -> bool {
    !request.gateway && old.kind == ClaimKind::Container && pool.is_of_an_earlier_term(old)
}
