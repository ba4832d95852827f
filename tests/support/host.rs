//! A host with everything real but its kernel: router, driver, mirror, publisher, housekeeping, and the
//! worker over a kernel in memory.

#![allow(dead_code, reason = "each test uses the part it needs")]

mod nobody;

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use futures_util::FutureExt as _;
use rs_overlay::{
    config::AddrPool,
    dataplane::fake::FakeKernel,
    driver::{Driver, DriverConfig},
    http::{Journal, Plugin, router},
    local::Local,
    model::{AddressClaim, ClaimKind, ForeignVxlan, HostRoute, Node, Scope, Snapshot, Underlay},
    reconcile::{
        Applied,
        housekeeping::Housekeeping,
        keeper::Keeper,
        mirror::{Health, Mirror},
        mode::Roles,
        publisher::Publisher,
        refill::Refill,
        worker::Worker,
    },
    store::{
        Entry, Store, Txn, embedded::Embedded, gate::Gate, keys, ledger::Ledger, record, timeouts::Timeouts,
    },
    watched::Watched,
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use nobody::Nobody;

/// Longest wait for something that happens in the background; a machine so busy that it takes longer
/// would run no test at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A host of the cluster.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) router: Router,
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) local: Arc<Local>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) calls: TaskTracker,
    cancel: CancellationToken,
    _underlay: watch::Sender<Underlay>,
    tasks: JoinSet<()>,
}

/// An answer of the router.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// An embedded store in a file of `dir`.
pub(crate) async fn embedded(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open(&dir.join("store.redb"), patient()).await.unwrap())
}

/// A busy machine's disk may take its time.
pub(crate) fn patient() -> Timeouts {
    Timeouts { call: Duration::from_secs(8), ..Timeouts::default() }
}

