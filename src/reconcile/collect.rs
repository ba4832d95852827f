//! Collects endpoints that are gone without a word: after a crash an engine may never tell that a
//! container of before has ended.
//!
//! Two witnesses are needed, both for a while: the engine no longer lists the endpoint, and its sandbox is
//! gone. An engine that is away is no witness. A sandbox is gone with its file; an engine that crashed may
//! leave the file behind for ever, so one in which no process lives counts as gone as well, as soon as the
//! engine also says that the container does not run.

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
    dataplane::namespace::has_processes,
    engine::{DriverName, EngineApi, EngineError},
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
    pub driver: Arc<DriverName>,
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
            match self.witness().await {
                Ok(engine) => self.round(&engine, &mut missing),
                Err(error) => {
                    debug!(%error, "no endpoint is given up while the engine is away");
                    missing.clear();
                }
            }
        }
    }

    async fn witness(&self) -> Result<EngineWord, EngineError> {
        let networks = self.engine.networks(self.driver.ask(&*self.engine).await?).await?;
        let listed = networks.into_iter().flat_map(|network| network.endpoints.into_keys()).collect();
        let running = self.engine.containers().await?.into_iter().collect();
        Ok(EngineWord { listed, running })
    }

    fn round(&self, engine: &EngineWord, missing: &mut BTreeMap<EndpointId, Instant>) {
        let endpoints = self.local.read(|data| data.endpoints.clone());
        let now = Instant::now();
        for id in overdue(&endpoints, engine, sandbox, missing, now) {
            info!(endpoint = id.short(), "collecting an endpoint that is gone without a word");
            if let Err(error) = self.local.remove_lost(&id) {
                warn!(%error, "the endpoint stays for now");
            }
        }
    }
}

/// What the engine says.
#[derive(Debug, Default)]
struct EngineWord {
    /// Endpoints of networks of ours.
    listed: BTreeSet<String>,
    /// Containers that run.
    running: BTreeSet<String>,
}

/// What is left of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sandbox {
    Gone,
    /// Its file is there, and no process lives in it.
    Empty,
    Inhabited,
}

fn sandbox(path: &str) -> Sandbox {
    match has_processes(Path::new(path)) {
        Ok(true) => Sandbox::Inhabited,
        Ok(false) => Sandbox::Empty,
        Err(_) if Path::new(path).exists() => Sandbox::Inhabited,
        Err(_) => Sandbox::Gone,
    }
}

impl EngineWord {
    fn alive(&self, endpoint: &LocalEndpoint, look: impl Fn(&str) -> Sandbox) -> bool {
        if self.listed.contains(endpoint.id.as_str()) {
            return true;
        }
        match endpoint.sandbox.as_deref().map(look) {
            None | Some(Sandbox::Gone) => false,
            Some(Sandbox::Inhabited) => true,
            // Whose container is not known yet may be just starting.
            Some(Sandbox::Empty) => {
                endpoint.container_id.as_ref().is_none_or(|container| self.running.contains(container))
            }
        }
    }
}

/// Endpoints that both witnesses have missed for long enough; `missing` remembers since when.
fn overdue(
    endpoints: &BTreeMap<EndpointId, LocalEndpoint>,
    engine: &EngineWord,
    look: impl Fn(&str) -> Sandbox,
    missing: &mut BTreeMap<EndpointId, Instant>,
    now: Instant,
) -> Vec<EndpointId> {
    let gone: BTreeSet<_> =
        endpoints.values().filter(|endpoint| !engine.alive(endpoint, &look)).map(|e| e.id.clone()).collect();
    missing.retain(|id, _| gone.contains(id));
    let mut overdue = Vec::new();
    for id in gone {
        let since = *missing.entry(id.clone()).or_insert(now);
        if now.duration_since(since) >= GRACE {
            overdue.push(id);
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
        let (endpoints, none) = (one(Some("/ns")), EngineWord::default());
        let mut missing = BTreeMap::new();
        let start = Instant::now();
        assert!(overdue(&endpoints, &none, |_| Sandbox::Gone, &mut missing, start).is_empty());
        assert!(overdue(&endpoints, &none, |_| Sandbox::Gone, &mut missing, start + GRACE / 2).is_empty());
        // It is seen again: the time begins anew.
        assert!(overdue(&endpoints, &none, |_| Sandbox::Inhabited, &mut missing, start + GRACE).is_empty());
        assert!(overdue(&endpoints, &none, |_| Sandbox::Gone, &mut missing, start + GRACE * 2).is_empty());
        assert_eq!(overdue(&endpoints, &none, |_| Sandbox::Gone, &mut missing, start + GRACE * 3).len(), 1);
    }

    #[test]
    fn one_that_is_listed_or_has_its_namespace_stays() {
        let mut missing = BTreeMap::new();
        let start = Instant::now();
        let listed = EngineWord { listed: ["e1".to_owned()].into(), ..EngineWord::default() };
        let none = EngineWord::default();
        for at in [start, start + GRACE * 2] {
            assert!(overdue(&one(None), &listed, |_| Sandbox::Gone, &mut missing, at).is_empty());
            assert!(overdue(&one(Some("/ns")), &none, |_| Sandbox::Inhabited, &mut missing, at).is_empty());
        }
    }

    #[test]
    fn a_file_without_a_process_counts_once_the_engine_says_that_the_container_does_not_run() {
        let start = Instant::now();
        let collected = |container: Option<&str>, running: &[&str]| {
            let mut endpoints = one(Some("/ns"));
            for endpoint in endpoints.values_mut() {
                endpoint.container_id = container.map(str::to_owned);
            }
            let running = running.iter().map(|&id| id.to_owned()).collect();
            let engine = EngineWord { running, ..EngineWord::default() };
            let mut missing = BTreeMap::new();
            overdue(&endpoints, &engine, |_| Sandbox::Empty, &mut missing, start);
            overdue(&endpoints, &engine, |_| Sandbox::Empty, &mut missing, start + GRACE).len()
        };
        assert_eq!(collected(Some("c"), &[]), 1);
        assert_eq!(collected(Some("c"), &["c"]), 0);
        assert_eq!(collected(None, &[]), 0);
    }
}
