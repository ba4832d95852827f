//! Who gets which subnet and which address, when several hosts ask at the same time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod docker;
    pub(crate) mod host;
}

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use ipnet::IpNet;
use rs_overlay::{
    config::AddrPool,
    ipam::overlapping,
    model::{AddressClaim, ClaimKind, ForeignVxlan, HostRoute, Pool},
    store::{
        Outcome, Store, Txn,
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
    host::{Host, embedded, patient, send},
};
use tempfile::TempDir;

/// Hosts on one embedded store; the first has the file open, the others come through its socket.
async fn hosts<const N: usize>() -> ([Host; N], TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("store.sock");
    let file = Embedded::open(&dir.path().join("store.redb"), patient()).await.unwrap();
    let shared: Arc<dyn Store> = Arc::new(Shared::start(file, &socket).unwrap());
    let mut hosts = Vec::new();
    for number in 1..=N {
        let store: Arc<dyn Store> = match number {
            1 => Arc::clone(&shared),
            _ => Arc::new(Remote::new(&socket, patient()).unwrap()),
        };
        let number = u8::try_from(number).unwrap();
        hosts.push(Host::start(store, dir.path(), number, "local", vec![AddrPool::standard()]).await);
    }
    let hosts: [Host; N] = hosts.try_into().unwrap_or_else(|_| unreachable!());
    // Each knows all, so that errors name hosts and not ids.
    for host in &hosts {
        let all = async || (host.snapshot.now().nodes.len() < N).then(|| "some are missing".to_owned());
        host.until("the other hosts", all).await;
    }
    (hosts, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_on_three_hosts_get_different_addresses() {
    let ([a, b, c], _dir) = hosts::<3>().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let (on_b, on_c) = (on_a.attach(&b, 2).await, on_a.attach(&c, 3).await);
    let places = [(&a, &on_a), (&b, &on_b), (&c, &on_c)];
    let requests =
        (0..180).map(|n| places[n % 3]).map(|(host, net)| async move { net.take(host, "").await.unwrap() });
    let got: BTreeSet<String> = join_all(requests).await.into_iter().collect();
    assert_eq!(got.len(), 180);
    assert!(!got.contains("10.9.0.1"), "the gateway was handed out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_subnet_says_so_and_recovers() {
    let ([a, b], _dir) = hosts::<2>().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/29").await;
    let on_b = on_a.attach(&b, 2).await;
    let mut got = BTreeSet::new();
    for n in 0..5 {
        let (host, net) = if n % 2 == 0 { (&a, &on_a) } else { (&b, &on_b) };
        assert!(got.insert(net.take(host, "").await.unwrap()));
    }
    for (host, net) in [(&a, &on_a), (&b, &on_b)] {
        let text = net.take(host, "").await.unwrap_err();
        assert!(text.contains("10.9.0.0/29") && text.contains("full (6 addresses are claimed)"), "{text}");
    }
    on_a.release(&a, "10.9.0.2").await;
    b.until("the freed address", async || on_b.take(&b, "").await.err()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_held_elsewhere_is_refused_with_its_holder() {
    let ([a, b], _dir) = hosts::<2>().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(&b, 2).await;
    on_a.take(&a, "10.9.0.50").await.unwrap();
    on_a.endpoint(&a, 10, "10.9.0.50").await.success("endpoint");
    let endpoint = id(10).try_into().unwrap();
    a.local.update_endpoint(&endpoint, |e| e.container = Some("db".into())).unwrap();
    // The name reaches the store in the background.
    b.until("the holder", async || {
        let text = on_b.take(&b, "10.9.0.50").await.unwrap_err();
        assert!(text.contains("10.9.0.50") && text.contains("on host host1"), "{text}");
        (!text.contains("container db on host host1")).then_some(text)
    })
    .await;
    let text = on_a.take(&a, "10.9.0.50").await.unwrap_err();
    assert!(text.contains("container db"), "one's own endpoint holds it as well: {text}");
    for reserved in ["10.9.0.1", "10.9.0.0", "10.9.0.255", "10.8.0.1"] {
        on_a.take(&a, reserved).await.unwrap_err();
        on_b.take(&b, reserved).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_free_again_at_once_on_its_own_host() {
    let ([a], _dir) = hosts::<1>().await;
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    for round in 0..50 {
        assert_eq!(net.take(&a, "10.9.0.50").await.unwrap(), "10.9.0.50");
        net.endpoint(&a, round, "10.9.0.50").await.success("endpoint");
        net.stop(&a, round).await;
        net.release(&a, "10.9.0.50").await;
    }
    net.take(&a, "10.9.0.50").await.unwrap();
    net.endpoint(&a, 99, "10.9.0.50").await.success("endpoint");
    // Whatever is still under way must not take the last claim along.
    let idle = async || (!a.local.data().releases.is_empty()).then(|| "releases wait".to_owned());
    a.until("all releases done", idle).await;
    let key = keys::address(&net.cidr, "10.9.0.50".parse().unwrap());
    assert_eq!(a.store.range(&key).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_given_back_before_its_endpoint_goes_rests_until_then() {
    let ([a], _dir) = hosts::<1>().await;
    let net = Net::create(&a, 1, "10.9.0.0/24").await;
    let ip = net.take(&a, "").await.unwrap();
    net.endpoint(&a, 5, &ip).await.success("endpoint");
    net.release(&a, &ip).await;
    let key = keys::address(&net.cidr, ip.parse().unwrap());
    // The endpoint may well be another container's than what was given back, so its claim stays.
    let kind = async || {
        let held = Ledger::new(Arc::clone(&a.store)).get::<AddressClaim>(&key).await.unwrap().unwrap();
        held.record.kind
    };
    assert!(net.take(&a, &ip).await.is_err(), "its endpoint still uses it");
    assert_eq!(kind().await, ClaimKind::Container);
    net.stop(&a, 5).await;
    let resting = async || {
        let kind = kind().await;
        (kind != ClaimKind::Reserve).then(|| format!("{kind:?}"))
    };
    a.until("a record that says that it rests", resting).await;
    assert_eq!(net.take(&a, &ip).await.unwrap(), ip);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engines_ipam_chose_twice_is_refused_to_the_second() {
    let ([a, b], _dir) = hosts::<2>().await;
    let body = engine_network(1, "10.9.0.0/24", "10.9.0.1/24", &json!({}));
    a.ok("NetworkDriver.CreateNetwork", &body).await;
    endpoint(&a, &id(1), 10, "10.9.0.2/24").await.success("first");
    let pool = json!({"Pool": "10.9.0.0/24", "Options": {"rs-overlay.network": id(1)}});
    let on_b = Net::create_with(&b, 2, &pool, &[], &json!({})).await.unwrap();
    let text = on_b.take(&b, "10.9.0.2").await.unwrap_err();
    assert!(text.contains("on host host1"), "{text}");
    // There our IPAM begins at the other end.
    let ip = on_b.take(&b, "").await.unwrap();
    assert!(ip.parse::<std::net::Ipv4Addr>().unwrap().octets()[3] > 200, "{ip}");
    let text = endpoint(&a, &id(1), 11, &format!("{ip}/24")).await.failure("second");
    assert!(text.contains("on host host2") && text.contains("--ipam-driver rs-overlay"), "{text}");
    assert_eq!(a.local.data().endpoints.len(), 1, "a refused endpoint stayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn default_pools_never_overlap() {
    let ([a, b], _dir) = hosts::<2>().await;
    let request = json!({"AddressSpace": "rs-overlay-local", "Pool": "", "Options": {}});
    // A few at a time from both hosts, so that they race but do not only race.
    let mut got: Vec<IpNet> = Vec::new();
    for _ in 0..50 {
        let asked = [&a, &b, &a, &b, &a, &b].map(|host| host.ok("IpamDriver.RequestPool", &request));
        let answers = join_all(asked).await;
        got.extend(answers.iter().map(|answer| answer["Pool"].as_str().unwrap().parse::<IpNet>().unwrap()));
    }
    assert_eq!(got.len(), 300);
    for (at, one) in got.iter().enumerate() {
        assert!(got[..at].iter().all(|other| !overlapping(one, other)), "{one} twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_subnets_are_never_won_by_two() {
    let ([a, b], _dir) = hosts::<2>().await;
    let ask = |host: &Host, pool: String| {
        let body = json!({"AddressSpace": "rs-overlay-local", "Pool": pool, "Options": {}});
        let host = host.router.clone();
        async move { send(&host, "/IpamDriver.RequestPool", body.to_string()).await }
    };
    for n in 0..20 {
        let (wide, narrow) = (format!("10.{n}.0.0/16"), format!("10.{n}.7.0/24"));
        let (one, other) = tokio::join!(ask(&a, wide.clone()), ask(&b, narrow.clone()));
        let won = [&one, &other].into_iter().filter(|answer| answer.status == 200).count();
        assert!(won <= 1, "{one:?} {other:?}");
        let pools = a.store.range(&format!("v1/pools/10.{n}.")).await.unwrap();
        assert_eq!(pools.len(), won, "a loser's claim stayed: {pools:?}");
        for answer in [one, other].into_iter().filter(|answer| answer.status != 200) {
            let text = answer.failure("the loser");
            assert!(text.contains("overlaps") && text.contains("on host host"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subnet_that_some_host_reaches_otherwise_is_refused() {
    let ([a, b], _dir) = hosts::<2>().await;
    let cidr = "10.50.0.0/16".parse().unwrap();
    b.publish_routes(vec![HostRoute { cidr, dev: "eth7".into() }]).await;
    let known = async || {
        let snapshot = a.snapshot.now();
        let seen = snapshot.nodes.values().any(|node| !node.routes.is_empty());
        (!seen).then(|| format!("{:?}", snapshot.nodes))
    };
    a.until("the route of the other host", known).await;
    let own_ipam = json!({"AddressSpace": "rs-overlay-local", "Pool": "10.50.3.0/24"});
    let engine_ipam = engine_network(1, "10.50.3.0/24", "10.50.3.1/24", &json!({}));
    for (method, body) in [("IpamDriver.RequestPool", own_ipam), ("NetworkDriver.CreateNetwork", engine_ipam)]
    {
        let text = a.refused(method, &body).await;
        for part in ["10.50.3.0/24", "10.50.0.0/16", "host2", "eth7"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    assert_eq!(a.network_keys().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vni_that_another_program_has_on_some_host_is_avoided_or_refused_by_name() {
    let ([a, b], _dir) = hosts::<2>().await;
    let device = |vni, port, dev: &str| ForeignVxlan { vni, port, dev: dev.into() };
    let devices =
        [device(65536, 4789, "flannel.1"), device(65537, 8472, "other"), device(65538, 4789, "vx0")];
    b.publish_vxlans(devices.into()).await;
    let known = async || {
        let snapshot = a.snapshot.now();
        let seen = snapshot.nodes.values().any(|node| !node.vxlans.is_empty());
        (!seen).then(|| format!("{:?}", snapshot.nodes))
    };
    a.until("the devices of the other host", known).await;
    let pool = |n: u8| json!({"Pool": format!("10.{n}.0.0/24")});
    let text = Net::create_with(&a, 1, &pool(9), &[], &json!({"vni": "65536"})).await.err().expect("refused");
    for part in ["VNI 65536", "UDP port 4789", "flannel.1", "host2"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // A device on another port is in nobody's way.
    for n in [2_u8, 3] {
        Net::create_with(&a, n.into(), &pool(n), &[], &json!({})).await.unwrap();
    }
    let vnis = async || {
        let snapshot = a.snapshot.now();
        let vnis: BTreeSet<u32> = snapshot.networks.values().map(|network| network.vni.get()).collect();
        (vnis != BTreeSet::from([65537, 65539])).then(|| format!("{vnis:?}"))
    };
    a.until("both networks with VNIs of their own", vnis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_a_network_hold_or_are_refused() {
    let ([a, b], _dir) = hosts::<2>().await;
    let pool = json!({"Pool": "10.9.0.0/24", "SubPool": "10.9.0.128/29"});
    let net = Net::create_with(&a, 1, &pool, &["10.9.0.129"], &json!({"vni": "7000"})).await.unwrap();
    let on_b = net.attach(&b, 2).await;
    let mut got = BTreeSet::new();
    for n in 0..7 {
        let (host, net) = if n % 2 == 0 { (&a, &net) } else { (&b, &on_b) };
        got.insert(net.take(host, "").await.unwrap());
    }
    let range: BTreeSet<String> = (128..=135).filter(|n| *n != 129).map(|n| format!("10.9.0.{n}")).collect();
    assert_eq!(got, range);
    let text = net.take(&a, "").await.unwrap_err();
    assert!(text.contains("full"), "{text}");
    // Outside of the range only what a person names.
    assert_eq!(on_b.take(&b, "10.9.0.7").await.unwrap(), "10.9.0.7");
    for (host, net) in [(&a, &net), (&b, &on_b)] {
        let text = net.take(host, "10.9.0.129").await.unwrap_err();
        assert!(text.contains("auxiliary"), "{text}");
    }

    let other = json!({"Pool": "10.10.0.0/24"});
    for (options, part) in [
        (json!({"vni": "7000"}), "VNI 7000 is held by network"),
        (json!({"com.docker.network.driver.overlay.vxlanid_list": "7000"}), "VNI 7000 is held by network"),
        (json!({"colour": "red"}), "\"colour\""),
        (json!({"com.docker.network.driver.mtu": "9000"}), "9000"),
    ] {
        let text = Net::create_with(&b, 3, &other, &[], &options).await.err().expect("refused");
        assert!(text.contains(part), "{text}");
    }
    let left = async || {
        let keys = a.network_keys().await.into_iter().filter(|key| key.contains("10.10.0"));
        keys.reduce(|all, key| all + " " + &key)
    };
    a.until("nothing left of what was refused", left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_goes_with_its_last_container() {
    let ([a, b], _dir) = hosts::<2>().await;
    let on_a = Net::create(&a, 1, "10.9.0.0/24").await;
    let on_b = on_a.attach(&b, 2).await;
    let ip = on_b.take(&b, "").await.unwrap();
    on_b.endpoint(&b, 10, &ip).await.success("endpoint");
    on_a.remove(&a).await;
    let mark = keys::departed(&id(1).try_into().unwrap(), a.local.node());
    a.until("the mark", async || a.network_keys().await.iter().all(|key| *key != mark).then(|| mark.clone()))
        .await;
    assert!(a.network_keys().await.iter().any(|key| key.starts_with(keys::NETWORKS)));
    // The host that still has it can start another container meanwhile.
    let second = on_b.take(&b, "").await.unwrap();
    on_b.endpoint(&b, 11, &second).await.success("second");
    for (number, ip) in [(10, ip), (11, second)] {
        on_b.stop(&b, number).await;
        on_b.release(&b, &ip).await;
    }
    on_b.remove(&b).await;
    a.until_clean().await;
    b.until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_broken_off_is_finished_or_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let pools = || vec![AddrPool::standard()];
    let a = Host::start(Arc::clone(&store), dir.path(), 1, "local", pools()).await;
    Net::create(&a, 1, "10.9.0.0/24").await;
    Net::create(&a, 2, "10.10.0.0/24").await;
    // A host died after it had closed one network, another after it had noted that it left the other.
    let ledger = Ledger::new(Arc::clone(&store));
    let pool = keys::pool(&"10.9.0.0/24".parse().unwrap());
    let held = ledger.get::<Pool>(&pool).await.unwrap().unwrap();
    let closed = record::encode(&Pool { closing: true, ..held.record });
    let mark = keys::departed(&id(2).try_into().unwrap(), a.local.node());
    let txn = Txn::new().put(pool.as_str(), closed).put(mark, record::encode(&json!({})));
    assert_eq!(ledger.commit(txn).await.unwrap(), Outcome::Committed);

    let b = Host::start(store, dir.path(), 2, "local", pools()).await;
    let look = async || {
        let keys = b.network_keys().await;
        let open = !ledger.get::<Pool>(&pool).await.unwrap().unwrap().record.closing;
        let ended = !keys.iter().any(|key| key.contains("10.10.0") || key.starts_with(keys::DEPARTED));
        (!open || !ended).then(|| format!("open {open}, {keys:?}"))
    };
    b.until("one network open and the other gone", look).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subnet_can_be_used_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = embedded(dir.path()).await;
    let host = Host::start(store, dir.path(), 1, "local", vec![AddrPool::standard()]).await;
    let mut last = None;
    for n in 0..20 {
        let net = Net::create(&host, n, "10.9.0.0/24").await;
        let text = net.take(&host, "10.9.0.1").await.unwrap_err();
        assert!(text.contains("its gateway"), "{text}");
        // Not the one of the round before: stale ARP entries elsewhere may still lead there.
        let ip = net.take(&host, "").await.unwrap();
        assert_ne!(Some(&ip), last.as_ref());
        last = Some(ip.clone());
        net.release(&host, &ip).await;
        net.remove(&host).await;
    }
    host.until_clean().await;
}
