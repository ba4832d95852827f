//! Keeps the store's records of this host's addresses equal to the book, and the reserve filled: claimed
//! ahead, so that a container can start while the store is away.
//!
//! The book is right and the records follow, with one exception: an address that another host holds by the
//! store's word is lost. Nothing here undoes anything because the store is away.

mod image;
mod reserve;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{cluster, housekeeping::Unfinished, mirror::Health, removal};
use crate::{
    backoff::Backoff,
    local::{Local, OwnClaim},
    model::{AddressClaim, Mode, Network, NetworkId, Pool, Snapshot, Subnet},
    store::{
        Entry,
        gate::Footing,
        keys,
        ledger::{Held, Ledger},
        record,
    },
    watched::Watched,
};

/// How often the store's records are read again, in case somebody else changed them.
const REREAD: Duration = Duration::from_secs(30);
/// Pause after a change here: a container's start is several, and worth one look.
const SETTLE: Duration = Duration::from_millis(15);
/// Age from which an address that was handed out and has no endpoint was left behind, in milliseconds: an
/// engine goes from one to the other in seconds.
const LEFT_BEHIND_MS: u64 = 180_000;

/// The keeping task.
pub struct Keeper {
    /// The store.
    pub ledger: Ledger,
    /// The book.
    pub local: Arc<Local>,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Tells when the store is back.
    pub health: watch::Receiver<Health>,
    /// Whether the store has what all hosts know; absent: it is never lost.
    pub footing: Option<watch::Receiver<Footing>>,
}

/// All that decides about the records of one subnet, as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    network: Network,
    subnet: Subnet,
    /// Who hands out addresses here.
    engine: bool,
    claims: Vec<OwnClaim>,
    /// Addresses of endpoints of this host.
    used: BTreeSet<IpAddr>,
    /// Addresses that hosts call for; `None` among them: any.
    wanted: BTreeSet<Option<IpAddr>>,
    hosts: usize,
    /// The incarnation of the store that was confirmed last: in another one all has to be told anew.
    store_incarnation: Option<String>,
}

/// What the store has of one subnet.
struct Found {
    pool: Held<Pool>,
    records: BTreeMap<IpAddr, Held<AddressClaim>>,
    /// Addresses whose record cannot be read: somebody's.
    unreadable: BTreeSet<IpAddr>,
}

/// Whether a subnet is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Yes,
    /// The store had another opinion: look again.
    LookAgain,
}

impl Keeper {
    /// Runs until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.local.changes();
        let mut retry = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut kept = BTreeMap::new();
        let mut complained = BTreeSet::new();
        let mut reread_at = Instant::now() + REREAD;
        loop {
            changes.mark_unchanged();
            self.snapshot.mark_unchanged();
            let again_at = match self.round(&mut kept, &mut complained).await {
                Ok(Done::Yes) => {
                    retry.reset();
                    reread_at
                }
                Ok(Done::LookAgain) => Instant::now() + retry.pause(),
                Err(error) => {
                    debug!(%error, "addresses not told to the store yet");
                    kept.clear();
                    Instant::now() + retry.pause()
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = changes.changed() => tokio::time::sleep(SETTLE).await,
                Ok(()) = self.snapshot.changed() => {}
                Ok(()) = self.health.changed() => kept.clear(),
                () = tokio::time::sleep_until(again_at) => {}
            }
            if Instant::now() >= reread_at {
                reread_at = Instant::now() + REREAD;
                kept.clear();
            }
        }
    }

    /// Looks at every subnet that is not as it was when it was last done with.
    async fn round(
        &self,
        kept: &mut BTreeMap<IpNet, View>,
        complained: &mut BTreeSet<NetworkId>,
    ) -> Result<Done, Unfinished> {
        for ip in self.local.rest_left_behind(LEFT_BEHIND_MS)? {
            debug!(%ip, "an address whose container was never started rests in the reserve");
        }
        let views = self.views();
        kept.retain(|cidr, _| views.contains_key(cidr));
        let mut done = Done::Yes;
        for (cidr, view) in views {
            if kept.get(&cidr) == Some(&view) {
                continue;
            }
            match self.keep(&view, complained).await? {
                Done::Yes => {
                    kept.insert(cidr, view);
                }
                Done::LookAgain => {
                    kept.remove(&cidr);
                    done = Done::LookAgain;
                }
            }
        }
        Ok(done)
    }

