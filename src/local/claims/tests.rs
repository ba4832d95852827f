//! What the book hands out, and what of it survives.

use std::path::Path;

use super::{own::RESTART_MS, *};
use crate::{
    local::{Binding, boot_id},
    model::{IpamMode, MacAddr, Network},
};

fn net() -> IpNet {
    "10.9.0.0/24".parse().unwrap()
}

fn ip(last: u8) -> IpAddr {
    [10, 9, 0, last].into()
}

fn network() -> Network {
    Network::plain("n1", "10.9.0.0/24")
}

fn reserve(local: &Local, last: u8) -> OwnClaim {
    OwnClaim {
        cidr: net(),
        ip: ip(last),
        network: network().id,
        kind: ClaimKind::Reserve,
        container: None,
        generation: 0,
        since_ms: local.moment(),
        named: false,
        used: false,
        former: false,
        given_back: false,
        lost_to: None,
    }
}

/// A host with a network and three addresses in reserve, none of which has been used.
fn open(dir: &Path) -> Local {
    let local = Local::open(dir, 7).unwrap();
    let docker_id = network().id;
    local
        .put_binding(Binding { docker_id, network: network(), ipam: IpamMode::Ours, created_at: 1 })
        .unwrap();
    for last in [2, 3, 4] {
        assert!(local.hold(reserve(&local, last)).unwrap());
    }
    local
}

fn start(local: &Local, id: &str, last: u8, container: &str) {
    local
        .put_endpoint(LocalEndpoint {
            id: EndpointId::new(id).unwrap(),
            network: network().id,
            docker_network: network().id,
            mac: MacAddr::from_ip(ip(last)),
            addresses: vec![ip(last)],
            claimed: vec![],
            mtu: 1450,
            sandbox: None,
            container: Some(container.into()),
            container_id: None,
            aliases: vec![],
            created_at: 1,
            named_at: std::collections::BTreeMap::new(),
            generation: 0,
            cut_off: None,
            boot_id: boot_id(),
        })
        .unwrap();
}

fn order(local: &Local) -> Vec<IpAddr> {
    local.read(|data| data.reserve_of(&net()).into_iter().map(|claim| claim.ip).collect())
}

#[test]
fn a_container_that_comes_back_finds_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    let spend = |name: Option<&str>| local.spend(&net(), name).unwrap();
    assert_eq!(spend(None), Some(ip(2)));
    start(&local, "e1", 2, "db");
    // It is given back before its endpoint goes: nobody gets it until then.
    assert!(local.rest(&net(), ip(2)).unwrap());
    assert_eq!(order(&local), [ip(3), ip(4)]);
    local.remove_endpoint(&EndpointId::new("e1").unwrap()).unwrap();
    assert_eq!(order(&local), [ip(3), ip(4), ip(2)]);
    let named = local.read(|data| data.next_of(&net(), Some("db"), u64::MAX));
    assert_eq!(named.map(|claim| claim.ip), Some(ip(2)));
    // A restart, by an engine that does not tell whose.
    assert_eq!(spend(None), Some(ip(2)));
    assert_eq!([spend(None), spend(None), spend(None)], [Some(ip(3)), Some(ip(4)), None]);
    local.rest(&net(), ip(2)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    local.rest(&net(), ip(3)).unwrap();
    let next = |name: Option<&str>, later: u64| {
        // Not the clock, which moments may run ahead of.
        let now = local.moment() + later;
        local.read(|data| data.next_of(&net(), name, now)).map(|claim| claim.ip)
    };
    assert_eq!(next(None, 0), Some(ip(3)));
    assert_eq!(next(None, RESTART_MS), Some(ip(2)));
    assert!(local.hold(reserve(&local, 9)).unwrap());
    assert_eq!(next(None, RESTART_MS), Some(ip(2)));
}

#[test]
fn an_address_that_somebody_has_named_is_left_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    assert_eq!(local.take(&net(), ip(2), None).unwrap(), Taken::Yes);
    local.rest(&net(), ip(2)).unwrap();
    for last in [3, 4] {
        assert_eq!(local.spend(&net(), None).unwrap(), Some(ip(last)));
    }
    assert_eq!(local.take(&net(), ip(2), None).unwrap(), Taken::Yes);
    local.rest(&net(), ip(2)).unwrap();
    // Nobody is refused because of it.
    assert_eq!(local.spend(&net(), None).unwrap(), Some(ip(2)));
}

