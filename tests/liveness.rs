//! Hosts in one process that lose their lease: who declares them dead, and what they find when they return.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rs_overlay::{
    dataplane::{DataplaneError, Prober, fake::FakeKernel},
    jury::Unreachable,
    local::Local,
    member::{Facts, Member},
    model::{About, Death, KnownHost, Node, Snapshot, Underlay},
    reconcile::{Applied, liveness::Liveness, mirror::Mirror, publisher::Publisher, worker::Worker},
    store::{
        Store, Txn,
        embedded::{Embedded, serve::Shared},
        keys,
        ledger::Ledger,
        record,
        remote::Remote,
        timeouts::Timeouts,
    },
    watched::Watched,
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Longest wait for something that happens in the background.
const PATIENCE: Duration = Duration::from_mins(1);

/// The underlay: who does not answer whom.
#[derive(Default)]
struct Wire {
    silent: Mutex<BTreeSet<(IpAddr, IpAddr)>>,
    asked: Mutex<BTreeSet<(IpAddr, IpAddr)>>,
}

struct Asker {
    own: IpAddr,
    wire: Arc<Wire>,
}

impl Prober for Asker {
    fn answers(&self, vtep: IpAddr) -> BoxFuture<'_, Result<bool, DataplaneError>> {
        self.wire.asked.lock().unwrap().insert((self.own, vtep));
        let silent = self.wire.silent.lock().unwrap().contains(&(self.own, vtep));
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(!silent)
        }
        .boxed()
    }
}

/// A host without engine and driver.
struct Host {
    local: Arc<Local>,
    ledger: Ledger,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    kernel: Arc<FakeKernel>,
    _facts: watch::Sender<Facts>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    underlay: watch::Sender<Underlay>,
    _refused: watch::Sender<BTreeMap<ipnet::Ipv4Net, Instant>>,
}

