//! Addresses that hosts hold in reserve: spent while the store is away, given back to those who need them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod docker;
    pub(crate) mod host;
}

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use futures_util::future::join_all;
use rs_overlay::{
    config::AddrPool,
    model::{AddressClaim, ClaimKind, NodeId},
    store::{
        Store, Txn,
        embedded::{Embedded, serve::Shared},
        keys,
        ledger::Ledger,
        record,
        remote::Remote,
    },
    watched::Watched,
};
use serde_json::json;
use support::{
    docker::{Net, endpoint, engine_network, id},
    host::{Host, patient},
};
use tempfile::TempDir;

/// A store that can be taken away, and hosts that reach it through its socket.
struct Cluster {
    dir: TempDir,
    shared: Option<Shared>,
    hosts: Vec<Host>,
}

impl Cluster {
    async fn start(hosts: u8) -> Self {
        let mut cluster = Self { dir: tempfile::tempdir().unwrap(), shared: None, hosts: Vec::new() };
        cluster.store_returns().await;
        for number in 1..=hosts {
            let store: Arc<dyn Store> = Arc::new(Remote::new(&cluster.socket(), patient()).unwrap());
            let pools = vec![AddrPool::standard()];
            cluster.hosts.push(Host::start(store, cluster.dir.path(), number, "local", pools).await);
        }
        for host in &cluster.hosts {
            let all = async || {
                let known = host.snapshot.now().nodes.len();
                (known < usize::from(hosts)).then(|| format!("{known} hosts"))
            };
            host.until("all hosts", all).await;
        }
        cluster
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("store.sock")
    }

    fn store_goes(&mut self) {
        self.shared = None;
    }

    async fn store_returns(&mut self) {
        let file = Embedded::open(&self.dir.path().join("store.redb"), patient()).await.unwrap();
        self.shared = Some(Shared::start(file, &self.socket()).unwrap());
    }

    fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }
}

fn reserve(host: &Host, net: &Net) -> Vec<IpAddr> {
    host.local.read(|data| data.reserve_of(&net.cidr).into_iter().map(|claim| claim.ip).collect())
}

/// Waits until a host holds that many addresses in reserve, by its own word and the store's.
async fn holds(host: &Host, net: &Net, count: usize) {
    host.until(&format!("{count} addresses in reserve"), async || {
        let own: BTreeSet<_> = reserve(host, net).into_iter().collect();
        let told: BTreeSet<_> = records(host, net)
            .await
            .into_iter()
            .filter(|(_, claim)| claim.node == *host.local.node() && claim.kind == ClaimKind::Reserve)
            .map(|(ip, _)| ip)
            .collect();
        (own != told || own.len() != count).then(|| format!("here {own:?}, in the store {told:?}"))
    })
    .await;
}

async fn records(host: &Host, net: &Net) -> BTreeMap<IpAddr, AddressClaim> {
    let ledger = Ledger::new(Arc::clone(&host.store));
    let held = ledger.list::<AddressClaim>(&keys::addresses(&net.cidr)).await.unwrap();
    held.into_iter().map(|held| (keys::address_of(&held.entry.key).unwrap(), held.record)).collect()
}

