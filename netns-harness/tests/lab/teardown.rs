//! Nothing is left, however a lab ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use netns_harness::{EngineVersion, Lab, Signal, StoreKind, wait_until};

use crate::support::{LONG, Traces, can_run, unique};

#[test]
fn a_panic_takes_the_lab_down() {
    if !can_run() {
        return;
    }
    let (mut traces, mut child) = (None, None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let engines = [EngineVersion::V20_10_24, EngineVersion::V28_5];
        let lab = Lab::builder().hosts(&engines).store(StoreKind::Consul).build().unwrap();
        for host in lab.hosts() {
            host.docker(&["run", "-d", "--name", "sleeper", "busybox", "sleep", "100000"]).unwrap();
        }
        let mut background = lab.host(1).command(&["sleep", "100000"]);
        child = Some(background.stdin(Stdio::null()).spawn().unwrap());
        let found = Traces::of(&lab);
        assert!(found.left().len() > 8, "the traces of a running lab are not seen: {:?}", found.left());
        traces = Some(found);
        panic!("in the middle of a test");
    }));
    assert!(outcome.is_err());
    child.unwrap().wait().unwrap();
    traces.unwrap().assert_none();
}

#[test]
fn a_name_in_use_is_refused() {
    if !can_run() {
        return;
    }
    let name = unique("in-use");
    let lab = Lab::builder().name(&name).hosts(&[EngineVersion::V20_10_24]).build().unwrap();
    let second = Lab::builder().name(&name).hosts(&[EngineVersion::V20_10_24]).build();
    let error = second.unwrap_err().to_string();
    assert!(error.contains(&format!("{name} is in use by process")), "{error}");
    lab.host(1).docker(&["ps"]).unwrap();
}

#[test]
fn a_killed_owner_leaves_no_process_and_its_files_are_reaped() {
    if !can_run() {
        return;
    }
    let name = unique("killed-owner");
    let mut up = up(&name);
    let lab = wait_until("a host of the lab", LONG, || host_is_on(&name)).unwrap();
    let traces = Traces::of(&lab);
    up.kill().unwrap();
    up.wait().unwrap();
    wait_until("the end of all processes", LONG, || {
        let left = traces.left();
        if left.iter().any(|line| line.starts_with("process")) {
            anyhow::bail!("{left:?}")
        }
        Ok(true)
    })
    .unwrap();
    // A lab with the same name takes over where the dead one's files are.
    let lab = Lab::builder().name(&name).hosts(&[EngineVersion::V20_10_24]).build().unwrap();
    drop(lab);
    traces.assert_none();
}

#[test]
fn an_interrupt_takes_the_half_built_lab_down() {
    if !can_run() {
        return;
    }
    let name = unique("interrupted");
    let mut up = up(&name);
    let lab = wait_until("a host of the lab", LONG, || host_is_on(&name)).unwrap();
    let traces = Traces::of(&lab);
    let kill =
        Command::new("kill").args([&format!("-{}", Signal::SIGINT as i32), &up.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(up.wait().unwrap().code(), Some(130));
    traces.assert_none();
}

/// `up` of a lab that takes a while: it is caught in the middle, with its engine not there yet.
fn up(name: &str) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netns-harness"));
    command.args(["up", "--name", name, "--hosts", "3", "--engine", "28.5", "--store", "consul"]);
    command.stderr(Stdio::null()).spawn().unwrap()
}

fn host_is_on(name: &str) -> anyhow::Result<Option<Lab>> {
    let lab = Lab::attach(name)?;
    Ok(lab.hosts().iter().all(netns_harness::Host::is_on).then_some(lab))
}
