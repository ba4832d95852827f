//! One host without an engine: its state directory, its kernel, its store, and the tasks on top.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use rs_overlay::{
    dataplane::{Dataplane, fake::FakeKernel},
    driver::{Driver, DriverConfig},
    local::{Binding, Local, LocalEndpoint, boot_id},
    model::{
        Endpoint, EndpointId, IpamMode, MacAddr, Network, NetworkId, NodeId, Scope, Snapshot, Subnet,
        Underlay, Vni,
    },
    plan::Overlay,
    reconcile::{
        Applied,
        housekeeping::Housekeeping,
        mirror::{Health, Mirror},
        mode::Roles,
        publisher::Publisher,
        worker::Worker,
    },
    store::{
        Outcome, Store, Txn,
        embedded::{Embedded, serve::Shared},
        keys,
        ledger::Ledger,
        record,
        remote::Remote,
        timeouts::Timeouts,
    },
    watched::Watched,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const VTEP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Waits until `look` finds something, and tells what it saw last if it does not.
pub(crate) async fn until<S: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<(), S>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(()) => return,
            Err(last) => assert!(Instant::now() < deadline, "waited for {what}, last seen: {last:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `Ok` if `good`, else what there is instead.
pub(crate) fn check<S>(good: bool, state: S) -> Result<(), S> {
    if good { Ok(()) } else { Err(state) }
}

fn timeouts() -> Timeouts {
    Timeouts { retry_most: Duration::from_millis(500), ..Timeouts::default() }
}

/// The store's file, and the daemon that offers it.
pub(crate) struct StoreHost {
    dir: TempDir,
    shared: Option<Shared>,
}

impl StoreHost {
    pub(crate) async fn start() -> Self {
        let mut host = Self { dir: tempfile::tempdir().unwrap(), shared: None };
        host.revive().await;
        host
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("store.redb")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("store.sock")
    }

    /// A client, as a daemon of the same machine has it.
    pub(crate) fn client(&self) -> Arc<dyn Store> {
        Arc::new(Remote::new(&self.socket(), timeouts()).unwrap())
    }

    /// Nobody offers the store any more.
    pub(crate) async fn stop(&mut self) {
        self.shared = None;
        let client = self.client();
        until("the store to be away", async || check(client.range("v1/").await.is_err(), "answers")).await;
    }

    /// Offers it again.
    pub(crate) async fn revive(&mut self) {
        let store = Embedded::open(&self.file(), timeouts()).await.unwrap();
        self.shared = Some(Shared::start(store, &self.socket()).unwrap());
    }

    /// Deletes everything, while the store is stopped.
    pub(crate) fn wipe(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }
}

/// A host.
pub(crate) struct Host {
    dir: TempDir,
    pub(crate) local: Arc<Local>,
    pub(crate) ledger: Ledger,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) applied: watch::Receiver<Arc<Applied>>,
    pub(crate) driver: Driver,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Host {
    /// Starts all tasks on `store` and `kernel`.
    pub(crate) fn start<D: Dataplane>(store: Arc<dyn Store>, kernel: Arc<D>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), store, kernel)
    }

    /// The same, with the state of an earlier run.
    pub(crate) fn start_in<D: Dataplane>(dir: TempDir, store: Arc<dyn Store>, kernel: Arc<D>) -> Self {
        let local = Arc::new(Local::open(dir.path(), 1).unwrap());
        let ledger = Ledger::new(Arc::clone(&store));
        let mirror = Mirror::new(store, Arc::clone(&local));
        let (snapshot, health) = (mirror.snapshot(), mirror.health());
        let (applying, applied) = watch::channel(Arc::default());
        // Nobody tells of a change any more, and no task may spin because of that.
        let (_, underlay) = watch::channel(Underlay::new(VTEP, 1500));
        let config = DriverConfig { roles: Roles::fixed(Scope::Local), pools: vec![] };
        let driver = Driver::new(
            config,
            ledger.clone(),
            Arc::clone(&local),
            snapshot.clone(),
            applied.clone(),
            underlay.clone(),
        );
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let worker = Worker {
            dataplane: kernel,
            local: Arc::clone(&local),
            snapshot: snapshot.clone(),
            underlay: underlay.clone(),
            refused: driver.refused(),
            vxlan_port: 4789,
            applied: applying,
        };
        let publisher =
            Publisher { ledger: ledger.clone(), local: Arc::clone(&local), underlay, health: health.clone() };
        let housekeeping = Housekeeping {
            ledger: ledger.clone(),
            local: Arc::clone(&local),
            health: health.clone(),
            footing: None,
        };
        let stop = cancel.clone();
        tasks.spawn(async move { worker.run(stop).await.unwrap() });
        tasks.spawn(mirror.run(cancel.clone()));
        tasks.spawn(publisher.run(cancel.clone()));
        tasks.spawn(housekeeping.run(cancel.clone()));
        Self { dir, local, ledger, snapshot, health, applied, driver, cancel, tasks }
    }

    /// Ends all tasks, each of which has to end well, and hands out the state directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.cancel.cancel();
        let ended = async {
            while let Some(task) = self.tasks.join_next().await {
                task.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
        self.dir
    }

    /// A container of this host with the address 10.9.0.`last`.
    pub(crate) fn attach(&self, id: &str, last: u8) {
        let binding =
            Binding { docker_id: network().id, network: network(), ipam: IpamMode::Ours, created_at: 1 };
        self.local.put_binding(binding).unwrap();
        let ip = IpAddr::from([10, 9, 0, last]);
        let endpoint = LocalEndpoint {
            id: endpoint_id(id),
            network: network().id,
            docker_network: network().id,
            mac: MacAddr::from_ip(ip),
            addresses: vec![ip],
            claimed: vec![],
            mtu: 1450,
            sandbox: None,
            container: None,
            container_id: None,
            aliases: vec![],
            named_at: BTreeMap::new(),
            created_at: 1,
            boot_id: boot_id(),
            generation: 0,
            cut_off: None,
        };
        self.local.put_endpoint(endpoint).unwrap();
    }

    /// Waits until the kernel is as `good` says.
    pub(crate) async fn kernel_is(&self, what: &str, kernel: &FakeKernel, good: impl Fn(&Overlay) -> bool) {
        until(what, async || {
            let overlay = kernel.overlay();
            check(good(&overlay), (overlay, self.applied.now()))
        })
        .await;
    }

    /// Waits until the snapshot is as `good` says.
    pub(crate) async fn snapshot_is(&self, what: &str, good: impl Fn(&Snapshot) -> bool) {
        until(what, async || {
            let snapshot = self.snapshot.now();
            check(good(&snapshot), snapshot)
        })
        .await;
    }
}

