//! What can go wrong with a host and its cable.

use netns_harness::{EngineVersion, Lab, Signal, wait_until};

use crate::support::{LONG, Traces, can_run, reaches, unique};

const ENGINES: [EngineVersion; 2] = [EngineVersion::V20_10_24, EngineVersion::V28_5];

#[test]
fn a_cut_drops_everything_and_heals() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&ENGINES[..1].repeat(3)).build().unwrap();
    let [one, two, three] = [lab.host(1), lab.host(2), lab.host(3)];
    assert!(reaches(one, two) && reaches(two, three));
    two.cut(true).unwrap();
    assert!(!reaches(one, two) && !reaches(two, three), "a cut host is still reached");
    assert!(one.exec(&["ping", "-c1", "-W1", "192.0.2.3"]).is_ok(), "a cut takes others along");
    assert!(
        two.exec(&["ping", "-c1", "-W1", "192.0.2.254"]).is_err(),
        "a cut host reaches the store's address"
    );
    let link = two.exec(&["cat", "/sys/class/net/eth1/carrier"]).unwrap();
    assert_eq!(link, "1", "the link of a cut host stays up");
    two.set_mtu(1500).unwrap();
    three.power_off().unwrap();
    three.power_on().unwrap();
    assert!(!reaches(one, two) && !reaches(three, two), "what happens to other ports heals a cut");
    two.cut(false).unwrap();
    wait_until("the way to a healed host", LONG, || reaches(one, two)).unwrap();

    let ping = |size: &str| one.exec(&["ping", "-c1", "-W1", "-M", "do", "-s", size, "192.0.2.2"]);
    ping("1472").unwrap();
    two.set_mtu(1400).unwrap();
    assert!(two.exec(&["ip", "link", "show", "eth1"]).unwrap().contains("mtu 1400"));
    // 20 bytes of IPv4 and 8 of ICMP.
    ping("1372").unwrap();
    assert!(ping("1373").is_err(), "a packet passes that is larger than the link's MTU");
    two.set_mtu(1500).unwrap();
    ping("1472").unwrap();
}

#[test]
fn a_power_cut_loses_run_and_keeps_the_disk() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&ENGINES).build().unwrap();
    for host in lab.hosts() {
        host.docker(&["run", "-d", "--name", "sleeper", "-v", "vol:/vol", "busybox", "sleep", "100000"])
            .unwrap();
        host.in_container("sleeper", &["touch", "/vol/kept"]).unwrap();
        host.exec(&["touch", "/run/lost", "/var/lib/rs-overlay/kept"]).unwrap();
        let boot = host.exec(&["cat", "/proc/sys/kernel/random/boot_id"]).unwrap();
        host.power_off().unwrap();
        assert!(!host.is_on() && !host.engine_running());
        let error = host.docker(&["ps"]).unwrap_err().to_string();
        assert!(error.contains("is off"), "{error}");
        host.power_off().unwrap();

        host.power_on().unwrap();
        assert!(host.power_on().is_err(), "a host that is on is switched on again");
        assert!(host.exec(&["test", "-e", "/run/lost"]).is_err());
        host.exec(&["test", "-e", "/var/lib/rs-overlay/kept"]).unwrap();
        assert_ne!(host.exec(&["cat", "/proc/sys/kernel/random/boot_id"]).unwrap(), boot);
        let state = host.docker(&["inspect", "-f", "{{.State.Running}}", "sleeper"]).unwrap();
        assert_eq!(state, "false", "a container without a restart policy survived on {}", host.name());
        host.docker(&["start", "sleeper"]).unwrap();
        host.in_container("sleeper", &["test", "-e", "/vol/kept"]).unwrap();
    }
    wait_until("the underlay after the power cut", LONG, || reaches(lab.host(1), lab.host(2))).unwrap();
    let traces = Traces::of(&lab);
    drop(lab);
    traces.assert_none();
}

#[test]
fn engines_end_and_start_again() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&ENGINES).engine_args(&["--live-restore"]).build().unwrap();
    for host in lab.hosts() {
        host.docker(&["run", "-d", "--name", "sleeper", "busybox", "sleep", "100000"]).unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            host.engine_stop(signal).unwrap();
            assert!(!host.engine_running() && host.docker(&["ps"]).is_err());
            host.engine_start().unwrap();
            let running = host.docker(&["inspect", "-f", "{{.State.Running}}", "sleeper"]).unwrap();
            assert_eq!(running, "true", "live restore on {} after {signal}", host.name());
        }
        assert!(host.engine_log().contains("API listen on"), "no log of the engine");
    }
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    if !can_run() {
        return;
    }
    let name = unique("bad-argument");
    let built = Lab::builder().name(&name).hosts(&ENGINES[..1]).engine_args(&["--no-such-option"]).build();
    let error = format!("{:#}", built.unwrap_err());
    assert!(error.contains("dockerd of host1 did not start") && error.contains("no-such-option"), "{error}");
    assert!(!Lab::names().contains(&name), "a lab that failed to start is still there");
}
