//! The command line over a lab's whole life.

use std::process::{Command, Output};

use netns_harness::Lab;
use serde_json::Value;

use crate::support::{Traces, can_run, unique};

fn name() -> String {
    unique("command-line")
}

fn harness(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netns-harness"))
        .args(args)
        .env("NETNS_HARNESS_NAME", name())
        .output()
        .unwrap()
}

fn said(args: &[&str]) -> String {
    let output = harness(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Takes the lab down when an assertion fails.
struct Down;

impl Drop for Down {
    fn drop(&mut self) {
        harness(&["down"]);
    }
}

#[test]
fn a_lab_outlives_up_and_ends_with_down() {
    if !can_run() {
        return;
    }
    let _down = Down;
    said(&["up", "--engine", "20.10", "--engine", "28.5", "--store", "etcd"]);
    assert!(said(&["ls"]).lines().any(|line| line.starts_with(&name()) && line.contains("background")));
    said(&["exec", "2", "docker", "run", "-d", "--name", "sleeper", "busybox", "sleep", "100000"]);
    assert_eq!(harness(&["exec", "1", "sh", "-c", "exit 7"]).status.code(), Some(7));

    let status: Value = serde_json::from_str(&said(&["status", "--format", "json"])).unwrap();
    assert_eq!(status["store_running"], true);
    assert_eq!(status["hosts"][1]["containers"], serde_json::json!(["sleeper"]));
    said(&["power", "1", "off"]);
    let status = said(&["status"]);
    let powers: Vec<&str> =
        status.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(powers, ["off", "on"], "{status}");
    said(&["power", "1", "on"]);
    said(&["link", "1", "cut"]);
    assert!(!harness(&["exec", "1", "ping", "-c1", "-W1", "192.0.2.2"]).status.success());
    said(&["link", "1", "heal"]);
    said(&["fault", "host", "1", "suspend"]);
    assert!(!harness(&["exec", "2", "ping", "-c1", "-W1", "192.0.2.1"]).status.success());
    said(&["fault", "host", "1", "resume"]);
    for what in ["pause", "resume", "wipe", "kill", "start", "fill", "drain"] {
        said(&["fault", "store", what]);
    }
    said(&["fault", "store", "slow", "--answers", "1", "--for", "2"]);
    said(&["fault", "store", "flap", "--off", "1", "--on", "1", "--for", "2"]);
    said(&["fault", "engine", "1", "restart"]);
    assert!(said(&["logs", "1", "engine"]).contains("API listen on"));

    let error = harness(&["exec", "3", "true"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("hosts are 1 to 2"), "{error:?}");
    let again = harness(&["up"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
    let traces = Traces::of(&Lab::attach(&name()).unwrap());
    said(&["down"]);
    traces.assert_none();
    assert!(String::from_utf8_lossy(&harness(&["status"]).stderr).contains("no lab"));
}