pub(crate) fn endpoint_id(id: &str) -> EndpointId {
    EndpointId::new(id).unwrap()
}

pub(crate) fn vni() -> Vni {
    Vni::new(4096).unwrap()
}

pub(crate) fn network() -> Network {
    Network {
        id: NetworkId::new("n1").unwrap(),
        name: Some("blue".into()),
        subnets: vec![Subnet {
            cidr: "10.9.0.0/24".parse().unwrap(),
            gateway: None,
            gateway_unlisted: false,
            ip_range: None,
            aux: BTreeMap::new(),
        }],
        vni: vni(),
        mtu: None,
        carried: None,
        internal: false,
        attachable: false,
        ipv6: false,
        ipam: IpamMode::Ours,
        options: BTreeMap::new(),
        ipam_options: BTreeMap::new(),
        labels: BTreeMap::new(),
        created_by: NodeId::new("a").unwrap(),
        created_at: 1,
        allocated: false,
        shared: false,
        extra: BTreeMap::new(),
    }
}

/// A container of another host.
pub(crate) fn remote(id: &str, last: u8) -> Endpoint {
    let ip = IpAddr::from([10, 9, 0, last]);
    Endpoint {
        id: endpoint_id(id),
        network: network().id,
        node: NodeId::new("b").unwrap(),
        vtep: [192, 0, 2, 2].into(),
        mac: MacAddr::from_ip(ip),
        addresses: vec![ip],
        container: None,
        container_id: None,
        aliases: vec![],
        named_at: BTreeMap::new(),
        generation: 0,
        created_at: 1,
        extra: BTreeMap::new(),
    }
}

/// Writes the network and an endpoint of another host into the store.
pub(crate) async fn fill(ledger: &Ledger, others: &[Endpoint]) {
    let network = network();
    let mut txn = Txn::new().put(keys::network(&network.id), record::encode(&network));
    for endpoint in others {
        txn = txn.put(keys::endpoint(&endpoint.network, &endpoint.id), record::encode(endpoint));
    }
    assert_eq!(ledger.commit(txn).await.unwrap(), Outcome::Committed);
}
