//! What survives a crash, a reboot and a second daemon.

use std::{fs, net::IpAddr};

use ipnet::IpNet;

use super::*;
use crate::model::{EndpointId, MacAddr};

fn endpoint(id: &str, boot: &str) -> LocalEndpoint {
    let ip = IpAddr::from([10, 9, 0, 7]);
    LocalEndpoint {
        id: EndpointId::new(id).unwrap(),
        network: NetworkId::new("cluster").unwrap(),
        docker_network: NetworkId::new("docker").unwrap(),
        mac: MacAddr::from_ip(ip),
        addresses: vec![ip],
        claimed: vec![(net(), ip)],
        mtu: 1450,
        sandbox: None,
        container: None,
        container_id: None,
        aliases: vec![],
        named_at: std::collections::BTreeMap::new(),
        created_at: 1,
        boot_id: boot.to_owned(),
        generation: 0,
        cut_off: None,
    }
}

fn net() -> IpNet {
    "10.9.0.0/24".parse().unwrap()
}

fn ids(local: &Local) -> Vec<String> {
    local.read(|data| data.endpoints.keys().map(ToString::to_string).collect())
}

fn released(local: &Local) -> Vec<String> {
    local.read(|data| data.releases.keys().cloned().collect())
}

#[test]
fn a_restart_finds_everything_and_half_written_files_count_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open(dir.path(), 7).unwrap();
    assert_eq!(local.node().as_str(), "0000000000000007");
    local.put_endpoint(endpoint("e1", &boot_id())).unwrap();
    local.put_release(Release { cidr: net(), ip: [10, 9, 0, 9].into(), until_ms: 5 }).unwrap();
    let known = KnownCluster { id: "c1".into(), incarnation: Some("i1".into()), turns: 2, provisional: true };
    local.set_cluster(known.clone()).unwrap();
    local.set_told(Told { incarnation: "i1".into(), tide: 7 }).unwrap();
    drop(local);
    let endpoints = dir.path().join("endpoints");
    let good = fs::read(endpoints.join("e1.json")).unwrap();
    fs::write(endpoints.join("e2.tmp"), &good).unwrap();
    fs::write(endpoints.join("e1.tmp"), &good[..10]).unwrap();
    fs::write(endpoints.join("e3.json"), &good[..good.len() / 2]).unwrap();
    fs::write(endpoints.join("e4.json"), b"").unwrap();
    fs::write(dir.path().join("cluster.tmp"), b"\"c2\"").unwrap();

    let local = Local::open(dir.path(), 8).unwrap();
    assert_eq!(local.node().as_str(), "0000000000000007");
    assert_eq!(ids(&local), ["e1"]);
    assert_eq!(released(&local), ["10.9.0.0/24=10.9.0.9"]);
    assert_eq!(local.data().cluster, Some(known));
    assert_eq!(local.data().told.map(|told| told.tide), Some(7));
    // What a crash left behind does not stand in the way of the next write.
    local.update_endpoint(&EndpointId::new("e1").unwrap(), |e| e.mtu = 1400).unwrap();
    drop(local);
    assert_eq!(Local::open(dir.path(), 9).unwrap().read(|d| d.endpoints.values().next().unwrap().mtu), 1400);
}

#[test]
fn a_reboot_collects_endpoints_and_gives_back_what_was_claimed_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open(dir.path(), 7).unwrap();
    local.put_endpoint(endpoint("old", "another boot")).unwrap();
    let mut ours = endpoint("ours", "another boot");
    ours.claimed.clear();
    local.put_endpoint(ours).unwrap();
    local.put_endpoint(endpoint("new", &boot_id())).unwrap();
    drop(local);
    for _ in 0..2 {
        let local = Local::open(dir.path(), 7).unwrap();
        assert_eq!(ids(&local), ["new"]);
        assert_eq!(released(&local), ["10.9.0.0/24=10.9.0.7"]);
    }
}

