//! What real engines ask, call by call, and what the driver makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod host;
    pub(crate) mod player;
    pub(crate) mod trace;
}

use std::sync::Arc;

use rs_overlay::{
    config::AddrPool,
    model::{AddressClaim, NodeId, Pool},
    store::{Txn, keys, ledger::Ledger, record},
};
use serde_json::{Value, json};
use support::{
    host::{Answer, Host, embedded},
    player::{DEFAULT_POOL, HandedOut, Player},
    trace::{Step, read, tell_node_from_manager},
};

fn pools() -> Vec<AddrPool> {
    vec![format!("base={DEFAULT_POOL},size=24").parse().unwrap()]
}

/// Plays a recording twice: waiting for every effect, and as fast as it goes. Afterwards nothing is left.
async fn replay(name: &str, scope: &'static str) {
    for patient in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(embedded(dir.path()).await, dir.path(), 1, scope, pools()).await;
        Player::new(&host, scope, patient, HandedOut::default()).play(&read(name)).await;
        host.until_clean().await;
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal, $scope:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                replay($name, $scope).await;
            }
        )*

        #[test]
        fn no_recording_is_left_out() {
            let played = [$($name,)* MANAGER, WORKER];
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine-traces");
            for file in std::fs::read_dir(dir).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!(played.contains(&name.trim_end_matches(".jsonl")), "{name}");
            }
        }
    };
}

replays! {
    engine_20_local: "20.10.24-local", "local";
    engine_20_global_without_a_cluster: "20.10.24-global-refused", "global";
    engine_20_with_a_cluster_store: "20.10.5-consul-global", "global";
    engine_20_with_a_cluster_store_and_our_ipam: "20.10.5-consul-global-own-ipam", "global";
    engine_26_local: "26.1.5-local", "local";
    engine_26_global: "26.1.5-global", "global";
    engine_28_global: "28.5.2-global", "global";
    engine_28_global_and_our_ipam: "28.5.2-global-own-ipam", "global";
    engine_28_local_and_our_ipam: "28.5.2-local-own-ipam", "local";
}

const MANAGER: &str = "28.5.2-swarm-manager-own-ipam";
const WORKER: &str = "28.5.2-swarm-worker-own-ipam";

/// The steps before the first one that `is_end` is true of, and the rest.
fn cut(steps: &[Step], is_end: impl Fn(&Step) -> bool) -> (&[Step], &[Step]) {
    let at = steps.iter().position(is_end).expect("the recording has such a step");
    steps.split_at(at)
}

