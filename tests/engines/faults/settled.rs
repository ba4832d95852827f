//! What must be true once the faults have stopped: no two live owners of an address, names that answer are those of
//! live containers, every kernel holds what it should, nothing is left of what was removed, and all hosts agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_harness::{Lab, wait_until};

use super::{
    asker::Sandbox,
    scene::{BASE, CONTAINERS, Scene, asking},
    world::{Engine, Listed, Place, expected, found, listed},
};
use crate::kit::{logs, store_keys};

/// Longest wait: what a call has claimed that was broken off is given back after three minutes, at the next sweep,
/// and an endpoint that its engine has forgotten without a word after 40 s at the earliest.
const BOUND: Duration = Duration::from_mins(6);

/// VNI of the network on which hosts ask for each other.
const PROBES: [u64; 1] = [0xff_ffff];

/// From when on a wait is told.
const LONG: Duration = Duration::from_secs(5);

/// Waits until everything holds; gives how long that took. `known` are all names that containers have had.
pub(crate) fn settled(scene: &Scene, known: &BTreeSet<String>) -> Result<Duration> {
    let started = Instant::now();
    let mut last = String::new();
    wait_until("agreement of all hosts", BOUND, || {
        holds(scene, known).map(|()| true).inspect_err(|error| last = format!("{error:#}"))
    })?;
    // What takes longest is worth knowing also where it is within the bound.
    if started.elapsed() > LONG {
        eprintln!("the last to come: {last}");
    }
    Ok(started.elapsed())
}

/// Removes what is not the scene's own, and waits until nothing is left of it anywhere.
pub(crate) fn cleared(scene: &Scene, known: &BTreeSet<String>) -> Result<Duration> {
    let started = Instant::now();
    let lab = &scene.lab;
    for host in lab.hosts() {
        let all = host.docker(&["ps", "-a", "--format", "{{.Names}}"])?;
        let others: Vec<_> = all.lines().filter(|name| !CONTAINERS.contains(name)).collect();
        if !others.is_empty() {
            host.docker(&[&["rm", "-f"], &*others].concat())?;
        }
    }
    for host in lab.hosts() {
        wait_until("the removal of all other networks", BOUND, || -> Result<bool> {
            let engine = Engine::of(host)?;
            for network in engine.networks.iter().filter(|network| *network != BASE) {
                let output = host.docker_output(&["network", "rm", network])?;
                ensure!(
                    output.status.success() || output.stderr.contains("not found"),
                    "{}: {}",
                    host.name(),
                    output.stderr.trim()
                );
            }
            Ok(Engine::of(host)?.networks.iter().all(|network| network == BASE))
        })?;
    }
    wait_until("the end of all that was removed", BOUND, || {
        holds(scene, known)?;
        nothing_else(lab).map(|()| true)
    })?;
    Ok(started.elapsed())
}

/// The same as [`settled`] and [`cleared`], for a test that ends where they fail.
pub(crate) fn assert_settled_and_cleared(scene: &Scene, known: &BTreeSet<String>) {
    let both = settled(scene, known).and_then(|first| Ok((first, cleared(scene, known)?)));
    let (first, second) = both.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(&scene.lab)));
    eprintln!("all hosts agree after {first:.1?}, nothing else is left after {second:.1?}");
}

fn holds(scene: &Scene, known: &BTreeSet<String>) -> Result<()> {
    let lab = &scene.lab;
    let engines = lab.hosts().iter().map(Engine::of).collect::<Result<Vec<_>>>()?;
    let places: Vec<Place> = engines.iter().flat_map(|engine| engine.places.clone()).collect();
    let networks = agreed(lab, &engines)?;
    one_owner_each(&places)?;
    kernels_hold_what_they_should(lab, &places, &networks)?;
    store_holds_what_lives(lab, &places, &networks)?;
    names_are_those_of_the_living(scene, &places, known)?;
    daemons_see_no_difference(lab)
}

/// The networks, which all daemons list alike and all engines have.
fn agreed(lab: &Lab, engines: &[Engine]) -> Result<BTreeSet<Listed>> {
    let first = listed(lab.host(1))?;
    for host in &lab.hosts()[1..] {
        let other = listed(host)?;
        ensure!(other == first, "host1 lists {first:?}, {} lists {other:?}", host.name());
    }
    for network in &first {
        ensure!(network.missing.is_empty(), "{} is missing on {:?}", network.name, network.missing);
    }
    for (host, engine) in lab.hosts().iter().zip(engines) {
        let present: BTreeSet<_> = first
            .iter()
            .filter(|network| network.present.contains(&host.name()))
            .map(|network| network.name.clone())
            .collect();
        ensure!(
            present == engine.networks,
            "the engine of {} has {:?}, the cluster says {present:?}",
            host.name(),
            engine.networks
        );
    }
    Ok(first)
}

fn one_owner_each(places: &[Place]) -> Result<()> {
    let mut owners: BTreeMap<(&str, IpAddr), &Place> = BTreeMap::new();
    for place in places {
        if let Some(other) = owners.insert((&place.network, place.ip), place) {
            anyhow::bail!("{} of {} has two owners: {other:?} and {place:?}", place.ip, place.network);
        }
    }
    Ok(())
}

