//! Stores that end, stand still, are late, come and go, take nothing more, or are out of one host's reach.

use std::{
    collections::BTreeSet,
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_harness::{Host, Lab, wait_until};

use super::{
    asker::Sandbox,
    rounds::in_full,
    scene::{BASE, Scene, asking},
    settled::assert_settled_and_cleared,
};
use crate::kit::{OURS, SOON, logs, ping, says, store_values};

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    Paused,
    Slow,
    Flapping,
    /// etcd without space: it is read from and not written to.
    Full,
    /// The second host does not reach it.
    Cut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "a killed store",
            Self::Paused => "a store that stands still",
            Self::Slow => "a store that takes 5 s",
            Self::Flapping => "a store that comes and goes",
            Self::Full => "a full store",
            Self::Cut => "a store that one host does not reach",
        })
    }
}

impl Fault {
    /// Runs something under the fault, which is over afterwards.
    fn during<T>(self, lab: &Lab, run: impl FnOnce() -> T) -> Result<T> {
        let store = lab.store();
        match self {
            Self::Killed => {
                store.kill()?;
                let value = run();
                store.start()?;
                Ok(value)
            }
            Self::Paused => {
                store.pause()?;
                let value = run();
                store.resume()?;
                Ok(value)
            }
            Self::Slow => store.slow(Duration::from_secs(5), run),
            Self::Flapping => store.flap(Duration::from_secs(1), Duration::from_secs(1), run),
            Self::Full => {
                store.restart_with(&["--quota-backend-bytes", "16777216"])?;
                store.fill()?;
                let value = run();
                store.drain()?;
                Ok(value)
            }
            Self::Cut => {
                lab.host(2).cut_store(true)?;
                let value = run();
                lab.host(2).cut_store(false)?;
                Ok(value)
            }
        }
    }
}

/// Goes through the faults: nothing that is there is disturbed, containers start, stop and restart on every host, and
/// what they are called is known everywhere once the store is back.
pub(crate) fn go_wrong(scene: &Scene, faults: &[Fault]) {
    for fault in faults {
        reserves_are_filled(&scene.lab);
        let began = scene.pinger.clock();
        let outcome = under(scene, *fault);
        let complaints = scene.complaints();
        let outcome = outcome.and_then(|known| {
            ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
            Ok(known)
        });
        let known = outcome
            .unwrap_or_else(|error| panic!("{fault}, from {began:.2?} on: {error:#}\n{}", logs(&scene.lab)));
        eprint!("after {fault}: ");
        assert_settled_and_cleared(scene, &known);
    }
}

fn under(scene: &Scene, fault: Fault) -> Result<BTreeSet<String>> {
    let lab = &scene.lab;
    // One that was there before, on each host.
    for host in lab.hosts() {
        run(host, &format!("old{}", host.number()))?;
    }
    fault.during(lab, || -> Result<()> {
        thread::sleep(Duration::from_millis(500));
        thread::scope(|scope| {
            let works: Vec<_> =
                lab.hosts().iter().map(|host| scope.spawn(|| containers_come_and_go(host, fault))).collect();
            names_are_answered(scene)?;
            works.into_iter().try_for_each(|work| work.join().unwrap())
        })?;
        names_are_answered(scene)?;
        // What a slow store was asked for and answered too late is given back minutes later.
        let quick = !matches!(fault, Fault::Flapping | Fault::Slow);
        if quick || (fault == Fault::Slow && in_full()) {
            a_network_is_refused(lab.host(2), fault)?;
        }
        Ok(())
    })??;
    let back = Instant::now();
    let mut known = BTreeSet::new();
    for (host, other) in [(lab.host(1), lab.host(2)), (lab.host(2), lab.host(1))] {
        let sandbox = Sandbox::of(other, &asking(other.number()));
        for name in ["old", "new"] {
            let name = format!("{name}{}", host.number());
            let address = BTreeSet::from([host.address(&name, BASE)?]);
            wait_until(&format!("{name} on {}", other.name()), SOON, || {
                sandbox.ask(&name).map(|(answer, _)| answer == address)
            })?;
            known.insert(name);
        }
    }
    eprintln!("what was done under {fault} is known on the other host {:.2?} after it", back.elapsed());
    for (from, to) in [(1, 2), (2, 1)] {
        let target = lab.host(to).address(&format!("new{to}"), BASE)?;
        ping(lab.host(from), &asking(from), target);
    }
    Ok(known)
}

fn run(host: &Host, name: &str) -> Result<()> {
    host.docker(&["run", "-d", "--name", name, "--net", BASE, "busybox", "sleep", "3600"]).map(drop)
}

/// Everything that needs no new claim: it works, and each step takes no longer than the engine itself needs.
fn containers_come_and_go(host: &Host, fault: Fault) -> Result<()> {
    let (old, new) = (format!("old{}", host.number()), format!("new{}", host.number()));
    let mut slowest = Duration::ZERO;
    let mut timed = |args: &[&str]| -> Result<()> {
        let started = Instant::now();
        host.docker(args)?;
        slowest = slowest.max(started.elapsed());
        Ok(())
    };
    timed(&["run", "-d", "--name", &new, "--net", BASE, "busybox", "sleep", "3600"])?;
    timed(&["restart", "-t", "0", &old])?;
    timed(&["stop", "-t", "0", &old])?;
    timed(&["start", &old])?;
    let named = host.address(&format!("named{}", host.number()), BASE)?;
    for name in [&old, &new] {
        ping(host, name, named);
    }
    timed(&["rm", "-f", &new])?;
    timed(&["run", "-d", "--name", &new, "--net", BASE, "busybox", "sleep", "3600"])?;
    eprintln!("{fault}: the slowest command on {} took {slowest:.2?}", host.name());
    Ok(())
}

/// Local names and those of the other host.
fn names_are_answered(scene: &Scene) -> Result<()> {
    let lab = &scene.lab;
    for host in lab.hosts() {
        let sandbox = Sandbox::of(host, &asking(host.number()));
        for other in lab.hosts() {
            let name = format!("named{}", other.number());
            let address = BTreeSet::from([other.address(&name, BASE)?]);
            for _ in 0..10 {
                let (answer, _) = sandbox.ask(&name)?;
                ensure!(answer == address, "{name} is {answer:?} on {}, not {address:?}", host.name());
            }
        }
    }
    Ok(())
}

fn a_network_is_refused(host: &Host, fault: Fault) -> Result<()> {
    let started = Instant::now();
    let output = host.docker_output(&[&["network", "create"], &OURS[..], &["unlucky"]].concat())?;
    let took = started.elapsed();
    ensure!(!output.status.success(), "a network was made with {fault}");
    eprintln!("{fault}: a network is refused after {took:.2?}: {}", output.stderr.trim());
    says(&output.stderr, &["rs-overlay"]);
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    Ok(())
}

/// Waits until both hosts hold addresses ahead.
fn reserves_are_filled(lab: &Lab) {
    wait_until("addresses claimed ahead by every host", SOON, || -> Result<bool> {
        let holders = store_values(lab, "v1/addresses/")?
            .into_iter()
            .filter(|claim| claim["kind"] == "reserve")
            .map(|claim| claim["node"].to_string())
            .collect::<BTreeSet<_>>();
        ensure!(holders.len() == lab.hosts().len(), "reserves of {holders:?}");
        Ok(true)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
}
