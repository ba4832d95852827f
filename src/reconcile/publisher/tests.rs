//! What a host finds of itself in the store, and what it leaves alone.

use serde_json::json;

use super::*;
use crate::{
    local::{Binding, KnownCluster, LocalEndpoint},
    model::{EndpointId, Network},
    store::{embedded::Embedded, timeouts::Timeouts},
};

const INCARNATION: &str = "i1";

struct Host {
    dir: tempfile::TempDir,
    store: Ledger,
    publisher: Publisher,
}

/// A host in a cluster whose store it has confirmed.
async fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("store"), Timeouts::default()).await.unwrap();
    let store = Ledger::new(Arc::new(store));
    let publisher = publisher(dir.path(), &store);
    let incarnation = Some(INCARNATION.to_owned());
    let known = KnownCluster { id: "c".into(), incarnation, turns: 0, provisional: false };
    publisher.local.set_cluster(known).unwrap();
    Host { dir, store, publisher }
}

fn publisher(dir: &std::path::Path, store: &Ledger) -> Publisher {
    Publisher {
        ledger: store.clone(),
        local: Arc::new(Local::open_in(&dir.join("state"), 7, "boot".to_owned()).unwrap()),
        underlay: watch::channel(Underlay::new([192, 0, 2, 1].into(), 1500)).1,
        health: watch::channel(Health::default()).1,
    }
}

impl Host {
    /// A daemon that follows one which was killed.
    fn restarted(self) -> Self {
        let Self { dir, store, publisher: last } = self;
        drop(last);
        let publisher = publisher(dir.path(), &store);
        Self { dir, store, publisher }
    }

    fn attach(&self, network: &str, id: &str, last: u8) {
        let local = &self.publisher.local;
        let network = Network::plain(network, "10.9.0.0/24");
        let endpoint: LocalEndpoint = serde_json::from_value(json!({
            "id": id, "network": network.id, "docker_network": network.id, "mac": "02:42:0a:09:00:02",
            "addresses": [format!("10.9.0.{last}")], "mtu": 1450, "created_at": 1, "boot_id": "boot",
        }))
        .unwrap();
        let docker_id = network.id.clone();
        let ipam = crate::model::IpamMode::Ours;
        local.put_binding(Binding { docker_id, network, ipam, created_at: 1 }).unwrap();
        local.put_endpoint(endpoint).unwrap();
    }

    /// Everything of a network goes, and nobody tells the store.
    fn leave(&self, network: &str, endpoint: &str) {
        let local = &self.publisher.local;
        local.remove_endpoint(&EndpointId::new(endpoint).unwrap()).unwrap();
        local.remove_binding(&NetworkId::new(network).unwrap(), None).unwrap();
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for prefix in [keys::ENDPOINTS, keys::PRESENT] {
            keys.extend(self.store.store().range(prefix).await.unwrap().into_iter().map(|entry| entry.key));
        }
        keys
    }

    fn own(&self, network: &str, endpoint: &str) -> [String; 2] {
        let network = NetworkId::new(network).unwrap();
        let endpoint = keys::endpoint(&network, &EndpointId::new(endpoint).unwrap());
        [endpoint, keys::present(&network, self.publisher.local.node())]
    }

    fn traced(&self) -> Vec<String> {
        let traced = self.publisher.traced(INCARNATION).unwrap_or_default();
        traced.iter().map(ToString::to_string).collect()
    }

    async fn publish(&self) -> Option<Published> {
        let mut published = None;
        self.publisher.round(&mut published).await.unwrap();
        published
    }
}

#[tokio::test]
async fn what_somebody_else_deletes_or_changes_is_noticed_and_written_again() {
    let host = host().await;
    host.attach("n1", "e1", 2);
    let published = host.publish().await;
    let own = host.own("n1", "e1");
    assert_eq!(host.keys().await, own);
    let published = host.publisher.still(published).await;
    assert!(published.is_some(), "all is as it was left");
    let published = host.publisher.still(published).await;
    assert!(published.is_some(), "and is known by its state from then on");

    host.store.commit(Txn::new().delete(own[1].as_str())).await.unwrap();
    assert!(host.publisher.still(published).await.is_none());
    let published = host.publish().await;
    assert_eq!(host.keys().await, own);
    let published = host.publisher.still(published).await;
    host.store.commit(Txn::new().put(own[0].as_str(), r#"{"format":1}"#)).await.unwrap();
    assert!(host.publisher.still(published).await.is_none());
    assert!(host.publish().await.is_some());
    assert_eq!(host.store.list::<crate::model::Endpoint>(keys::ENDPOINTS).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_killed_daemon_left_in_the_store_is_found_where_it_wrote() {
    let host = host().await;
    host.attach("n1", "e1", 2);
    host.attach("n2", "e2", 3);
    host.publish().await;
    assert_eq!(host.traced(), ["n1", "n2"]);
    // Another host's, in a network that this one is in as well.
    let strange = r#"{"format":1,"id":"x","network":"n1","node":"other","vtep":"192.0.2.9","mac":"02:42:0a:09:00:09","addresses":["10.9.0.9"],"created_at":1}"#;
    let others = ["v1/endpoints/n1/x", "v1/present/n1/other"];
    host.store.commit(Txn::new().put(others[0], strange).put(others[1], "{}")).await.unwrap();
    host.leave("n1", "e1");

    let host = host.restarted();
    let published = host.publish().await;
    let [endpoint, present] = host.own("n2", "e2");
    assert_eq!(host.keys().await, [others[0], &endpoint, others[1], &present]);
    assert_eq!(host.traced(), ["n1", "n2"], "what was sent last may still arrive");
    assert!(host.publisher.still(published).await.is_some());
    assert_eq!(host.traced(), ["n2"]);
}

#[tokio::test]
async fn without_a_memory_all_networks_are_looked_through() {
    for forget in [true, false] {
        let host = host().await;
        host.attach("n1", "e1", 2);
        host.publish().await;
        host.leave("n1", "e1");
        if forget {
            std::fs::remove_file(host.dir.path().join("state/trace.json")).unwrap();
        } else {
            // What was remembered of the store before this one says nothing.
            let trace = Trace { incarnation: "i0".into(), networks: BTreeSet::new() };
            host.publisher.local.set_trace(trace).unwrap();
        }
        let host = host.restarted();
        host.publish().await;
        assert_eq!(host.keys().await, [""; 0]);
    }
}