fn kernels_hold_what_they_should(lab: &Lab, places: &[Place], networks: &BTreeSet<Listed>) -> Result<()> {
    let vnis: BTreeMap<String, u64> =
        networks.iter().map(|network| (network.name.clone(), network.vni)).collect();
    for host in lab.hosts() {
        let (wanted, found) = (expected(lab, host.number(), places, &vnis), found(host, &PROBES.into())?);
        ensure!(found == wanted, "the kernel of {} holds {found:?}, not {wanted:?}", host.name());
    }
    Ok(())
}

fn store_holds_what_lives(lab: &Lab, places: &[Place], networks: &BTreeSet<Listed>) -> Result<()> {
    let keys = store_keys(lab)?;
    let below = |prefix: &str| -> BTreeSet<String> {
        keys.iter().filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect()
    };
    let last = |text: &String| text.rsplit('/').next().unwrap_or_default().to_owned();
    let ids: BTreeSet<String> = networks.iter().map(|network| network.id.clone()).collect();
    let names: BTreeSet<String> = networks.iter().map(|network| network.name.clone()).collect();
    let vnis: BTreeSet<String> = networks.iter().map(|network| network.vni.to_string()).collect();
    for (kind, wanted) in [("networks", &ids), ("names", &names), ("vnis", &vnis)] {
        let found = below(&format!("v1/{kind}/"));
        ensure!(found == *wanted, "the store has {kind} {found:?}, not {wanted:?}");
    }
    let pools = below("v1/pools/");
    ensure!(pools.len() == ids.len(), "{} networks have the pools {pools:?}", ids.len());
    let endpoints: BTreeSet<_> = below("v1/endpoints/").iter().map(last).collect();
    let living: BTreeSet<_> = places.iter().map(|place| place.endpoint.clone()).collect();
    ensure!(endpoints == living, "the store has the endpoints {endpoints:?}, and {living:?} live");
    let claims = below("v1/addresses/");
    for claim in &claims {
        let pool = claim.split('/').next().unwrap_or_default();
        ensure!(pools.contains(pool), "an address of no pool is claimed: {claim}");
    }
    let claimed: BTreeSet<_> = claims.iter().map(last).collect();
    for place in places {
        ensure!(claimed.contains(&place.ip.to_string()), "nobody has claimed the address of {place:?}");
    }
    Ok(())
}

fn names_are_those_of_the_living(scene: &Scene, places: &[Place], known: &BTreeSet<String>) -> Result<()> {
    let living: BTreeMap<&str, IpAddr> = places
        .iter()
        .filter(|place| place.network == BASE)
        .map(|place| (place.container.as_str(), place.ip))
        .collect();
    let names: BTreeSet<&str> = known.iter().map(String::as_str).chain(living.keys().copied()).collect();
    for host in scene.lab.hosts() {
        let sandbox = Sandbox::of(host, &asking(host.number()));
        for name in &names {
            let (answer, _) = sandbox.ask(name)?;
            let wanted: BTreeSet<IpAddr> = living.get(name).copied().into_iter().collect();
            ensure!(answer == wanted, "{name} is {answer:?} on {}, not {wanted:?}", host.name());
        }
    }
    Ok(())
}

/// The daemons' own comparison of kernel, plan and store.
fn daemons_see_no_difference(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        let output = host.run(&[env!("CARGO_BIN_EXE_rs-overlay"), "verify"]).output()?;
        ensure!(
            output.status.success(),
            "verify on {}: {}{}",
            host.name(),
            output.stdout.trim(),
            output.stderr.trim()
        );
    }
    Ok(())
}

/// Only the base network has anything in the kernels and in the store.
fn nothing_else(lab: &Lab) -> Result<()> {
    let networks = listed(lab.host(1))?;
    ensure!(networks.len() == 1, "networks that should be gone: {networks:?}");
    for network in &networks {
        let keys = store_keys(lab)?;
        let kinds = ["v1/departed/", "v1/present/", "v1/endpoints/"];
        let strange: Vec<_> = keys
            .iter()
            .filter(|key| kinds.iter().any(|kind| key.starts_with(kind)) && !key.contains(&network.id))
            .collect();
        ensure!(strange.is_empty(), "left in the store: {strange:?}");
        let departed: Vec<_> = keys.iter().filter(|key| key.starts_with("v1/departed/")).collect();
        ensure!(departed.is_empty(), "departed from a network that all hosts have: {departed:?}");
    }
    // The engines' ends of links are in containers; what waits for one that never came is left over.
    for host in lab.hosts() {
        let links = host.exec(&["ip", "-o", "link", "show"])?;
        let waiting: Vec<_> = links.lines().filter(|line| line.contains(": rs")).collect();
        ensure!(waiting.is_empty(), "links that nobody has taken on {}: {waiting:?}", host.name());
    }
    Ok(())
}