impl Host {
    /// Starts host number `number` with its state in `dir`, and waits until it knows the cluster.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        dir: &Path,
        number: u8,
        scope: &'static str,
        pools: Vec<AddrPool>,
    ) -> Self {
        let host = Self::begin(store, None, dir, number, scope, pools);
        let node = node(&host.local, &host.name, vtep(number), scope);
        host.store.txn(Txn::new().put(keys::node(&node.id), record::encode(&node))).await.unwrap();
        host.synced().await;
        host
    }

    /// The same for a host that notices when its store is lost, and does not wait for anything.
    pub(crate) fn standing(store: Arc<dyn Store>, dir: &Path, number: u8) -> Self {
        let gate = Gate::new(Arc::clone(&store));
        Self::begin(store, Some(gate), dir, number, "local", vec![AddrPool::standard()])
    }

    fn begin(
        raw: Arc<dyn Store>,
        gate: Option<Gate>,
        dir: &Path,
        number: u8,
        scope: &'static str,
        pools: Vec<AddrPool>,
    ) -> Self {
        let store: Arc<dyn Store> = match &gate {
            Some(gate) => Arc::new(gate.clone()),
            None => Arc::clone(&raw),
        };
        let name = format!("host{number}");
        let local = Arc::new(Local::open(&dir.join(&name), u64::from(number)).unwrap());
        let ledger = Ledger::new(Arc::clone(&store));
        let mirror = Mirror::new(Arc::clone(&store), Arc::clone(&local));
        let (snapshot, health) = (mirror.snapshot(), mirror.health());
        let (applied_in, applied) = watch::channel(Arc::new(Applied::default()));
        let (underlay_in, underlay) = watch::channel(Underlay::new(vtep(number), 1500));
        let roles = Roles::fixed(if scope == "global" { Scope::Global } else { Scope::Local });
        let config = DriverConfig { roles, pools };
        let driver = Driver::new(
            config,
            ledger.clone(),
            Arc::clone(&local),
            snapshot.clone(),
            applied,
            underlay.clone(),
        );
        let driver = Arc::new(match &gate {
            Some(gate) => driver.standing_on(gate.footing()),
            None => driver,
        });
        let kernel = Arc::new(FakeKernel::default());
        let worker = Worker {
            dataplane: Arc::clone(&kernel),
            local: Arc::clone(&local),
            snapshot: snapshot.clone(),
            underlay: underlay.clone(),
            refused: driver.refused(),
            vxlan_port: 4789,
            applied: applied_in,
        };
        let publisher =
            Publisher { ledger: ledger.clone(), local: Arc::clone(&local), underlay, health: health.clone() };
        let housekeeping = Housekeeping {
            ledger: ledger.clone(),
            local: Arc::clone(&local),
            health: health.clone(),
            footing: gate.as_ref().map(Gate::footing),
        };
        let keeper = Keeper {
            ledger: ledger.clone(),
            local: Arc::clone(&local),
            snapshot: snapshot.clone(),
            health: health.clone(),
            footing: gate.as_ref().map(Gate::footing),
        };
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(mirror.run(cancel.clone()));
        tasks.spawn(publisher.run(cancel.clone()));
        tasks.spawn(housekeeping.run(cancel.clone()));
        tasks.spawn(keeper.run(cancel.clone()));
        tasks.spawn(worker.run(cancel.clone()).map(|ended| ended.unwrap()));
        let calls = TaskTracker::new();
        let journal = Arc::new(Journal::open(&dir.join(&name).join("calls")).unwrap());
        let router = router(Plugin { driver, admin: Arc::new(Nobody), calls: calls.clone(), journal });
        if let Some(gate) = gate {
            let refill = Refill {
                gate,
                local: Arc::clone(&local),
                snapshot: snapshot.clone(),
                health: health.clone(),
            };
            tasks.spawn(refill.run(cancel.clone()));
        }
        let store = raw;
        Self {
            name,
            router,
            kernel,
            local,
            store,
            snapshot,
            health,
            calls,
            cancel,
            _underlay: underlay_in,
            tasks,
        }
    }

    /// Ends all tasks wherever they are, as a crash does, and waits until nothing of them is left.
    pub(crate) async fn crash(mut self) {
        self.tasks.shutdown().await;
        let local = Arc::downgrade(&self.local);
        drop(self);
        until("the end of what a host has begun", async || {
            (local.strong_count() > 0).then(|| format!("{} users", local.strong_count()))
        })
        .await;
    }

    /// Waits until the cluster has been read.
    pub(crate) async fn synced(&self) {
        let mut health = self.health.clone();
        let synced = health.wait_for(|health| health.synced);
        let seen = tokio::time::timeout(PATIENCE, synced).await.is_ok();
        assert!(seen, "{} does not get to know the cluster: {:?}", self.name, health.now());
    }

    /// Sends exactly `body`, as an engine does: without a content type.
    pub(crate) async fn send(&self, path: &str, body: impl Into<Body>) -> Answer {
        send(&self.router, path, body).await
    }

    /// Calls `method` with a JSON body.
    pub(crate) async fn call(&self, method: &str, body: &Value) -> Answer {
        self.send(&format!("/{method}"), body.to_string()).await
    }

    /// Calls `method`, which must succeed.
    pub(crate) async fn ok(&self, method: &str, body: &Value) -> Value {
        self.call(method, body).await.success(method)
    }

    /// Calls `method`, which must fail, and answers the text.
    pub(crate) async fn refused(&self, method: &str, body: &Value) -> String {
        self.call(method, body).await.failure(method)
    }

    /// All keys of the cluster's networks: what is not of the hosts or of the cluster itself, and no word of
    /// what was removed.
    pub(crate) async fn network_keys(&self) -> Vec<String> {
        let all = self.store.range("v1/").await.unwrap();
        let keys = all.into_iter().map(|entry| entry.key);
        let lasting = [keys::CLUSTER, keys::NODES, keys::REMOVED];
        keys.filter(|key| lasting.iter().all(|beginning| !key.starts_with(beginning))).collect()
    }

    /// What calls have put into the store: all but what comes there in its own time (marks, presence and
    /// the addresses that are claimed ahead).
    pub(crate) async fn put_by_calls(&self) -> Vec<Entry> {
        let mut all = self.store.range("v1/").await.unwrap();
        let claim = |entry: &Entry| record::decode::<AddressClaim>(&entry.key, &entry.value).unwrap();
        all.retain(|entry| ![keys::CLUSTER, keys::PRESENT].iter().any(|part| entry.key.starts_with(part)));
        all.retain(|entry| {
            !entry.key.starts_with(keys::ADDRESSES) || claim(entry).kind != ClaimKind::Reserve
        });
        all
    }

    /// Waits until `look` is satisfied; it answers what is still wrong.
    pub(crate) async fn until<F: Future<Output = Option<String>>>(&self, what: &str, look: impl Fn() -> F) {
        until(&format!("{}: {what}", self.name), look).await;
    }

    /// Waits until neither the store nor the kernel nor this host's state holds anything of a network.
    pub(crate) async fn until_clean(&self) {
        self.until("nothing left", async || {
            let keys = self.network_keys().await;
            let overlay = self.kernel.overlay();
            let data = self.local.data();
            let busy = !keys.is_empty()
                || overlay.networks().next().is_some()
                || !data.bindings.is_empty()
                || !data.endpoints.is_empty()
                || !data.claims.is_empty()
                || !data.releases.is_empty()
                || !data.departures.is_empty();
            busy.then(|| format!("store {keys:?}, kernel {overlay:?}, local {data:?}"))
        })
        .await;
    }

    /// Shows VXLAN devices of other programs on this host to the cluster.
    pub(crate) async fn publish_vxlans(&self, vxlans: Vec<ForeignVxlan>) {
        let mut node = node(&self.local, &self.name, [192, 0, 2, 99].into(), "local");
        node.vxlans = vxlans;
        self.store.txn(Txn::new().put(keys::node(&node.id), record::encode(&node))).await.unwrap();
    }

    /// Shows routes of this host to the cluster.
    pub(crate) async fn publish_routes(&self, routes: Vec<HostRoute>) {
        let mut node = node(&self.local, &self.name, [192, 0, 2, 99].into(), "local");
        node.routes = routes;
        self.store.txn(Txn::new().put(keys::node(&node.id), record::encode(&node))).await.unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Sends exactly `body` to the routes, without a content type.
pub(crate) async fn send(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path).body(body.into()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{path}: {error}: {}", String::from_utf8_lossy(&bytes)));
    Answer { status, body }
}

/// Waits until `look` is satisfied; it answers what is still wrong.
pub(crate) async fn until<F: Future<Output = Option<String>>>(what: &str, look: impl Fn() -> F) {
    let end = Instant::now() + PATIENCE;
    loop {
        let Some(wrong) = look().await else { return };
        assert!(Instant::now() < end, "{what}: {wrong}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn success(self, what: &str) -> Value {
        assert_eq!(self.status, 200, "{what}: {}", self.body);
        assert!(self.body.is_object(), "{what}: {}", self.body);
        assert!(self.body.get("Err").is_none() && self.body.get("Error").is_none(), "{what}: {}", self.body);
        self.body
    }

    /// The text of a failure, which both keys must hold, as a sentence of this driver.
    #[track_caller]
    pub(crate) fn failure(self, what: &str) -> String {
        assert_ne!(self.status, 200, "{what}: {}", self.body);
        let text = self.body["Err"].as_str().unwrap_or_default().to_owned();
        assert_eq!(self.body["Error"].as_str(), Some(text.as_str()), "{what}");
        assert!(text.starts_with("rs-overlay: ") && text.len() > 20, "{what}: {text:?}");
        assert!(!text.contains("failed inside the driver"), "{what}: {text:?}");
        text
    }
}

fn vtep(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

fn node(local: &Local, hostname: &str, vtep: IpAddr, scope: &str) -> Node {
    Node {
        id: local.node().clone(),
        hostname: hostname.to_owned(),
        vtep,
        vxlan_port: 4789,
        underlay_mtu: 1500,
        daemon_version: String::new(),
        engine_version: None,
        scope: scope.to_owned(),
        mode: None,
        boot_id: String::new(),
        since: 0,
        routes: Vec::new(),
        incarnation: 0,
        probe: false,
        unreachable: BTreeMap::new(),
        vxlans: Vec::new(),
        extra: BTreeMap::new(),
    }
}