async fn swarm(patient: bool) {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let manager_host = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let worker_host = Host::start(Arc::clone(&store), dir.path(), 2, "global", pools()).await;
    let handed_out = HandedOut::default();
    let mut manager = Player::new(&manager_host, "global", patient, Arc::clone(&handed_out));
    let mut worker = Player::new(&worker_host, "global", patient, Arc::clone(&handed_out));
    let (mut manager_steps, worker_steps) = (read(MANAGER), read(WORKER));
    tell_node_from_manager(&mut manager_steps);

    // The manager allocates the network and its tasks' addresses, before any host runs one.
    let local_pool = |step: &Step| step.has("IpamDriver.RequestPool", "AddressSpace", "RecLocal");
    let (allocation, rest) = cut(&manager_steps, local_pool);
    manager.play(allocation).await;
    let all = handed_out.lock().unwrap().clone();
    assert_eq!(all.len(), 5, "a gateway and four tasks");

    // The tasks start on the worker, then on the manager's own host.
    worker.adopt(&manager);
    let (start, worker_rest) = cut(&worker_steps, |step| step.is("NetworkDriver.Leave"));
    worker.play(start).await;
    let (start, rest) = cut(rest, |step| step.is("NetworkDriver.Leave"));
    manager.play(start).await;
    let endpoints = || [&worker_host, &manager_host].map(|host| host.local.data().endpoints.len());
    assert_eq!(endpoints(), [2, 2]);

    // They stop on the worker, which gives back what is the manager's: nothing happens to that.
    let (stop, worker_rest) = cut(worker_rest, local_pool);
    worker.play(stop).await;
    worker_host
        .until("the worker is done", async || {
            let data = worker_host.local.data();
            let done = data.endpoints.is_empty() && data.releases.is_empty() && data.departures.is_empty();
            (!done).then(|| format!("{data:?}"))
        })
        .await;
    let ledger = Ledger::new(Arc::clone(&store));
    let cidr = "10.70.0.0/24".parse().unwrap();
    for ip in &all {
        let claim = ledger.get::<AddressClaim>(&keys::address(&cidr, *ip)).await.unwrap();
        let holder = claim.map(|held| held.record.node);
        assert_eq!(holder.as_ref(), Some(manager_host.local.node()), "{ip}");
    }

    // The manager's own tasks stop, it gives addresses back and allocates others; a worker comes again.
    let (turnover, end) = cut(rest, |step| step.is("NetworkDriver.FreeNetwork"));
    manager.play(turnover).await;
    worker.play(worker_rest).await;
    assert!(!manager_host.network_keys().await.is_empty(), "the manager still holds the network");
    manager.play(end).await;
    manager_host.until_clean().await;
    worker_host.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_28_swarm() {
    swarm(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_28_swarm_in_a_hurry() {
    swarm(false).await;
}

/// What a manager's engine asks for a network, at first or again.
struct Managed<'a> {
    host: &'a Host,
    id: &'a str,
    subnet: &'a str,
}

impl Managed<'_> {
    /// Subnet, gateway and network; the answer of the last.
    async fn allocate(&self) -> Answer {
        let pool = json!({ "AddressSpace": "rs-overlay-global", "Pool": self.subnet, "Options": null });
        let pool = self.host.ok("IpamDriver.RequestPool", &pool).await;
        assert_eq!(pool["Pool"], self.subnet);
        let gateway = json!({ "RequestAddressType": "com.docker.network.gateway" });
        let wanted = json!({ "PoolID": self.pool(), "Address": "10.70.0.1", "Options": gateway });
        self.host.ok("IpamDriver.RequestAddress", &wanted).await;
        self.host.call("NetworkDriver.AllocateNetwork", &self.network("")).await
    }

    fn network(&self, space: &str) -> Value {
        let data = json!({ "AddressSpace": space, "Pool": self.subnet, "Gateway": "10.70.0.1/24" });
        json!({ "NetworkID": self.id, "Options": {}, "IPv4Data": [data], "IPv6Data": null })
    }

    fn pool(&self) -> String {
        format!("rs-overlay/global/{}", self.subnet)
    }

    async fn take(&self, address: &str) -> Answer {
        let options = json!({ "com.docker.network.ipam.serial": "true" });
        let wanted = json!({ "PoolID": self.pool(), "Address": address, "Options": options });
        self.host.call("IpamDriver.RequestAddress", &wanted).await
    }

    async fn give_back(&self) {
        let gateway = json!({ "PoolID": self.pool(), "Address": "10.70.0.1" });
        self.host.ok("IpamDriver.ReleaseAddress", &gateway).await;
        self.host.ok("IpamDriver.ReleasePool", &json!({ "PoolID": self.pool() })).await;
    }

    async fn free(&self) {
        self.host.ok("NetworkDriver.FreeNetwork", &json!({ "NetworkID": self.id })).await;
        self.give_back().await;
    }

    async fn holder(&self, ip: &str) -> Option<NodeId> {
        let cidr = self.subnet.parse().unwrap();
        let claim = Ledger::new(Arc::clone(&self.host.store))
            .get::<AddressClaim>(&keys::address(&cidr, ip.parse().unwrap()))
            .await;
        claim.unwrap().map(|held| held.record.node)
    }
}

const SWARM_NETWORK: &str = "k5cwhbyf5dqtg5ilc3oy1xtlm";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_begins_asks_for_all_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let one = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let two = Host::start(Arc::clone(&store), dir.path(), 2, "global", pools()).await;
    let [first, next] = [&one, &two].map(|host| Managed { host, id: SWARM_NETWORK, subnet: "10.70.0.0/24" });
    first.allocate().await.success("the first allocation");
    for ip in ["10.70.0.2", "10.70.0.3", "10.70.0.4"] {
        assert_eq!(first.take("").await.success("a task")["Address"], format!("{ip}/24"));
    }
    let taken = first.take("10.70.0.2").await.failure("an address that a task has");
    assert!(taken.contains("10.70.0.2"), "{taken}");

    // The next manager, and then the first one again, whose engine has restarted meanwhile.
    for manager in [&next, &first] {
        manager.allocate().await.success("an allocation that is repeated");
        for ip in ["10.70.0.2", "10.70.0.3"] {
            manager.take(ip).await.success("an address that is asked for again");
            assert_eq!(manager.holder(ip).await.as_ref(), Some(manager.host.local.node()));
            // Only the swarm's own repetition is none: this is `docker run --ip`.
            manager.take(ip).await.failure("an address that a task has");
        }
        // Whose task has ended in between rests until it is swept up.
        let new = manager.take("").await.success("a new task");
        assert!(
            !["10.70.0.2/24", "10.70.0.3/24", "10.70.0.4/24"].contains(&new["Address"].as_str().unwrap())
        );
    }

    // Another network with that subnet is refused, and what its manager gives back then is not its own.
    let other = Managed { host: &one, id: "otherotherotherotherother", ..first };
    let refused = other.allocate().await.failure("a subnet that another network has");
    assert!(refused.contains("has the subnet of network"), "{refused}");
    other.give_back().await;
    assert!(first.holder("10.70.0.1").await.is_some(), "the gateway was given back");
    first.take("").await.success("a task after that");

    next.free().await;
    one.until_clean().await;
    two.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_whose_engine_chooses_the_subnet_is_served_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let one = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let two = Host::start(Arc::clone(&store), dir.path(), 2, "global", pools()).await;
    let [first, next] = [&one, &two].map(|host| Managed { host, id: SWARM_NETWORK, subnet: "10.70.0.0/24" });
    for manager in [&first, &next] {
        one.ok("NetworkDriver.AllocateNetwork", &manager.network("")).await;
    }
    let mut with_ipv6 = next.network("LocalDefault");
    with_ipv6["IPv6Data"] = json!([{ "AddressSpace": "LocalDefault", "Pool": "fd70::/64" }]);
    let refused = two.call("NetworkDriver.CreateNetwork", &with_ipv6).await.failure("a swarm with IPv6");
    assert!(refused.contains("without --ipv6"), "{refused}");
    two.ok("NetworkDriver.CreateNetwork", &next.network("LocalDefault")).await;
    let interface = json!({ "Address": "10.70.0.9/24", "AddressIPv6": "", "MacAddress": "" });
    let endpoint = json!({ "NetworkID": SWARM_NETWORK, "EndpointID": "e1", "Interface": interface });
    two.ok("NetworkDriver.CreateEndpoint", &endpoint).await;
    two.ok("NetworkDriver.DeleteEndpoint", &endpoint).await;
    two.ok("NetworkDriver.DeleteNetwork", &endpoint).await;
    two.ok("NetworkDriver.FreeNetwork", &endpoint).await;
    one.until_clean().await;
    two.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_manager_asks_for_again_is_given_back_unless_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let manager = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let worker = Host::start(Arc::clone(&store), dir.path(), 2, "global", pools()).await;
    let network = Managed { host: &manager, id: SWARM_NETWORK, subnet: "10.70.0.0/24" };
    network.allocate().await.success("the allocation");
    for _ in 0..3 {
        network.take("").await.success("a task");
    }
    worker.ok("NetworkDriver.CreateNetwork", &network.network("rs-overlay-local")).await;
    let interface = json!({ "Address": "10.70.0.3/24", "AddressIPv6": "", "MacAddress": "" });
    let endpoint = json!({ "NetworkID": SWARM_NETWORK, "EndpointID": "e1", "Interface": interface });
    worker.ok("NetworkDriver.CreateEndpoint", &endpoint).await;
    let ledger = Ledger::new(Arc::clone(&store));
    worker
        .until("the endpoint's record", async || {
            let told = store.range(keys::ENDPOINTS).await.unwrap();
            told.is_empty().then(|| "none".to_owned())
        })
        .await;
    network.allocate().await.success("the next allocation");
    network.take("10.70.0.2").await.success("a task that still lives");
    // Four minutes pass.
    let cidr = network.subnet.parse().unwrap();
    let pool = ledger.get::<Pool>(&keys::pool(&cidr)).await.unwrap().unwrap();
    let earlier = |ms: u64| ms - 240_000;
    let aged = Pool { term_ms: pool.record.term_ms.map(earlier), ..pool.record };
    let mut txn = Txn::new().put(keys::pool(&cidr), record::encode(&aged));
    for claim in ledger.list::<AddressClaim>(&keys::addresses(&cidr)).await.unwrap() {
        let aged = AddressClaim { since_ms: earlier(claim.record.since_ms), ..claim.record };
        txn = txn.put(claim.entry.key.as_str(), record::encode(&aged));
    }
    ledger.commit(txn).await.unwrap();
    // A daemon that starts looks at once.
    manager.crash().await;
    let manager = Host::start(Arc::clone(&store), dir.path(), 1, "global", pools()).await;
    let network = Managed { host: &manager, id: SWARM_NETWORK, subnet: "10.70.0.0/24" };
    manager
        .until("the end of the claim that nobody needs", async || {
            network.holder("10.70.0.4").await.map(|node| format!("host {node} has it"))
        })
        .await;
    assert!(network.holder("10.70.0.2").await.is_some(), "asked for again, and given back");
    assert!(network.holder("10.70.0.3").await.is_some(), "used by an endpoint, and given back");
}
