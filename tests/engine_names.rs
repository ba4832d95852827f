//! Names across hosts, asked by containers of real engines.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use netns_harness::{EngineVersion, Host, Lab, StoreKind, wait_until};
use nix::sys::signal::Signal;

const DAEMON: &str = env!("CARGO_BIN_EXE_rs-overlay");
/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// What the container's resolver answers, in order of the text; errors of `dig` count as no answer.
fn dig(host: &Host, container: &str, question: &[&str]) -> BTreeSet<String> {
    let argv = [&["dig", "@127.0.0.11", "+short", "+tries=2"], question].concat();
    let said = host.container_netns(container, &argv).unwrap_or_default();
    said.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Waits until a question has that answer.
fn answers(host: &Host, container: &str, question: &[&str], wanted: &[&str]) {
    let what = format!("{question:?} in {container} on {} is {wanted:?}", host.name());
    wait_until(&what, LONG, || {
        let found = dig(host, container, question);
        if found == set(wanted) { Ok(true) } else { Err(anyhow::anyhow!("{found:?}")) }
    })
    .unwrap();
}

fn run(host: &Host, name: &str, network: &str) -> String {
    let id = host.docker(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        network,
        "--network-alias",
        "web",
        "busybox",
        "sleep",
        "3600",
    ]);
    id.unwrap().trim()[..12].to_owned()
}

#[test]
fn containers_find_each_other_across_hosts_and_the_world_as_before() {
    let outside: IpAddr = [198, 51, 100, 7].into();
    let lab = Lab::builder()
        .hosts(&[EngineVersion::V20_10_24, EngineVersion::V28_5])
        .store(StoreKind::Etcd)
        .resolver(&[("www.example.com", outside)])
        .daemon(DAEMON)
        .build()
        .unwrap();
    let (one, two) = (lab.host(1), lab.host(2));
    for (network, more) in [("net", &[][..]), ("inner", &["--internal"])] {
        one.docker(&[&["network", "create", "-d", "rs-overlay"], more, &[network]].concat()).unwrap();
        wait_until("the network on the other host", LONG, || {
            two.docker(&["network", "inspect", network]).map(|_| true)
        })
        .unwrap();
    }
    let sides = [(one, two, "c1", "c2"), (two, one, "c2", "c1")];
    let ids = [run(one, "c1", "net"), run(two, "c2", "net")];
    let ips = [(one, "c1"), (two, "c2")].map(|(host, name)| host.address(name, "net").unwrap().to_string());
    for ((here, _, own, other), (id, ip)) in sides.iter().zip([(&ids[1], &ips[1]), (&ids[0], &ips[0])]) {
        for name in [*other, &other.to_uppercase(), id, &format!("{other}.net")] {
            answers(here, own, &[name], &[ip]);
            answers(here, own, &["+tcp", name], &[ip]);
        }
        answers(here, own, &["web"], &[&ips[0], &ips[1]]);
        answers(here, own, &["-x", ip], &[&format!("{other}.net.")]);
        answers(here, own, &["www.example.com"], &["198.51.100.7"]);
        answers(here, own, &["nobody"], &[]);
        here.in_container(own, &["ping", "-c1", "-W5", other]).unwrap();
        let all = here.container_netns(own, &["dig", "@127.0.0.11", other, "AAAA"]).unwrap();
        assert!(all.contains("NOERROR") && all.contains("ANSWER: 0"), "{all}");
    }

    // A container's first process finds the others already.
    for (here, there, _, other) in sides {
        let ip = there.address(other, "net").unwrap().to_string();
        for _ in 0..3 {
            let said =
                here.docker(&["run", "--rm", "--network", "net", "busybox", "nslookup", "-type=a", other]);
            assert!(said.as_ref().is_ok_and(|said| said.contains(&ip)), "{said:?}");
        }
    }

    // Renamed, connected to a second network, disconnected, removed.
    two.docker(&["rename", "c2", "c3"]).unwrap();
    answers(one, "c1", &["c3"], &[&ips[1]]);
    answers(one, "c1", &["c2"], &[]);
    run(two, "hidden", "inner");
    let hidden = two.address("hidden", "inner").unwrap().to_string();
    answers(one, "c1", &["hidden"], &[]);
    one.docker(&["network", "connect", "inner", "c1"]).unwrap();
    answers(one, "c1", &["hidden"], &[&hidden]);
    answers(one, "c1", &["hidden.inner"], &[&hidden]);
    answers(two, "hidden", &["c1"], &[&one.address("c1", "inner").unwrap().to_string()]);
    one.docker(&["network", "disconnect", "inner", "c1"]).unwrap();
    answers(one, "c1", &["hidden"], &[]);
    answers(one, "c1", &["c3"], &[&ips[1]]);

    // Without the daemon Docker answers what it knows, and afterwards all is back.
    one.daemon_kill(Signal::SIGKILL).unwrap();
    assert_eq!(dig(one, "c1", &["c1"]), set(&[&ips[0]]));
    assert_eq!(dig(one, "c1", &["c3"]), set(&[]));
    one.daemon_start().unwrap();
    answers(one, "c1", &["c3"], &[&ips[1]]);
    two.docker(&["rm", "-f", "c3"]).unwrap();
    answers(one, "c1", &["web"], &[&ips[0]]);
    answers(one, "c1", &["c3"], &[]);
    lab.finish().unwrap();
}
