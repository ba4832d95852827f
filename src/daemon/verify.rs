//! Compares what is with what should be, and collects what was left behind, when somebody asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    admin::{DifferenceRow, GcOrder, GcReport, GcRow, VerifyReport},
    audit::{
        EngineView, KernelView, Leftover, Listing, Own, OwnEndpoint, OwnNetwork, compare_engine,
        compare_kernel, compare_records, compare_snapshot, lasting, leftovers,
    },
    clock,
    dataplane::{Dataplane, netlink::Kernel},
    dns::manager::Told,
    engine::{DriverName, EngineApi},
    local::Local,
    model::{EndpointId, NetworkId, Snapshot, Underlay},
    plan::diff,
    reconcile::{cluster, worker::Worker},
    store::{Entry, Outcome, Store, StoreError, Txn, gate::Footing},
    watched::Watched,
};

/// Rest between two looks. What is on its way arrives in less.
const REST: Duration = Duration::from_secs(2);
/// Keys that are deleted in one transaction, each with a guard of its own.
const BATCH: usize = 24;
/// Age, in seconds, from which an endpoint that neither the engine lists nor a sandbox has is gone for sure.
const SETTLED: u64 = 60;

/// What is compared.
pub(super) struct Verifier {
    /// A worker that never runs: it knows how to read the kernel and what should be there.
    pub(super) worker: Worker<Kernel>,
    pub(super) store: Arc<dyn Store>,
    pub(super) engine: Arc<dyn EngineApi>,
    pub(super) driver: Arc<DriverName>,
    pub(super) local: Arc<Local>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) names: watch::Receiver<Told>,
    pub(super) underlay: watch::Receiver<Underlay>,
    pub(super) footing: watch::Receiver<Footing>,
}

impl Verifier {
    /// Compares twice, with a rest between, and tells what stays.
    pub(super) async fn verify(&self) -> VerifyReport {
        let first = self.compare().await;
        if first.differences.is_empty() {
            return first;
        }
        tokio::time::sleep(REST).await;
        let now = self.compare().await;
        VerifyReport { differences: lasting(&first.differences, now.differences), ..now }
    }

    async fn compare(&self) -> VerifyReport {
        let mut report = VerifyReport::default();
        let mut count = |thing: &str, number: usize| {
            report.compared.insert(thing.to_owned(), u32::try_from(number).unwrap_or(u32::MAX));
        };
        let own = self.own();
        let copy = self.snapshot.now();
        count("endpoints", own.endpoints.len());
        count("networks", own.networks.len());
        let mut rows = Vec::new();
        match self.kernel(&own, &copy).await {
            Ok(found) => rows.extend(found),
            Err(error) => report.unknown.push(format!("the kernel cannot be read: {error}")),
        }
        rows.extend(self.names(&own));
        match self.entries().await {
            Ok(entries) => {
                count("records", entries.len());
                let listing = listing(&entries);
                rows.extend(compare_records(&listing, &own));
                let followed = self.local.read(crate::local::LocalData::networks_in_use);
                rows.extend(compare_snapshot(&listing, &copy, &followed));
            }
            Err(error) => report.unknown.push(format!("the store was not compared: {error}")),
        }
        match self.engine_view().await {
            Ok(engine) => rows.extend(compare_engine(&engine, &own)),
            Err(error) => report.unknown.push(format!("the engine was not compared: {error}")),
        }
        report.differences = rows;
        report
    }

    fn own(&self) -> Own {
        let node = self.local.node().clone();
        let vtep = self.underlay.see(|underlay| underlay.vtep);
        self.local.read(|data| Own {
            cluster: data.cluster.as_ref().map(|known| known.id.clone()),
            incarnation: data.store_incarnation().map(str::to_owned),
            networks: data
                .bindings
                .iter()
                .map(|(id, b)| (id.clone(), OwnNetwork { network: b.network.clone(), since: b.created_at }))
                .collect(),
            endpoints: data
                .endpoints
                .iter()
                .map(|(id, endpoint)| {
                    let own = OwnEndpoint {
                        record: endpoint.publish(&node, vtep),
                        docker_network: endpoint.docker_network.clone(),
                        alive: endpoint.sandbox.as_deref().is_some_and(|path| Path::new(path).exists()),
                        cut_off: endpoint.cut_off.is_some(),
                    };
                    (id.clone(), own)
                })
                .collect(),
            releases: data.releases.values().map(|release| (release.cidr, release.ip)).collect(),
            departures: data.departures.keys().cloned().collect(),
            node,
        })
    }

