//! Collects endpoints that are gone without a word: after a crash an engine may never tell that a
//! container of before has ended.
//!
//! Two witnesses are needed, both for a while: the engine no longer lists the endpoint, and its network
//! namespace is gone. An engine that is away is no witness.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    engine::{EngineApi, EngineError},
    local::{Local, LocalEndpoint},
    model::EndpointId,
};

/// How often the witnesses are asked.
const PERIOD: Duration = Duration::from_secs(10);
/// For how long both have to miss an endpoint. An engine creates endpoints before it lists them, and at
/// its own start lists none for a while.
const GRACE: Duration = Duration::from_secs(40);

/// The collecting task.
pub struct Collector {
    /// The engine.
    pub engine: Arc<dyn EngineApi>,
    /// This host's endpoints.
    pub local: Arc<Local>,
    /// Name by which the engine knows our driver.
    pub driver: String,
}

impl Collector {
    /// Runs until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut missing = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            match self.listed().await {
                Ok(listed) => self.round(&listed, &mut missing),
                Err(error) => {
                    debug!(%error, "no endpoint is given up while the engine is away");
                    missing.clear();
                }
            }
        }
    }

    async fn listed(&self) -> Result<BTreeSet<String>, EngineError> {
        let networks = self.engine.networks(&self.driver).await?;
        Ok(networks.into_iter().flat_map(|network| network.endpoints.into_keys()).collect())
    }

    fn round(&self, listed: &BTreeSet<String>, missing: &mut BTreeMap<EndpointId, Instant>) {
        let endpoints = self.local.read(|data| data.endpoints.clone());
        let now = Instant::now();
        for id in overdue(&endpoints, listed, |sandbox| Path::new(sandbox).exists(), missing, now) {
            info!(endpoint = id.short(), "collecting an endpoint that is gone without a word");
            if let Err(error) = self.local.remove_lost(&id) {
                warn!(%error, "the endpoint stays for now");
            }
        }
    }
}

/// Endpoints that both witnesses have missed for long enough; `missing` remembers since when.
fn overdue(
    endpoints: &BTreeMap<EndpointId, LocalEndpoint>,
    listed: &BTreeSet<String>,
    exists: impl Fn(&str) -> bool,
    missing: &mut BTreeMap<EndpointId, Instant>,
    now: Instant,
) -> Vec<EndpointId> {
    let alive = |id: &EndpointId, endpoint: &LocalEndpoint| {
        listed.contains(id.as_str()) || endpoint.sandbox.as_deref().is_some_and(&exists)
    };
    missing.retain(|id, _| endpoints.get(id).is_some_and(|endpoint| !alive(id, endpoint)));
    let mut overdue = Vec::new();
    for (id, _) in endpoints.iter().filter(|(id, endpoint)| !alive(id, endpoint)) {
        let since = *missing.entry(id.clone()).or_insert(now);
        if now.duration_since(since) >= GRACE {
            overdue.push(id.clone());
        }
    }
    overdue
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MacAddr, NetworkId};

    fn one(sandbox: Option<&str>) -> BTreeMap<EndpointId, LocalEndpoint> {
        let id = EndpointId::new("e1").unwrap();
        let endpoint = LocalEndpoint {
            id: id.clone(),
            network: NetworkId::new("n").unwrap(),
            docker_network: NetworkId::new("n").unwrap(),
            mac: MacAddr::from_ip([10, 9, 0, 2].into()),
            addresses: vec![[10, 9, 0, 2].into()],
            claimed: vec![],
            mtu: 1450,
            sandbox: sandbox.map(str::to_owned),
            container: None,
            container_id: None,
            aliases: vec![],
            named_at: BTreeMap::new(),
            created_at: 0,
            boot_id: String::new(),
            generation: 0,
            cut_off: None,
        };
        BTreeMap::from([(id, endpoint)])
    }

    #[test]
    fn both_witnesses_must_miss_it_for_the_whole_time() {
        let (endpoints, none) = (one(Some("/ns")), BTreeSet::new());
        let mut missing = BTreeMap::new();
        let start = Instant::now();
        assert!(overdue(&endpoints, &none, |_| false, &mut missing, start).is_empty());
        assert!(overdue(&endpoints, &none, |_| false, &mut missing, start + GRACE / 2).is_empty());
        // It is seen again: the time begins anew.
        assert!(overdue(&endpoints, &none, |_| true, &mut missing, start + GRACE).is_empty());
        assert!(overdue(&endpoints, &none, |_| false, &mut missing, start + GRACE * 2).is_empty());
        assert_eq!(overdue(&endpoints, &none, |_| false, &mut missing, start + GRACE * 3).len(), 1);
    }

    #[test]
    fn one_that_is_listed_or_has_its_namespace_stays() {
        let mut missing = BTreeMap::new();
        let start = Instant::now();
        let listed = BTreeSet::from(["e1".to_owned()]);
        for at in [start, start + GRACE * 2] {
            assert!(overdue(&one(None), &listed, |_| false, &mut missing, at).is_empty());
            assert!(overdue(&one(Some("/ns")), &BTreeSet::new(), |_| true, &mut missing, at).is_empty());
        }
    }
}
