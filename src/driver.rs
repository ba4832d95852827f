//! What Docker asks for: the use cases behind the network driver's and the IPAM driver's calls.
//!
//! A call that hands something out claims it in the store and says so; every other call changes the
//! host's own state and returns, and background tasks make the kernel and the store follow.

mod address;
mod claims;
mod confirm;
mod endpoint;
mod error;
mod holder;
mod network;
mod options;
mod pool;
mod sandbox;
mod settled;
mod takeover;
mod wanted;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use tokio::{sync::watch, time::Instant};

use crate::{
    ipam::AddrPool,
    local::{Binding, Local},
    model::{Network, NetworkId, NodeId, Scope, Snapshot, Underlay},
    reconcile::{Applied, mirror::Health, mode::Roles, propagate::EngineReport},
    store::{gate::Footing, keys, ledger::Ledger},
    watched::Watched,
};
pub use address::AddressRequest;
pub use endpoint::NewEndpoint;
pub use error::DriverError;
pub use network::{NewNetwork, NewSubnet};
pub use options::{KNOWN_OPTIONS, NetworkOptions};
pub use pool::PoolRequest;

/// Name of our address space for networks of one engine.
pub const LOCAL_SPACE: &str = "rs-overlay-local";
/// Name of our address space for networks that engines share.
pub const GLOBAL_SPACE: &str = "rs-overlay-global";

/// How long a subnet that had to be refused is shown to the engine as taken.
const REFUSED_FOR: Duration = Duration::from_secs(20);

/// What the driver has to know of its host and of its settings.
#[derive(Clone)]
pub struct DriverConfig {
    /// How this host stands to its engine.
    pub roles: Roles,
    /// Where subnets are cut from.
    pub pools: Vec<AddrPool>,
}

/// The use cases.
pub struct Driver {
    config: DriverConfig,
    ledger: Ledger,
    local: Arc<Local>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    applied: watch::Receiver<Arc<Applied>>,
    underlay: watch::Receiver<Underlay>,
    /// Subnets of the engine's choice that were refused, so that it chooses another next time.
    refused: watch::Sender<BTreeMap<Ipv4Net, Instant>>,
    /// Who tells the names of new networks; absent: nobody does.
    engine: Option<watch::Receiver<EngineReport>>,
    /// Whether the store is known to be away; absent: nobody knows.
    health: Option<watch::Receiver<Health>>,
    /// How the store is; absent: it is never lost.
    footing: Option<watch::Receiver<Footing>>,
}

impl Driver {
    /// Joins the parts.
    pub fn new(
        config: DriverConfig,
        ledger: Ledger,
        local: Arc<Local>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        applied: watch::Receiver<Arc<Applied>>,
        underlay: watch::Receiver<Underlay>,
    ) -> Self {
        let (refused, _) = watch::channel(BTreeMap::new());
        Self {
            config,
            ledger,
            local,
            snapshot,
            applied,
            underlay,
            refused,
            engine: None,
            health: None,
            footing: None,
        }
    }

    /// Lets no container begin on a network before it is certain that the network is the cluster's one of
    /// its name, which whoever tells `engine` finds out.
    #[must_use]
    pub fn confirmed_by(mut self, engine: watch::Receiver<EngineReport>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Waits for nothing that takes the store while `health` says that it is away.
    #[must_use]
    pub fn informed_by(mut self, health: watch::Receiver<Health>) -> Self {
        self.health = Some(health);
        self
    }

    /// Lets nothing new be claimed while hosts fill a store that was lost.
    #[must_use]
    pub fn standing_on(mut self, footing: watch::Receiver<Footing>) -> Self {
        self.footing = Some(footing);
        self
    }

    /// The scope that `GetCapabilities` answers.
    pub async fn scope(&self) -> Scope {
        self.config.roles.register().await
    }

    /// Subnets to show to the engine as taken.
    pub fn refused(&self) -> watch::Receiver<BTreeMap<Ipv4Net, Instant>> {
        self.refused.subscribe()
    }

    fn node(&self) -> &NodeId {
        self.local.node()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.now()
    }

    /// The network behind Docker's id: one this engine has, or (where engines share networks by id) one
    /// that was created on another host.
    async fn binding(&self, docker_id: &NetworkId) -> Result<Binding, DriverError> {
        if let Some(binding) = self.local.read(|data| data.bindings.get(docker_id).cloned()) {
            return Ok(binding);
        }
        // It has just given way to the cluster's one of its name.
        let yielding = self
            .engine
            .as_ref()
            .and_then(|engine| engine.see(|report| report.yielding.get(docker_id).cloned()));
        if let Some(network) = yielding {
            return Err(DriverError::Replaced { network });
        }
        let known = self.snapshot().networks.get(docker_id).cloned();
        let network = match known {
            Some(network) => Some(network),
            None => self.ledger.get::<Network>(&keys::network(docker_id)).await?.map(|held| held.record),
        };
        let network = network.ok_or_else(|| DriverError::UnknownNetwork(docker_id.clone()))?;
        let ipam = network.ipam;
        let binding =
            Binding { docker_id: docker_id.clone(), network, ipam, created_at: crate::clock::unix_seconds() };
        self.local.put_binding(binding.clone())?;
        Ok(binding)
    }

    /// Waits, as long as a call may, until removals of this host have reached the store: a network that
    /// was removed a moment ago still holds its subnet and its name there.
    async fn settle_departures(&self) {
        if self.health.as_ref().is_some_and(|health| health.see(|health| health.trouble.is_some())) {
            return;
        }
        let mut changes = self.local.changes();
        let settled = async {
            while !self.local.read(|data| data.departures.is_empty()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // A timeout is no error: the claim that follows tells what is in the way.
        let _ = tokio::time::timeout(Duration::from_secs(2), settled).await;
    }

    fn refuse_subnet(&self, cidr: &IpNet) {
        if let IpNet::V4(cidr) = cidr {
            let now = Instant::now();
            self.refused.send_modify(|refused| {
                refused.retain(|_, until| *until > now);
                refused.insert(cidr.trunc(), now + REFUSED_FOR);
            });
        }
    }
}

/// An address as Docker writes it, `10.9.0.2/24` or without the length.
pub fn parse_ip(text: &str) -> Result<IpAddr, DriverError> {
    let address = text.split('/').next().unwrap_or(text);
    let ip = address.parse().map_err(|_| DriverError::invalid("address", text, "an IP address"))?;
    // Engine 28.5 writes IPv4 addresses of remote IPAM drivers in the mapped form in some places.
    Ok(match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4)),
        v4 @ IpAddr::V4(_) => v4,
    })
}

fn parse_cidr(what: &'static str, text: &str) -> Result<IpNet, DriverError> {
    let net: IpNet =
        text.parse().map_err(|_| DriverError::invalid(what, text, "a subnet such as 10.9.0.0/24"))?;
    Ok(net.trunc())
}