    async fn kernel(
        &self,
        own: &Own,
        copy: &Snapshot,
    ) -> Result<Vec<DifferenceRow>, crate::dataplane::DataplaneError> {
        let (found, wanted) = self.worker.compare().await?;
        let waiting = self.worker.dataplane.waiting().await?;
        let running = |id: &&EndpointId| own.endpoints.get(*id).is_some_and(|endpoint| endpoint.alive);
        let loose: BTreeSet<_> = waiting.iter().filter(running).cloned().collect();
        let mut networks: BTreeMap<NetworkId, String> =
            copy.networks.iter().map(|(id, network)| (id.clone(), network.title().to_owned())).collect();
        networks.extend(own.networks.values().map(|n| (n.network.id.clone(), n.network.title().to_owned())));
        let containers = own.endpoints.iter();
        let containers =
            containers.filter_map(|(id, e)| Some((id.clone(), e.record.container.clone()?))).collect();
        let view = KernelView {
            found: &found,
            wanted: &wanted,
            networks: &networks,
            containers: &containers,
            loose: &loose,
        };
        let mut rows = compare_kernel(&view);
        if !self.worker.dataplane.is_pinned() {
            rows.push(DifferenceRow {
                area: "kernel".to_owned(),
                object: format!("namespace {}", self.worker.dataplane.namespace().display()),
                expected: "pinned".to_owned(),
                found: "not pinned: it would die with the daemon".to_owned(),
            });
        }
        Ok(rows)
    }

    /// Sandboxes whose queries are not answered here although they should be.
    fn names(&self, own: &Own) -> Vec<DifferenceRow> {
        let told = self.names.now();
        let sandboxes: BTreeMap<_, _> = self.local.read(|data| {
            let joined = data.endpoints.values().filter_map(|e| Some((e.sandbox.clone()?, e.id.clone())));
            joined.collect()
        });
        let missing = sandboxes.into_iter().filter_map(|(path, id)| {
            let endpoint = own.endpoints.get(&id).filter(|endpoint| endpoint.alive)?;
            let complaint = told.complaints.get(Path::new(&path))?;
            Some(DifferenceRow {
                area: "container".to_owned(),
                object: format!("names in {}", endpoint.record.title()),
                expected: "answered by this daemon".to_owned(),
                found: complaint.clone(),
            })
        });
        missing.collect()
    }