/// Waits until the store's records say who uses what.
async fn told(host: &Host, net: &Net, wanted: &BTreeMap<IpAddr, NodeId>) {
    host.until("the addresses in use", async || {
        let used: BTreeMap<_, _> = records(host, net)
            .await
            .into_iter()
            .filter(|(_, claim)| claim.kind.is_use())
            .map(|(ip, claim)| (ip, claim.node))
            .collect();
        (used != *wanted).then(|| format!("{used:?} instead of {wanted:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_come_and_go_on_every_host_while_the_store_is_away() {
    let mut cluster = Cluster::start(2).await;
    let on_a = Net::create(cluster.host(1), 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(cluster.host(2), 2).await;
    for (host, net) in [(1, &on_a), (2, &on_b)] {
        holds(cluster.host(host), net, 8).await;
    }
    cluster.store_goes();
    let mut used = BTreeMap::new();
    for (number, net) in [(1, &on_a), (2, &on_b)] {
        let host = cluster.host(number);
        let first = net.take(host, "").await.unwrap();
        net.endpoint(host, number * 100, &first).await.success("endpoint");
        // A restart.
        net.stop(host, number * 100).await;
        net.release(host, &first).await;
        let all = join_all((0..8).map(|_| net.take(host, ""))).await;
        for (at, ip) in all.into_iter().enumerate() {
            let ip = ip.unwrap();
            net.endpoint(host, number * 100 + at + 1, &ip).await.success("endpoint");
            assert!(used.insert(ip.parse().unwrap(), host.local.node().clone()).is_none(), "{ip} twice");
        }
        let text = net.take(host, "").await.unwrap_err();
        for part in ["no address of network", "left in reserve", "needs the cluster store", "try again when"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        // One that a container has given back is there for the next.
        let ip = used.iter().find(|(_, node)| *node == host.local.node()).map(|(ip, _)| *ip).unwrap();
        let endpoint = host.local.read(|data| data.user_of(&net.cidr, ip).unwrap().id.clone());
        let number = usize::from_str_radix(endpoint.as_str(), 16).unwrap();
        net.stop(host, number).await;
        net.release(host, &ip.to_string()).await;
        let text = net.take(host, "10.9.0.200").await.unwrap_err();
        for part in ["10.9.0.200", "needs the cluster store", "without --ip", &ip.to_string()] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(net.take(host, &ip.to_string()).await.unwrap(), ip.to_string());
        let again = net.take(host, &ip.to_string()).await.unwrap_err();
        assert!(again.contains("held by") && again.contains(&host.name), "{again}");
    }
    cluster.store_returns().await;
    told(cluster.host(1), &on_a, &used).await;
    for (host, net) in [(1, &on_a), (2, &on_b)] {
        holds(cluster.host(host), net, 8).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_s_own_choice_is_held_before_it_is_made() {
    let mut cluster = Cluster::start(2).await;
    let a = cluster.host(1);
    let body = engine_network(1, "10.9.0.0/24", "10.9.0.1/24", &json!({}));
    a.ok("NetworkDriver.CreateNetwork", &body).await;
    let net = Net { id: id(1), pool: String::new(), cidr: "10.9.0.0/24".parse().unwrap() };
    holds(a, &net, 8).await;
    let lowest = |from: u8| (from..from + 8).map(|n| IpAddr::from([10, 9, 0, n])).collect::<BTreeSet<_>>();
    assert_eq!(reserve(a, &net).into_iter().collect::<BTreeSet<_>>(), lowest(2));
    endpoint(a, &id(1), 10, "10.9.0.2/24").await.success("first");
    holds(a, &net, 8).await;
    assert_eq!(reserve(a, &net).into_iter().collect::<BTreeSet<_>>(), lowest(3));
    cluster.store_goes();
    let a = cluster.host(1);
    endpoint(a, &id(1), 11, "10.9.0.3/24").await.success("second");
    net.stop(a, 10).await;
    endpoint(a, &id(1), 12, "10.9.0.2/24").await.success("third");
    let text = endpoint(a, &id(1), 13, "10.9.0.99/24").await.failure("outside of the reserve");
    assert!(text.contains("10.9.0.99") && text.contains("needs the cluster store"), "{text}");
    cluster.store_returns().await;
    let a = cluster.host(1);
    let node = a.local.node();
    told(a, &net, &[2, 3].map(|n| (IpAddr::from([10, 9, 0, n]), node.clone())).into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reserves_are_given_back_to_whoever_needs_them() {
    let cluster = Cluster::start(2).await;
    let (a, b) = (cluster.host(1), cluster.host(2));
    let on_a = Net::create(a, 1, "10.9.0.0/27").await;
    let on_b = on_a.attach(b, 2).await;
    for (host, net) in [(a, &on_a), (b, &on_b)] {
        holds(host, net, 3).await;
    }
    // One that somebody names.
    let theirs = reserve(a, &on_a)[0].to_string();
    assert_eq!(on_b.take(b, &theirs).await.unwrap(), theirs);
    // And the last ones of a full subnet: 30 addresses, the gateway and the one above.
    let mut got = BTreeSet::from([theirs]);
    for n in 0..28 {
        let ip = on_b.take(b, "").await.unwrap_or_else(|error| panic!("after {n} of 28: {error}"));
        assert!(got.insert(ip));
    }
    let text = on_b.take(b, "").await.unwrap_err();
    assert!(text.contains("full (30 addresses are claimed)"), "{text}");
    assert_eq!(reserve(a, &on_a), Vec::<IpAddr>::new());
    on_b.release(b, "10.9.0.20").await;
    a.until("the freed address", async || on_a.take(a, "").await.err()).await;
    assert_eq!(records(a, &on_a).await[&[10, 9, 0, 20].into()].node, *a.local.node());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reserve_keeps_no_network_alive_and_goes_with_it() {
    let cluster = Cluster::start(2).await;
    let (a, b) = (cluster.host(1), cluster.host(2));
    let on_a = Net::create(a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(b, 2).await;
    for (host, net) in [(a, &on_a), (b, &on_b)] {
        holds(host, net, 8).await;
    }
    let ip = on_a.take(a, "").await.unwrap();
    on_a.endpoint(a, 10, &ip).await.success("endpoint");
    // Of a host that leaves a network which others use nothing stays.
    on_b.remove(b).await;
    b.until("nothing held by the host that left", async || {
        let held =
            records(a, &on_a).await.into_values().filter(|claim| claim.node == *b.local.node()).count();
        let book = b.local.read(|data| data.claims.len() + data.releases.len());
        (held + book > 0).then(|| format!("{held} in the store, {book} here"))
    })
    .await;
    on_a.stop(a, 10).await;
    on_a.release(a, &ip).await;
    on_a.remove(a).await;
    a.until_clean().await;
    b.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_has_lost_comes_back_and_what_it_gave_to_another_host_is_lost() {
    let mut cluster = Cluster::start(2).await;
    let on_a = Net::create(cluster.host(1), 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(cluster.host(2), 2).await;
    for (host, net) in [(1, &on_a), (2, &on_b)] {
        holds(cluster.host(host), net, 8).await;
    }
    let (a, b) = (cluster.host(1), cluster.host(2));
    let mut ips = Vec::new();
    for (number, name) in [(10, "db"), (11, "web")] {
        let ip = on_a.take(a, "").await.unwrap();
        on_a.endpoint(a, number, &ip).await.success("endpoint");
        let endpoint = id(number).try_into().unwrap();
        a.local.update_endpoint(&endpoint, |e| e.container = Some(name.into())).unwrap();
        ips.push(ip.parse::<IpAddr>().unwrap());
    }
    let node = a.local.node().clone();
    told(a, &on_a, &ips.iter().map(|ip| (*ip, node.clone())).collect()).await;
    holds(a, &on_a, 8).await;
    let spare = reserve(a, &on_a)[0];
    let gateway: IpAddr = [10, 9, 0, 1].into();
    // One is taken over by the other host, with one of the reserve; all else is lost.
    let claim = |ip: &IpAddr| keys::address(&on_a.cidr, *ip);
    let foreign = AddressClaim {
        node: b.local.node().clone(),
        kind: ClaimKind::Container,
        container: None,
        generation: 1,
        // Claimed a moment ago: nobody takes it for left behind.
        since_ms: u64::MAX / 2,
    };
    let txn = Txn::new()
        .delete(claim(&gateway))
        .delete(claim(&ips[0]))
        .put(claim(&ips[1]), record::encode(&foreign))
        .put(claim(&spare), record::encode(&foreign));
    a.store.txn(txn).await.unwrap();
    cluster.store_goes();
    let a = cluster.host(1);
    a.until("the outage", async || a.store.range("v1/").await.is_ok().then(|| "answers".to_owned())).await;
    cluster.store_returns().await;
    let (a, b) = (cluster.host(1), cluster.host(2));
    a.until("what is kept and what is lost", async || {
        let records = records(a, &on_a).await;
        let held = |ip: &IpAddr| records.get(ip).map(|claim| (claim.node.clone(), claim.kind.clone()));
        let lost = a.local.read(|data| data.lost_claims().map(|claim| claim.ip).collect::<Vec<_>>());
        let good = held(&ips[0]) == Some((node.clone(), ClaimKind::Container))
            && held(&gateway).is_some_and(|(_, kind)| kind == ClaimKind::Gateway)
            && held(&ips[1]).is_some_and(|(holder, _)| holder == *b.local.node())
            && lost == [ips[1]]
            && !reserve(a, &on_a).contains(&spare);
        (!good).then(|| format!("{records:?}, lost {lost:?}"))
    })
    .await;
    // The container that has lost its address gets another when it comes back, and not that one again.
    on_a.stop(a, 11).await;
    on_a.release(a, &ips[1].to_string()).await;
    let text = on_a.take(a, &ips[1].to_string()).await.unwrap_err();
    assert!(text.contains("host2"), "{text}");
    assert_ne!(on_a.take(a, "").await.unwrap(), ips[1].to_string());
}