fn vtep(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

impl Host {
    fn start(store: Arc<dyn Store>, dir: &Path, (n, at): (u8, u8), wire: &Arc<Wire>) -> Self {
        let local = Arc::new(Local::open(&dir.join(format!("h{n}")), u64::from(n)).unwrap());
        let ledger = Ledger::new(Arc::clone(&store));
        let mirror = Mirror::new(store, Arc::clone(&local));
        let (snapshot, health) = (mirror.snapshot(), mirror.health());
        let (applied_in, applied) = watch::channel(Arc::new(Applied::default()));
        let (underlay, underlay_now) = watch::channel(Underlay::new(vtep(at), 1500));
        let (refused, refused_now) = watch::channel(BTreeMap::new());
        let (facts, facts_now) = watch::channel(Facts { probe: true, ..Facts::default() });
        let (unreachable, missed) = watch::channel(Unreachable::new());
        let kernel = Arc::new(FakeKernel::default());
        let node: Node = serde_json::from_value(json!({
            "id": local.node(), "hostname": format!("h{n}"), "vtep": vtep(at), "vxlan_port": 4789,
            "underlay_mtu": 1500, "daemon_version": "", "scope": "local", "boot_id": "", "since": 0,
        }))
        .unwrap();
        let worker = Worker {
            dataplane: Arc::clone(&kernel),
            local: Arc::clone(&local),
            snapshot: snapshot.clone(),
            underlay: underlay_now.clone(),
            refused: refused_now,
            vxlan_port: 4789,
            applied: applied_in,
        };
        let liveness = Liveness {
            ledger: ledger.clone(),
            node: local.node().clone(),
            prober: Arc::new(Asker { own: vtep(at), wire: Arc::clone(wire) }),
            snapshot: snapshot.clone(),
            applied,
            health: health.clone(),
            unreachable,
        };
        let member = Member {
            ledger: ledger.clone(),
            local: Arc::clone(&local),
            node,
            facts: facts_now,
            underlay: underlay_now.clone(),
            unreachable: missed,
        };
        let publisher =
            Publisher { ledger: ledger.clone(), local: Arc::clone(&local), underlay: underlay_now, health };
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(mirror.run(cancel.clone()));
        tasks.spawn(member.run(cancel.clone()));
        tasks.spawn(liveness.run(cancel.clone()));
        tasks.spawn(publisher.run(cancel.clone()));
        tasks.spawn(worker.run(cancel.clone()).map(|ended| ended.unwrap()));
        Self { local, ledger, snapshot, kernel, _facts: facts, cancel, tasks, underlay, _refused: refused }
    }

    /// Its daemon ends; what it held in the store stays until its lease ends.
    async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    async fn until(&self, what: &str, good: impl Fn(&Snapshot) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.snapshot.now();
            if good(&now) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what}, last seen: {now:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    shared: Arc<dyn Store>,
    wire: Arc<Wire>,
}

impl Cluster {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let times = Timeouts { call: Duration::from_secs(8), ..Timeouts::default() };
        let file = Embedded::open(&dir.path().join("store.redb"), times).await.unwrap();
        let shared = Arc::new(Shared::start(file, &dir.path().join("store.sock")).unwrap());
        Self { dir, shared, wire: Arc::default() }
    }

    fn host(&self, n: u8) -> Host {
        self.host_at(n, n)
    }

    /// Host `n` at the address of another.
    fn host_at(&self, n: u8, at: u8) -> Host {
        let times = Timeouts { call: Duration::from_secs(8), ..Timeouts::default() };
        let store = Arc::new(Remote::new(&self.dir.path().join("store.sock"), times).unwrap());
        Host::start(store, self.dir.path(), (n, at), &self.wire)
    }

    fn hush(&self, juror: u8, silent: u8) {
        self.wire.silent.lock().unwrap().insert((vtep(juror), vtep(silent)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_dead_when_all_miss_it_and_no_sooner() {
    let cluster = Cluster::new().await;
    let (one, two, three) = (cluster.host(1), cluster.host(2), cluster.host(3));
    let third = three.local.node().clone();
    for host in [&one, &two, &three] {
        host.until("all hosts", |s| s.nodes.len() == 3 && s.hosts.values().all(|h| h.probe)).await;
    }
    assert_eq!(one.snapshot.now().nodes[&third].incarnation, 1);
    cluster.wire.asked.lock().unwrap().clear();
    three.stop().await;
    one.until("a suspect", |s| s.suspects().count() == 1).await;
    // It answers both; then one of them only.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.hush(1, 3);
    one.until("one juror's word", |s| s.nodes.values().any(|n| n.unreachable.contains_key(&third))).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(one.snapshot.now().dead.is_empty());
    let asked = cluster.wire.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        BTreeSet::from([(vtep(1), vtep(3)), (vtep(2), vtep(3))]),
        "others were asked for as well"
    );
    cluster.hush(2, 3);
    for host in [&one, &two] {
        host.until("a death", |s| s.is_dead(&third) && s.suspects().count() == 0).await;
    }
    let death = one.snapshot.now().dead[&third].clone();
    assert_eq!((death.hostname.as_str(), death.incarnation), ("h3", 1));
    // One of those that saw its lease end has written down when that was: before it was declared dead.
    one.until("the time of its leaving", |s| {
        s.hosts[&third].left_at.is_some_and(|at| at <= death.since && at + 3600 > death.since)
    })
    .await;
    one.until("no more said of it", |s| s.nodes.values().all(|n| n.unreachable.is_empty())).await;

    // Back it is another registration, and nobody's word of before counts.
    let three = cluster.host(3);
    one.until("its return", |s| s.nodes.get(&third).is_some_and(|n| n.incarnation == 2) && s.dead.is_empty())
        .await;
    one.until("no more of its leaving", |s| s.hosts[&third].left_at.is_none()).await;
    three.underlay.send_modify(|underlay| underlay.mtu = 1400);
    one.until("its news", |s| s.nodes[&third].underlay_mtu == 1400).await;
    assert!(one.kernel.overlay().networks().next().is_none());
    for host in [one, two, three] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_cannot_be_asked_for_stays_and_one_that_was_set_up_anew_does_not() {
    let cluster = Cluster::new().await;
    let one = cluster.host(1);
    let gone = |n: u8, at: u8, probe: bool| KnownHost {
        id: rs_overlay::model::NodeId::new(format!("gone{n}")).unwrap(),
        hostname: format!("gone{n}"),
        vtep: vtep(at),
        incarnation: 4,
        probe,
        about: About::default(),
        left_at: None,
        extra: BTreeMap::new(),
    };
    // Host 8 has no probe device; host 9 was at the address that host 1 has now.
    let (mute, former) = (gone(8, 8, false), gone(9, 1, true));
    for host in [&mute, &former] {
        let txn = Txn::new().put(keys::host(&host.id), record::encode(host));
        cluster.shared.txn(txn).await.unwrap();
    }
    cluster.hush(1, 8);
    one.until("the end of the former host", |s| s.is_dead(&former.id)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = one.snapshot.now();
    assert_eq!(now.suspects().map(|host| &host.id).collect::<Vec<_>>(), [&mute.id]);
    assert!(cluster.wire.asked.lock().unwrap().is_empty());
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_swap_their_addresses_stay_alive_and_are_followed() {
    let cluster = Cluster::new().await;
    let (one, two, three) = (cluster.host(1), cluster.host(2), cluster.host(3));
    let ids: Vec<_> = [&one, &two, &three].iter().map(|host| host.local.node().clone()).collect();
    for host in [&one, &two, &three] {
        host.until("all hosts", |s| s.nodes.len() == 3).await;
    }
    one.underlay.send_modify(|underlay| underlay.vtep = vtep(2));
    two.underlay.send_modify(|underlay| underlay.vtep = vtep(1));
    for host in [&one, &two, &three] {
        host.until("the swap", |s| s.nodes[&ids[0]].vtep == vtep(2) && s.nodes[&ids[1]].vtep == vtep(1))
            .await;
        host.until("the swap, for later", |s| s.hosts[&ids[0]].vtep == vtep(2)).await;
    }
    // Host 1 takes on the address of host 3, whose daemon ends at that moment, and comes back at another one.
    let store = Arc::clone(&cluster.shared);
    one.underlay.send_modify(|underlay| underlay.vtep = vtep(3));
    one.until("the move", |s| s.nodes[&ids[0]].vtep == vtep(3)).await;
    three.stop().await;
    store.txn(Txn::new().delete(keys::node(&ids[2]))).await.unwrap();
    one.until("the loss of the lease", |s| s.suspects().any(|host| host.id == ids[2])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(one.snapshot.now().dead.is_empty(), "declared dead while its address had just moved on");
    let three = cluster.host_at(3, 9);
    one.until("its return", |s| s.nodes.get(&ids[2]).is_some_and(|node| node.vtep == vtep(9))).await;
    assert!(one.snapshot.now().dead.is_empty());
    for host in [one, two, three] {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_over_is_cut_off_before_the_host_serves() {
    let cluster = Cluster::new().await;
    let dir = cluster.dir.path().join("h3");
    let (id, network) = ("e".repeat(64), "f".repeat(64));
    let cidr: ipnet::IpNet = "10.9.0.0/24".parse().unwrap();
    let record = json!({"id": network, "name": "blue", "vni": 4096, "ipam": "ours", "created_by": "a", "created_at": 1,
        "subnets": [{"cidr": cidr}]});
    let local = Local::open(&dir, 3).unwrap();
    let third = local.node().clone();
    local
        .put_binding(
            serde_json::from_value(
                json!({"docker_id": network, "network": record, "ipam": "ours", "created_at": 1}),
            )
            .unwrap(),
        )
        .unwrap();
    for (n, last) in [("1", 2), ("2", 3)] {
        let endpoint = json!({"id": format!("{n}{}", &id[1..]), "network": network, "docker_network": network,
            "mac": format!("02:42:0a:09:00:0{last}"), "addresses": [format!("10.9.0.{last}")], "mtu": 1450,
            "created_at": 0, "boot_id": rs_overlay::local::boot_id(), "container": format!("c{last}")});
        local.put_endpoint(serde_json::from_value(endpoint).unwrap()).unwrap();
    }
    drop(local);
    // While it was dead, host 1 has taken the first address, and nobody the second one.
    let death = Death {
        id: third.clone(),
        hostname: "h3".into(),
        incarnation: 7,
        by: third.clone(),
        since: 0,
        extra: BTreeMap::new(),
    };
    let known = json!({"id": third, "hostname": "h3", "vtep": vtep(3), "incarnation": 7, "probe": true});
    let pool = json!({"cidr": cidr, "space": "local", "network": network, "node": "a", "since": 0});
    let claim = |node: &str| json!({"node": node, "kind": "container", "container": "new", "generation": 1, "since_ms": 0});
    let old = |n: &str| keys::endpoint(&network.parse_id(), &format!("{n}{}", &id[1..]).parse_id());
    let txn = Txn::new()
        .put(keys::dead(&third), record::encode(&death))
        .put(keys::host(&third), record::encode(&known))
        .put(keys::network(&network.parse_id()), record::encode(&record))
        .put(keys::pool(&cidr), record::encode(&pool))
        .put(keys::address(&cidr, [10, 9, 0, 2].into()), record::encode(&claim("0000000000000001")))
        .put(keys::address(&cidr, [10, 9, 0, 3].into()), record::encode(&claim(third.as_str())));
    cluster.shared.txn(txn).await.unwrap();

    let three = cluster.host(3);
    three.until("its return", |s| s.dead.is_empty() && s.nodes.contains_key(&third)).await;
    // No look at the store after that finds the address twice.
    let published = async || {
        let all = three.ledger.store().range(keys::ENDPOINTS).await.unwrap();
        all.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    while published().await != [old("2")] {
        assert!(!published().await.contains(&old("1")), "offered what is another's");
        assert!(Instant::now() < deadline, "{:?}", published().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(three.snapshot.now().nodes[&third].incarnation, 8);
    let endpoints = three.local.data().endpoints;
    let cut: Vec<_> =
        endpoints.values().filter_map(|e| Some((e.container.clone()?, e.cut_off.clone()?))).collect();
    let [(container, why)] = &cut[..] else { panic!("{cut:?}") };
    assert_eq!(
        (container.as_str(), why.ip, why.container.as_deref()),
        ("c2", [10, 9, 0, 2].into(), Some("new"))
    );
    let ports = || three.kernel.overlay().networks().map(|(_, segment)| segment.ports.len()).sum::<usize>();
    let deadline = Instant::now() + PATIENCE;
    while ports() != 1 {
        assert!(Instant::now() < deadline, "{:?}", three.kernel.overlay());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    three.stop().await;
    // It stays cut off over a restart.
    let again = Local::open(&dir, 3).unwrap().data();
    assert_eq!(again.connected().count(), 1);
}

/// Ids from texts that are ids.
trait ParseId {
    fn parse_id<T: TryFrom<String, Error = rs_overlay::model::IdError>>(&self) -> T;
}

impl ParseId for String {
    fn parse_id<T: TryFrom<String, Error = rs_overlay::model::IdError>>(&self) -> T {
        T::try_from(self.clone()).unwrap()
    }
}
