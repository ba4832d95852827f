//! What all tests with engines share: labs, containers, and questions about what is left in the end.

#![allow(dead_code, unused_imports, reason = "not every test needs all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

mod end;
mod traffic;

use std::time::{Duration, Instant};

use netns_harness::{EngineVersion, Host, Lab, LabBuilder, StoreKind, wait_until};

pub(crate) use end::{assert_clean, nothing_left, nothing_left_in_store, store_keys, store_values};
pub(crate) use traffic::{ping, pings, steady_ping, transfer};

/// Longest wait for something that takes a moment on a machine that is not busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What a network is created with where nothing else is being tested.
pub(crate) const OURS: [&str; 4] = ["-d", "rs-overlay", "--ipam-driver", "rs-overlay"];

/// Whether the test can run. Without root it fails, unless `ALLOW_SKIP=1` says that this is known.
pub(crate) fn allowed() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("ALLOW_SKIP").is_ok_and(|value| value == "1"),
        "engines need root: run as root, or with ALLOW_SKIP=1 to pass this test over"
    );
    eprintln!("skipped: engines need root");
    false
}

/// A lab to be built, with the daemon of this build.
pub(crate) fn builder(engines: &[EngineVersion], store: StoreKind) -> LabBuilder {
    Lab::builder().hosts(engines).store(store).daemon(env!("CARGO_BIN_EXE_rs-overlay"))
}

/// A lab of one daemon per engine.
pub(crate) fn lab(engines: &[EngineVersion], store: StoreKind) -> Lab {
    builder(engines, store).build().unwrap()
}

/// Creates a network on `host` with our IPAM and `options`, and waits until every host has it. The answer
/// is how long that took after the command had returned.
pub(crate) fn create(lab: &Lab, host: usize, name: &str, options: &[&str]) -> Duration {
    lab.host(host).docker(&[&["network", "create"], &OURS[..], options, &[name]].concat()).unwrap();
    appears(lab, name)
}

/// Waits until every host has a network of this name.
pub(crate) fn appears(lab: &Lab, name: &str) -> Duration {
    let started = Instant::now();
    for host in lab.hosts() {
        wait_until(&format!("network {name} on {}", host.name()), SOON, || has_network(host, name))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
    started.elapsed()
}

/// Waits until no host has a network of this name.
pub(crate) fn vanishes(lab: &Lab, name: &str) -> Duration {
    let started = Instant::now();
    for host in lab.hosts() {
        wait_until(&format!("the end of network {name} on {}", host.name()), SOON, || {
            has_network(host, name).map(|has| !has)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
    started.elapsed()
}

/// Whether the engine of `host` has a network of this name.
pub(crate) fn has_network(host: &Host, name: &str) -> anyhow::Result<bool> {
    Ok(host.docker(&["network", "ls", "--format", "{{.Name}}"])?.lines().any(|line| line == name))
}

/// Starts a container that does nothing but wait.
pub(crate) fn run(host: &Host, name: &str, network: &str, options: &[&str]) {
    try_run(host, name, network, options).unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
}

/// The same, which may fail.
pub(crate) fn try_run(host: &Host, name: &str, network: &str, options: &[&str]) -> anyhow::Result<String> {
    let line = ["run", "-d", "--name", name, "--hostname", name, "--net", network];
    host.docker(&[&line[..], options, &["busybox", "sleep", "3600"]].concat())
}

/// Removes containers at once.
pub(crate) fn remove(host: &Host, names: &[&str]) {
    host.docker(&[&["rm", "-f"], names].concat()).unwrap();
}

/// A command that `docker` must refuse: what the user reads.
pub(crate) fn refused(host: &Host, args: &[&str]) -> String {
    let output = host.docker_output(args).unwrap();
    assert!(!output.status.success(), "docker {} on {} was not refused", args.join(" "), host.name());
    eprintln!("docker {}: {}", args.join(" "), output.stderr.trim());
    output.stderr
}

/// Asserts that a text has all these parts.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// The daemons' logs, for a test that fails.
pub(crate) fn logs(lab: &Lab) -> String {
    let one = |host: &Host| format!("--- daemon of {}\n{}\n", host.name(), host.daemon_log());
    lab.hosts().iter().map(one).collect()
}
