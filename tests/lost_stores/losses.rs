//! A store that was emptied, or set back to a backup, on real servers of all kinds.

use std::{sync::Arc, time::Duration};

use rs_overlay::{model::NetworkId, store::keys, watched::Watched};
use serde_json::json;

use super::scene::{booked, contents, has, meta, reaches, restore, save, settled, undisturbed, wipe};
use crate::{
    servers::{Consul, Etcd, Holder, Server},
    support::{
        docker::{Net, engine_network, id},
        host::Host,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_emptied() {
    emptied::<Etcd>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_is_emptied() {
    emptied::<Consul>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_is_emptied() {
    emptied::<Holder>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_set_back() {
    set_back::<Etcd>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_is_set_back() {
    set_back::<Consul>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_is_set_back() {
    set_back::<Holder>().await;
}

/// A network with our IPAM and one with the engine's, on two hosts with a container on each in both.
async fn emptied<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = server.store().await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    let ours =
        Net::create_with(&a, 1, &json!({"Pool": "10.9.0.0/24"}), &["10.9.0.77"], &json!({})).await.unwrap();
    let theirs = engine_network(2, "10.8.0.0/24", "10.8.0.1", &json!({}));
    a.ok("NetworkDriver.CreateNetwork", &theirs).await;
    let ours_b = ours.attach(&b, 101).await;
    let theirs_a =
        Net { id: id(2), pool: "rs-overlay/local/10.8.0.0/24".into(), cidr: "10.8.0.0/24".parse().unwrap() };
    let theirs_b = theirs_a.attach(&b, 102).await;
    let mut used = Vec::new();
    for (number, (net, host)) in [(&ours, &a), (&ours_b, &b), (&theirs_b, &b)].into_iter().enumerate() {
        let ip = net.take(host, "").await.unwrap();
        net.endpoint(host, 10 + number, &ip).await.success("endpoint");
        used.push(ip);
    }
    theirs_a.endpoint(&a, 20, "10.8.0.2").await.success("the engine's choice");
    used.push("10.8.0.2".to_owned());
    reaches(&a, 2).await;
    reaches(&b, 2).await;
    let first = settled(&[&a, &b], None).await;
    let cluster = meta(&*store).await.unwrap().cluster;
    booked(&[&a, &b]).await;
    let before = contents(&*store).await;

    let second = undisturbed(
        &a,
        2,
        undisturbed(&b, 2, async {
            wipe(&mut server, &*store).await;
            let incarnation = settled(&[&a, &b], Some(&first)).await;
            has(&*store, &before).await;
            incarnation
        }),
    )
    .await;
    let now = meta(&*store).await.unwrap();
    assert_eq!((now.cluster, now.turns), (cluster, 1));

    // Who comes now finds everything, and gets what nobody has.
    let c = Host::standing(Arc::clone(&store), dir.path(), 3);
    assert_eq!(settled(&[&a, &b, &c], Some(&first)).await, second);
    c.until("both networks", async || {
        let networks = c.snapshot.now().networks.len();
        (networks != 2).then(|| format!("{networks}"))
    })
    .await;
    let ours_c = attach_in_time(&ours, &c, 201).await;
    let new = take_in_time(&ours_c, &c, "").await;
    assert!(!used.contains(&new) && new != "10.9.0.1" && new != "10.9.0.77", "{new} is in use: {used:?}");

    // And once more, with the daemon of `b` away.
    b.crash().await;
    let b = undisturbed(&a, 2, async {
        wipe(&mut server, &*store).await;
        settled(&[&a, &c], Some(&second)).await;
        let b = Host::standing(Arc::clone(&store), dir.path(), 2);
        settled(&[&a, &b, &c], Some(&second)).await;
        reaches(&b, 2).await;
        b
    })
    .await;
    end(&a, &b, &c, [&ours, &ours_b, &ours_c, &theirs_a, &theirs_b], &used, &new).await;
}

/// Everything is removed, and nothing is left.
async fn end(a: &Host, b: &Host, c: &Host, nets: [&Net; 5], used: &[String], new: &str) {
    let [ours, ours_b, ours_c, theirs_a, theirs_b] = nets;
    for (net, host, number, ip) in
        [(ours, a, 10, &used[0]), (ours_b, b, 11, &used[1]), (theirs_b, b, 12, &used[2])]
    {
        net.stop(host, number).await;
        net.release(host, ip).await;
    }
    theirs_a.stop(a, 20).await;
    ours_c.release(c, new).await;
    ours_c.remove(c).await;
    for (net, host) in [(ours_b, b), (theirs_b, b), (ours, a), (theirs_a, a)] {
        net.remove(host).await;
    }
    a.until_clean().await;
}

/// Attaching waits for hosts that fill the store, and is refused when that takes too long.
async fn attach_in_time(net: &Net, host: &Host, number: usize) -> Net {
    let pool = json!({"Pool": net.cidr.to_string(), "Options": {"rs-overlay.network": net.id}});
    for _ in 0..20 {
        match Net::create_with(host, number, &pool, &[], &json!({})).await {
            Ok(net) => return net,
            Err(text) => assert!(text.contains("filling it again"), "{text}"),
        }
    }
    panic!("the store is never settled");
}

async fn take_in_time(net: &Net, host: &Host, ip: &str) -> String {
    for _ in 0..30 {
        match net.take(host, ip).await {
            Ok(ip) => return ip,
            // A server that has only just come back.
            Err(text) if text.contains("does not answer") => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(text) => assert!(text.contains("filling it again"), "{text}"),
        }
    }
    panic!("the store is never settled");
}

/// The backup has a network that was removed since, lacks one that was created since, and has a container
/// that is gone, whose address another one has now.
async fn set_back<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = server.store().await;
    let a = Host::standing(Arc::clone(&store), dir.path(), 1);
    let b = Host::standing(Arc::clone(&store), dir.path(), 2);
    let old = Net::create(&a, 1, "10.9.0.0/24").await;
    let old_b = old.attach(&b, 101).await;
    let stays = Net::create(&a, 2, "10.8.0.0/24").await;
    let stays_b = stays.attach(&b, 102).await;
    let gone = stays_b.take(&b, "10.8.0.9").await.unwrap();
    stays_b.endpoint(&b, 10, &gone).await.success("endpoint");
    let ip = stays.take(&a, "").await.unwrap();
    stays.endpoint(&a, 11, &ip).await.success("endpoint");
    reaches(&a, 1).await;
    reaches(&b, 1).await;
    settled(&[&a, &b], None).await;
    save(&mut server, &*store, dir.path()).await;
    let first = settled(&[&a, &b], None).await;

    stays_b.stop(&b, 10).await;
    stays_b.release(&b, &gone).await;
    let key = keys::address(&stays.cidr, gone.parse().unwrap());
    b.until("the store to know that nobody uses the address", async || {
        let held = store.range(&key).await.unwrap();
        let used = held.iter().any(|entry| !entry.value.contains("\"reserve\""));
        used.then(|| format!("{held:?}"))
    })
    .await;
    let again = take_in_time(&stays, &a, "10.8.0.9").await;
    stays.endpoint(&a, 12, &again).await.success("endpoint");
    let other = take_in_time(&stays_b, &b, "10.8.0.10").await;
    stays_b.endpoint(&b, 13, &other).await.success("endpoint");
    old_b.remove(&b).await;
    old.remove(&a).await;
    let new = Net::create(&a, 3, "10.7.0.0/24").await;
    let new_b = new.attach(&b, 103).await;
    let fresh = new_b.take(&b, "").await.unwrap();
    new_b.endpoint(&b, 14, &fresh).await.success("endpoint");
    reaches(&a, 1).await;
    reaches(&b, 2).await;
    let tomb = keys::removed(&NetworkId::new(id(1)).unwrap());
    a.until("the removal to be known everywhere", async || {
        let known = |host: &Host| {
            let snapshot = host.snapshot.now();
            snapshot.removed.len() == 1 && snapshot.networks.len() == 2
        };
        let settled = a.local.data().departures.is_empty() && b.local.data().departures.is_empty();
        (!known(&a) || !known(&b) || !settled).then(|| format!("{:?}", a.snapshot.now()))
    })
    .await;
    settled(&[&a, &b], None).await;
    booked(&[&a, &b]).await;
    let before = contents(&*store).await;
    assert!(!before.contains(&keys::network(&NetworkId::new(id(1)).unwrap())));

    undisturbed(
        &a,
        1,
        undisturbed(&b, 2, async {
            restore(&mut server, &*store, dir.path()).await;
            settled(&[&a, &b], Some(&first)).await;
            has(&*store, &before).await;
        }),
    )
    .await;
    assert_eq!(store.range(&tomb).await.unwrap().len(), 1);
    a.until("the address to be its present owner's again", async || {
        let claims = store.range("v1/addresses/10.8.0.0_24/10.8.0.9").await.unwrap();
        let own = claims.iter().any(|claim| claim.value.contains(a.local.node().as_str()));
        (!own).then(|| format!("{claims:?}"))
    })
    .await;
    reaches(&a, 1).await;
    reaches(&b, 2).await;
}
