//! A host that is cut off, stands still, loses its engine or its power, and comes back, while two others talk.

use std::{
    collections::BTreeSet,
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_harness::{Host, Signal, wait_until};

use super::{
    scene::{BASE, Scene},
    settled::assert_settled_and_cleared,
};
use crate::kit::{SOON, logs};

/// What happens to the last host, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut(u64),
    Frozen(u64),
    Suspended(u64),
    DaemonStopped(u64),
    EngineKilled,
    EngineRestarted,
    PowerCut(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(time) => write!(f, "a cut of {time} s"),
            Self::Frozen(time) => write!(f, "a standstill of all its programs for {time} s"),
            Self::Suspended(time) => write!(f, "a standstill of the whole machine for {time} s"),
            Self::DaemonStopped(time) => write!(f, "{time} s with the daemon stopped (SIGSTOP)"),
            Self::EngineKilled => f.write_str("kill -9 of its engine"),
            Self::EngineRestarted => f.write_str("a restart of its engine"),
            Self::PowerCut(time) => write!(f, "{time} s without power"),
        }
    }
}

impl Fault {
    fn happen(self, host: &Host, meanwhile: &dyn Fn() -> Result<()>) -> Result<()> {
        let wait = |seconds: u64| -> Result<()> {
            let started = Instant::now();
            thread::sleep(Duration::from_secs(1));
            meanwhile()?;
            thread::sleep(Duration::from_secs(seconds).saturating_sub(started.elapsed()));
            Ok(())
        };
        match self {
            Self::Cut(time) => {
                host.cut(true)?;
                wait(time)?;
                host.cut(false)
            }
            Self::Frozen(time) => {
                host.freeze()?;
                wait(time)?;
                host.thaw()
            }
            Self::Suspended(time) => {
                host.suspend()?;
                wait(time)?;
                host.resume()
            }
            Self::DaemonStopped(time) => {
                host.daemon_pause(true)?;
                wait(time)?;
                host.daemon_pause(false)
            }
            Self::EngineKilled => {
                host.engine_stop(Signal::SIGKILL)?;
                wait(1)?;
                host.engine_start()
            }
            Self::EngineRestarted => {
                host.engine_stop(Signal::SIGTERM)?;
                wait(1)?;
                host.engine_start()
            }
            Self::PowerCut(time) => {
                host.power_off()?;
                wait(time)?;
                host.power_on()
            }
        }
    }
}

/// Goes through the faults: the other hosts do not notice, and in the end all agree.
pub(crate) fn go_wrong(scene: &Scene, faults: &[Fault]) {
    for (number, fault) in faults.iter().enumerate() {
        let began = scene.pinger.clock();
        let outcome = one(scene, *fault, number);
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

/// A container comes and one goes on the other hosts while one is away; gives the names that were used.
fn one(scene: &Scene, fault: Fault, number: usize) -> Result<BTreeSet<String>> {
    let lab = &scene.lab;
    let victim = lab.hosts().len();
    let name = |what: &str, host: usize| format!("{what}{number}h{host}");
    let others = || lab.hosts().iter().take(victim - 1);
    let mut known = BTreeSet::new();
    for host in lab.hosts() {
        run(host, &name("goes", host.number()))?;
        known.extend(["goes", "comes"].map(|what| name(what, host.number())));
    }
    fault.happen(lab.host(victim), &|| {
        for host in others() {
            host.docker(&["rm", "-f", &name("goes", host.number())])?;
            run(host, &name("comes", host.number()))?;
        }
        Ok(())
    })?;
    // What a user would do next: those that ended with their engine or host are started again.
    let host = lab.host(victim);
    let all = host.docker(&["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"])?;
    for ended in all.lines() {
        wait_until(&format!("a start of {ended}"), SOON, || host.docker(&["start", ended]).map(|_| true))?;
    }
    wait_until("a new container", SOON, || {
        host.docker_output(&["rm", "-f", &name("comes", victim)])?;
        run(host, &name("comes", victim)).map(|()| true)
    })?;
    Ok(known)
}

fn run(host: &Host, name: &str) -> Result<()> {
    host.docker(&["run", "-d", "--name", name, "--net", BASE, "busybox", "sleep", "3600"]).map(drop)
}