#[test]
fn a_second_daemon_is_told_what_to_do_and_the_lock_goes_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open(dir.path(), 7).unwrap();
    let told = Local::open(dir.path(), 8).unwrap_err().to_string();
    for part in ["another rs-overlay daemon", &dir.path().display().to_string(), "stop it first"] {
        assert!(told.contains(part), "{told}");
    }
    drop(local);
    Local::open(dir.path(), 8).unwrap();
}

#[test]
fn a_network_takes_its_endpoints_along_and_leaves_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::open(dir.path(), 7).unwrap();
    let (docker, cluster) = (NetworkId::new("docker").unwrap(), NetworkId::new("cluster").unwrap());
    let mut other = endpoint("other", &boot_id());
    other.docker_network = NetworkId::new("another").unwrap();
    for endpoint in [other, endpoint("e1", &boot_id())] {
        local.put_endpoint(endpoint).unwrap();
    }
    let changes = local.changes();
    let departure = Departure { network: cluster.clone(), title: "blue".into(), since: 1 };
    local.remove_binding(&docker, Some(departure.clone())).unwrap();
    assert!(changes.has_changed().unwrap());
    for _ in 0..2 {
        // Of a network that is gone already, nothing is left to do.
        local.remove_binding(&docker, None).unwrap();
    }
    drop(local);

    let local = Local::open(dir.path(), 7).unwrap();
    assert_eq!(ids(&local), ["other"]);
    assert_eq!(released(&local), ["10.9.0.0/24=10.9.0.7"]);
    assert_eq!(local.data().departures.get(&cluster), Some(&departure));
    local.remove_departure(&cluster).unwrap();
    let release = local.data().releases.into_values().next().unwrap();
    let earlier = Release { until_ms: release.until_ms - 1, ..release.clone() };
    local.settle_release(&earlier).unwrap();
    assert_eq!(released(&local).len(), 1, "a later release of the same address stays");
    local.settle_release(&release).unwrap();
    drop(local);
    let data = Local::open(dir.path(), 7).unwrap().data();
    assert!(data.departures.is_empty() && data.releases.is_empty(), "{data:?}");
}

#[test]
fn incarnations_only_grow_and_what_is_cut_off_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let ip = std::net::IpAddr::from([10, 9, 0, 2]);
    let local = Local::open(dir.path(), 7).unwrap();
    assert_eq!(local.next_incarnation(0).unwrap(), 1);
    assert_eq!(local.next_incarnation(9).unwrap(), 10);
    assert_eq!(local.next_incarnation(3).unwrap(), 11);
    let id = EndpointId::new("e1").unwrap();
    let why = |host: &str| CutOff {
        ip,
        node: NodeId::new("b").unwrap(),
        host: host.to_owned(),
        container: None,
        since: 1,
    };
    assert!(!local.cut_off(&id, why("nobody")).unwrap());
    local.put_endpoint(endpoint("e1", &boot_id())).unwrap();
    assert!(local.cut_off(&id, why("first")).unwrap());
    assert!(!local.cut_off(&id, why("second")).unwrap(), "only the first reason counts");
    drop(local);
    let local = Local::open(dir.path(), 7).unwrap();
    let data = local.data();
    assert_eq!((data.incarnation, data.connected().count()), (11, 0));
    assert_eq!(data.endpoints[&id].cut_off.as_ref().map(|cut| cut.host.as_str()), Some("first"));
    assert_eq!(Local::open(dir.path(), 7).err().map(|_| ()), Some(()), "the lock is held");
}

#[test]
fn the_cluster_as_an_earlier_release_wrote_it_is_known_without_an_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cluster.json"), b"\"c1\"").unwrap();
    let data = Local::open(dir.path(), 7).unwrap().data();
    assert_eq!(data.store_incarnation(), None);
    assert_eq!(data.cluster.map(|known| known.id).as_deref(), Some("c1"));
}