    fn views(&self) -> BTreeMap<IpNet, View> {
        let snapshot = self.snapshot.now();
        self.local.read(|data| {
            let mut views = BTreeMap::new();
            // Of networks that engines share, a swarm's manager hands out the addresses, or all engines do.
            for binding in data.bindings.values().filter(|binding| binding.network.mode() == Mode::Plain) {
                let network = &binding.network;
                let own = data.endpoints.values().filter(|endpoint| endpoint.network == network.id);
                let used: BTreeSet<_> = own.flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
                for subnet in &network.subnets {
                    let wanted = snapshot.wanted.iter().filter(|(cidr, _)| *cidr == subnet.cidr);
                    let view = View {
                        network: network.clone(),
                        subnet: subnet.clone(),
                        engine: binding.ipam == crate::model::IpamMode::Engine,
                        claims: data.claims_in(&subnet.cidr).cloned().collect(),
                        used: used.clone(),
                        wanted: wanted.map(|(_, ip)| *ip).collect(),
                        hosts: snapshot.nodes.len(),
                        store_incarnation: data.store_incarnation().map(str::to_owned),
                    };
                    views.insert(subnet.cidr, view);
                }
            }
            views
        })
    }

    async fn keep(&self, view: &View, complained: &mut BTreeSet<NetworkId>) -> Result<Done, Unfinished> {
        let network = &view.network.id;
        let Some(found) = self.find(view).await? else {
            // Removed elsewhere while the store was out of reach from here, or wiped: others decide which.
            if self.local.read(|data| data.uses(network)) && complained.insert(network.clone()) {
                warn!(
                    network = view.network.title(),
                    subnet = %view.subnet.cidr,
                    "the store does not have this network's subnet; its containers here stay as they are"
                );
            }
            return Ok(Done::Yes);
        };
        complained.remove(network);
        if found.pool.record.closing {
            return Ok(Done::LookAgain);
        }
        let told = self.tell(view, &found).await?;
        if told.done == Done::LookAgain {
            return Ok(told.done);
        }
        if !self.is_settled() {
            // What looks free may be an address, or a network, that another host has not told of again yet.
            return Ok(Done::LookAgain);
        }
        if told.freed && !self.local.read(|data| data.uses(network)) {
            // Whoever removed the network elsewhere may have looked before that.
            removal::finish_if_departed(&self.ledger, &self.local, network).await?;
        }
        if !told.changed {
            return self.keep_reserve(view, &found).await;
        }
        match self.find(view).await? {
            Some(found) => self.keep_reserve(view, &found).await,
            None => Ok(Done::LookAgain),
        }
    }

    /// Whether what the store says of other hosts is what they say themselves: after it was lost, they need
    /// a moment to fill it again.
    fn is_settled(&self) -> bool {
        self.footing.as_ref().is_none_or(|footing| match footing.now() {
            Footing::Sure { settles, .. } => settles.is_none_or(|until| until <= Instant::now()),
            _ => false,
        })
    }

    /// Whether what was just read is the store that this host knows, and all hosts are done with filling it.
    async fn is_believed(&self) -> Result<bool, Unfinished> {
        let snapshot = self.snapshot.now();
        let known = cluster::is_known(&**self.ledger.store(), &self.local, &snapshot).await?;
        Ok(known && self.is_settled())
    }

    async fn find(&self, view: &View) -> Result<Option<Found>, Unfinished> {
        let cidr = &view.subnet.cidr;
        let pool = self.ledger.get::<Pool>(&keys::pool(cidr)).await?;
        let Some(pool) = pool.filter(|pool| pool.record.network.as_ref() == Some(&view.network.id)) else {
            return Ok(None);
        };
        let mut found = Found { pool, records: BTreeMap::new(), unreadable: BTreeSet::new() };
        for entry in self.ledger.store().range(&keys::addresses(cidr)).await? {
            let Some(ip) = keys::address_of(&entry.key) else { continue };
            match record::decode(&entry.key, &entry.value) {
                Ok(record) => {
                    found.records.insert(ip, Held { entry, record });
                }
                Err(error) => {
                    debug!(%error, "an address whose record is of another release");
                    found.unreadable.insert(ip);
                }
            }
        }
        Ok(Some(found))
    }
}

impl Found {
    /// The entry under an address that this host holds by the store's word.
    fn own(&self, ip: IpAddr, node: &crate::model::NodeId) -> Option<&Entry> {
        self.records.get(&ip).filter(|held| held.record.node == *node).map(|held| &held.entry)
    }
}