    /// One listing, of one moment.
    async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        self.store.range("v1/").await
    }

    /// The same of a store in which "not there" means "removed"; otherwise nothing.
    async fn known_entries(&self) -> Result<Option<Vec<Entry>>, StoreError> {
        let entries = self.entries().await?;
        let copy = self.snapshot.now();
        let known = cluster::is_known(&*self.store, &self.local, &copy).await?;
        Ok((known && !self.footing.see(Footing::is_settling)).then_some(entries))
    }

    async fn engine_view(&self) -> Result<EngineView, crate::engine::EngineError> {
        let mut view = EngineView::default();
        for network in self.engine.networks(self.driver.ask(&*self.engine).await?).await? {
            if network.scope == "global" {
                let loose = network.endpoints.iter().filter(|(_, endpoint)| endpoint.container.is_none());
                view.elsewhere.extend(loose.map(|(id, _)| id.clone()));
            }
            view.endpoints.extend(network.endpoints.into_iter().map(|(id, endpoint)| (id, endpoint.name)));
            view.networks.insert(network.id, network.name);
        }
        Ok(view)
    }

    /// Finds what was left behind and, unless it is only to be told, collects it.
    pub(super) async fn gc(&self, order: &GcOrder) -> GcReport {
        let mut report = GcReport::default();
        let own = self.own();
        match self.known_entries().await {
            Ok(None) => report.unknown.push(
                "the store was not looked at: it was emptied or set back, or holds another cluster; \
                 `rs-overlay status` tells more"
                    .to_owned(),
            ),
            Ok(Some(entries)) => {
                for leftover in leftovers(&listing(&entries), &own, clock::unix_seconds()) {
                    let outcome =
                        if order.dry_run { None } else { Some(self.collect(&leftover, &entries).await) };
                    report.rows.push(told(&leftover, outcome));
                }
            }
            Err(error) => report.unknown.push(format!("the store was not looked at: {error}")),
        }
        self.gone_endpoints(&own, order.dry_run, &mut report).await;
        self.loose_links(order.dry_run, &mut report).await;
        report
    }

    /// Deletes the keys of a leftover, each only in the state in which it was seen.
    async fn collect(&self, leftover: &Leftover, entries: &[Entry]) -> Result<Outcome, StoreError> {
        let seen: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        for part in leftover.keys.chunks(BATCH) {
            let mut txn = leftover.absent.iter().fold(Txn::new(), |txn, key| txn.absent(key.as_str()));
            for entry in part.iter().filter_map(|key| seen.get(key.as_str())) {
                txn = txn.unchanged(entry).delete(entry.key.as_str());
            }
            if self.store.txn(txn).await? == Outcome::Conflict {
                return Ok(Outcome::Conflict);
            }
        }
        Ok(Outcome::Committed)
    }

    /// Endpoints of this host whose container is gone, by the word of the engine and of the kernel, asked
    /// twice. By itself that takes the better part of a minute.
    async fn gone_endpoints(&self, own: &Own, dry_run: bool, report: &mut GcReport) {
        let now = clock::unix_seconds();
        let old = |endpoint: &OwnEndpoint| now.saturating_sub(endpoint.record.created_at) > SETTLED;
        let mut gone: Vec<_> =
            own.endpoints.iter().filter(|(_, endpoint)| !endpoint.alive && old(endpoint)).collect();
        for look in 0..2 {
            if gone.is_empty() {
                return;
            }
            if look > 0 {
                tokio::time::sleep(REST).await;
            }
            match self.engine_view().await {
                Ok(engine) => gone.retain(|(id, _)| !engine.endpoints.contains_key(id.as_str())),
                Err(error) => {
                    report.unknown.push(format!("no endpoint was looked at: {error}"));
                    return;
                }
            }
        }
        for (id, endpoint) in gone {
            let failure =
                if dry_run { None } else { self.local.remove_lost(id).err().map(|error| error.to_string()) };
            report.rows.push(GcRow {
                kind: "endpoint".to_owned(),
                object: format!("{} of this host", endpoint.record.title()),
                why: "its container is gone".to_owned(),
                failed: failure.is_some(),
                outcome: failure.unwrap_or_else(|| outcome(dry_run).to_owned()),
            });
        }
    }

    /// Links that the plan does not want. The worker, who alone changes the kernel, is sent to look.
    async fn loose_links(&self, dry_run: bool, report: &mut GcReport) {
        let (found, wanted) = match self.worker.compare().await {
            Ok(both) => both,
            Err(error) => {
                report.unknown.push(format!("the kernel cannot be read: {error}"));
                return;
            }
        };
        let deletions = diff(&found, &wanted).into_iter().filter(crate::plan::Op::is_deletion);
        let steps: BTreeSet<String> = deletions.map(|step| step.to_string()).collect();
        if steps.is_empty() {
            return;
        }
        let mut left = steps.clone();
        if !dry_run {
            self.local.tell();
            tokio::time::sleep(REST).await;
            left = match self.worker.compare().await {
                Ok((found, wanted)) => diff(&found, &wanted).iter().map(ToString::to_string).collect(),
                Err(_) => left,
            };
        }
        for step in steps {
            let failed = !dry_run && left.contains(&step);
            report.rows.push(GcRow {
                kind: "kernel".to_owned(),
                object: step.trim_start_matches("delete ").to_owned(),
                why: "no endpoint of this host needs it".to_owned(),
                outcome: if failed { "still there; the log tells why" } else { outcome(dry_run) }.to_owned(),
                failed,
            });
        }
    }
}

fn listing(entries: &[Entry]) -> Listing {
    Listing::of(entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())))
}

fn outcome(dry_run: bool) -> &'static str {
    if dry_run { "would be collected" } else { "collected" }
}

fn told(leftover: &Leftover, collected: Option<Result<Outcome, StoreError>>) -> GcRow {
    let (outcome, failed) = match collected {
        None => (outcome(true).to_owned(), false),
        Some(Ok(Outcome::Committed)) => (outcome(false).to_owned(), false),
        Some(Ok(Outcome::Conflict)) => ("kept: it has just changed".to_owned(), false),
        Some(Err(error)) => (error.to_string(), true),
    };
    GcRow {
        kind: leftover.kind.to_owned(),
        object: leftover.object.clone(),
        why: leftover.why.clone(),
        outcome,
        failed,
    }
}