#[test]
fn what_has_been_spent_stays_spent_over_a_restart_and_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    assert_eq!(local.spend(&net(), None).unwrap(), Some(ip(2)));
    assert_eq!(local.take(&net(), ip(3), None).unwrap(), Taken::Yes);
    // Another container of this moment.
    assert_eq!(local.take(&net(), ip(3), None).unwrap(), Taken::InUse(None));
    assert_eq!(local.take(&net(), ip(9), None).unwrap(), Taken::NotHeld);
    drop(local);
    let local = Local::open(dir.path(), 7).unwrap();
    assert_eq!(order(&local), [ip(4)]);
    // The answer may not have reached the engine, which then asks again.
    assert_eq!(local.take(&net(), ip(3), None).unwrap(), Taken::Yes);
    start(&local, "e1", 3, "db");
    assert_eq!(local.take(&net(), ip(3), None).unwrap(), Taken::InUse(Some("db".into())));
}

#[test]
fn after_a_reboot_what_containers_had_comes_first_even_if_their_endpoints_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    for last in [2, 3, 4] {
        assert_eq!(local.spend(&net(), None).unwrap(), Some(ip(last)));
    }
    local.rest(&net(), ip(2)).unwrap();
    start(&local, "e1", 4, "db");
    drop(local);
    std::fs::write(dir.path().join("boot.json"), "\"another boot\"").unwrap();
    std::fs::remove_file(dir.path().join("endpoints/e1.json")).unwrap();
    drop(Local::open(dir.path(), 7).unwrap());
    // The next start is of the same boot, and changes nothing.
    let local = Local::open(dir.path(), 7).unwrap();
    for last in [3, 4, 2] {
        assert_eq!(local.spend(&net(), None).unwrap(), Some(ip(last)));
    }
}

#[test]
fn what_an_engine_chose_goes_with_its_endpoint_unless_another_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    let [one, two] = ["e1", "e2"].map(|id| EndpointId::new(id).unwrap());
    for endpoint in [&one, &two] {
        assert!(local.take_for_endpoint(&net(), ip(2), endpoint).unwrap());
        start(&local, endpoint.as_str(), 2, "db");
        local.update_endpoint(endpoint, |e| e.claimed = vec![(net(), ip(2))]).unwrap();
    }
    local.remove_endpoint(&one).unwrap();
    assert_eq!(order(&local), [ip(3), ip(4)]);
    local.remove_endpoint(&two).unwrap();
    assert_eq!(order(&local), [ip(3), ip(4), ip(2)]);
    assert!(!local.take_for_endpoint(&net(), ip(9), &one).unwrap());
}

#[test]
fn a_start_that_failed_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    local.spend(&net(), None).unwrap();
    assert_eq!(local.rest_left_behind(60_000).unwrap(), Vec::<IpAddr>::new());
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(local.rest_left_behind(1).unwrap(), [ip(2)]);
    assert_eq!(order(&local), [ip(3), ip(4), ip(2)]);
}

#[test]
fn an_address_that_another_host_holds_is_never_spent() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    let other = NodeId::new("b").unwrap();
    assert!(local.mark_lost(&net(), ip(2), Some(&other)).unwrap());
    assert_eq!(order(&local), [ip(3), ip(4)]);
    local.take(&net(), ip(3), None).unwrap();
    start(&local, "e1", 3, "db");
    assert!(local.mark_lost(&net(), ip(3), Some(&other)).unwrap());
    assert!(!local.mark_lost(&net(), ip(3), Some(&other)).unwrap());
    assert_eq!(local.read(|data| data.lost_claims().map(|claim| claim.ip).collect::<Vec<_>>()), [ip(3)]);
    local.rest(&net(), ip(3)).unwrap();
    assert_eq!(order(&local), [ip(4)]);
}

#[test]
fn what_is_given_up_is_given_up_for_good_and_only_if_nobody_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path());
    let claims = local.read(|data| data.reserve_of(&net()));
    local.spend(&net(), None).unwrap();
    assert!(!local.give_up(&claims[0]).unwrap());
    assert!(local.give_up(&claims[1]).unwrap());
    assert_eq!(order(&local), [ip(4)]);
    // With the network all goes, and the store is told.
    local.remove_binding(&network().id, None).unwrap();
    assert!(!local.hold(reserve(&local, 5)).unwrap());
    drop(local);
    let data = Local::open(dir.path(), 7).unwrap().data();
    assert!(data.claims.is_empty(), "{:?}", data.claims);
    assert_eq!(data.releases.keys().collect::<Vec<_>>(), ["10.9.0.0/24=10.9.0.2", "10.9.0.0/24=10.9.0.4"]);
}
