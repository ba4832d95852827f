//! The demo, as `make demo` runs it.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use netns_harness::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DAEMON: &str = env!("CARGO_BIN_EXE_rs-overlay");

/// The harness's program, which cargo builds beside the daemon for tests of the whole workspace.
fn harness() -> PathBuf {
    let path = Path::new(DAEMON).with_file_name("netns-harness");
    assert!(path.is_file(), "no {}: run `cargo build --workspace`", path.display());
    path
}

fn demo(name: &str) -> Command {
    let mut command = Command::new(harness());
    command.args(["demo", "--daemon", DAEMON, "--name", name]);
    command
}

/// A demo that has begun its first command, and is ended when it is dropped.
struct Running(Child);

impl Running {
    fn start(name: &str) -> Self {
        let child = demo(name).stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Self(child);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().starts_with("host1$ ")),
            "the demo ended before its first command"
        );
        // Nobody reads the rest, which is no reason for the demo to end otherwise than it does on a terminal.
        running
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_shown(name: &str) {
    let output = demo(name).output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    for part in [
        "host1$ docker network create -d rs-overlay --ipam-driver rs-overlay blue\n",
        "host2$ docker exec web2 ping",
        "5 packets transmitted, 5 packets received, 0% packet loss",
        "VTEP 192.0.2.2",
        "etcd://192.0.2.254:2379",
        "All 2 pings and 2 downloads arrived whole.",
        "Everything is torn down",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}\n{errors}");
    }
    assert!(!said.contains('\x1b'), "colours without a terminal: {said}");
    assert!(!Lab::names().contains(&name.to_owned()), "lab {name} is still there");
}

#[test]
fn an_interrupted_demo_takes_everything_down() {
    let name = "demo-interrupted";
    let mut running = Running::start(name);
    assert_eq!(running.end(Signal::SIGINT), Some(130));
    assert!(!Lab::names().contains(&name.to_owned()), "lab {name} is still there");
}

#[test]
fn a_demo_shows_a_whole_network_also_after_one_that_was_killed() {
    let name = "demo-killed";
    Running::start(name).end(Signal::SIGKILL);
    assert_shown(name);
}
