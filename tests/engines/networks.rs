//! Networks that are created, left, joined again, created twice at once and removed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use netns_harness::{Host, Lab, Signal, wait_until};

use crate::kit::{
    OURS, SOON, appears, has_network, logs, nothing_left_in_store, ping, refused, remove, run, says, try_run,
    vanishes,
};

/// What makes up a network, and must be the same everywhere; with other ids on other engines.
const SAME: &str = "{{.Driver}} {{.Internal}} {{.Attachable}} {{.EnableIPv6}} {{json .Labels}} {{json .Options}} \
                    {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}";

fn cli(host: &Host, args: &[&str]) -> anyhow::Result<String> {
    host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay")], args].concat())
}

fn rows(host: &Host) -> serde_json::Value {
    serde_json::from_str(&cli(host, &["network", "ls", "--format", "json"]).unwrap()).unwrap()
}

/// The cluster's record of the only network of this name.
fn row(host: &Host, name: &str) -> serde_json::Value {
    let rows = rows(host);
    let mut found = rows.as_array().unwrap().iter().filter(|row| row["name"] == name);
    let row = found.next().unwrap_or_else(|| panic!("no network {name} in {rows}")).clone();
    assert!(found.next().is_none(), "two networks {name} in {rows}");
    row
}

fn inspect(host: &Host, name: &str, format: &str) -> anyhow::Result<String> {
    host.docker(&["network", "inspect", "-f", format, name])
}

/// Waits until the engine of `host` has the cluster's network of this name: its subnet, under its id.
fn has_the_clusters(lab: &Lab, host: &Host, name: &str) {
    let looked = wait_until(&format!("the cluster's {name} on {}", host.name()), SOON, || {
        let rows = rows(host);
        let rows: Vec<_> = rows.as_array().unwrap().iter().filter(|row| row["name"] == name).collect();
        let [row] = rows[..] else { anyhow::bail!("{} networks {name}", rows.len()) };
        let present = row["present"].as_array().unwrap().iter().any(|host_name| *host_name == host.name());
        let subnet = inspect(host, name, "{{range .IPAM.Config}}{{.Subnet}} {{end}}")?;
        let id = inspect(host, name, "{{.Id}} {{index .IPAM.Options \"rs-overlay.network\"}}")?;
        anyhow::ensure!(present, "{} is not among {}", host.name(), row["present"]);
        anyhow::ensure!(subnet.split_whitespace().next() == row["subnets"][0].as_str(), "{subnet}: {row}");
        // One that was joined by its subnet bears no id, and is known by the host's own state.
        anyhow::ensure!(
            id.contains(row["id"].as_str().unwrap()) || id.ends_with("<no value>"),
            "{id}: {row}"
        );
        Ok(true)
    });
    looked.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
}

/// `rs-overlay network create` and `rm`.
pub(crate) fn ordered(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let start = Instant::now();
    let options = ["--subnet", "10.71.0.0/24", "--gateway", "10.71.0.9", "--label", "of=us", "--internal"];
    let id =
        cli(one, &[&["network", "create"][..], &options, &["--attachable", "ordered"]].concat()).unwrap();
    eprintln!("network create took {:?} for {} hosts", start.elapsed(), lab.hosts().len());
    assert_eq!(id, inspect(one, "ordered", "{{.Id}}").unwrap());
    let first = inspect(one, "ordered", SAME).unwrap();
    says(&first, &["true true false", "\"of\":\"us\"", "10.71.0.0/24 10.71.0.9"]);
    for host in lab.hosts() {
        assert_eq!(inspect(host, "ordered", SAME).unwrap(), first, "on {}", host.name());
    }
    let row = row(two, "ordered");
    assert_eq!(row["present"], serde_json::json!(["host1", "host2", "host3"]), "{row}");
    assert_eq!((&row["missing"], &row["departed"]), (&serde_json::json!([]), &serde_json::json!([])));
    let said = cli(two, &["network", "create", "ordered"]).unwrap_err().to_string();
    says(&said, &["ordered exists already"]);
    let said = cli(two, &["network", "create", "--subnet", "10.71.0.0/25", "other"]).unwrap_err().to_string();
    says(&said, &["10.71.0.0/24", "ordered"]);
    run(two, "c2", "ordered", &[]);
    let said = cli(two, &["network", "rm", "ordered"]).unwrap_err().to_string();
    says(&said, &["in use"]);
    says(
        &cli(one, &["network", "rm", "ordered"]).unwrap(),
        &["ordered: left this host alone, lives on host2"],
    );
    let said = cli(one, &["network", "rm", "ordered"]).unwrap_err().to_string();
    says(&said, &["ordered is not on this host", "host2"]);
    let again = cli(one, &["network", "create", "ordered"]).unwrap();
    assert_eq!(again, id);
    has_the_clusters(lab, one, "ordered");
    remove(two, &["c2"]);
    says(&cli(one, &["network", "rm", "ordered"]).unwrap(), &["ordered: gone everywhere"]);
    for host in lab.hosts() {
        assert!(!has_network(host, "ordered").unwrap(), "on {}", host.name());
    }
}

/// Waits until everybody can see that the first host has removed network `left`.
fn is_marked(host: &Host) {
    let marked = wait_until("the mark of a host that left", SOON, || {
        anyhow::Ok(row(host, "left")["departed"] == serde_json::json!(["host1"]))
    });
    marked.unwrap();
}

/// A container that is started at once on a new network waits for the name no longer than people notice.
pub(crate) fn created_and_used_at_once(lab: &Lab) {
    let host = lab.host(1);
    let run = |name: &str, network: &str| {
        let start = Instant::now();
        run(host, name, network, &[]);
        start.elapsed()
    };
    let mut took = Vec::new();
    for round in 0..4 {
        let network = format!("quick{round}");
        host.docker(&[&["network", "create"], &OURS[..], &[network.as_str()]].concat()).unwrap();
        took.push((run("new", &network), run("known", &network)));
        remove(host, &["new", "known"]);
        host.docker(&["network", "rm", &network]).unwrap();
    }
    eprintln!("docker run on a new network and on a known one: {took:?}");
    assert!(!host.daemon_log().contains("name is not told yet"), "{}", host.daemon_log());
    (0..4).for_each(|round| {
        vanishes(lab, &format!("quick{round}"));
    });
}

/// A network is removed on a host while others use it, and comes back there in every way there is.
pub(crate) fn left_and_joined_again(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let created = ["-d", "rs-overlay", "--subnet", "10.72.0.0/24", "--label", "of=us"];
    for ipam in [&["--ipam-driver", "rs-overlay"][..], &[]] {
        one.docker(&[&["network", "create"], &created[..], ipam, &["left"]].concat()).unwrap();
        appears(lab, "left");
        let id = row(two, "left")["id"].clone();
        run(two, "c2", "left", &[]);
        for again in [
            &["-d", "rs-overlay", "--ipam-driver", "rs-overlay"][..],
            &["-d", "rs-overlay"],
            &["-d", "rs-overlay", "--ipam-driver", "rs-overlay", "--subnet", "10.72.0.0/24"],
            &["-d", "rs-overlay", "--subnet", "10.72.0.0/24"],
        ] {
            one.docker(&["network", "rm", "left"]).unwrap();
            is_marked(two);
            wait_until("a word about it in the status", SOON, || {
                let said = cli(one, &["status"])?;
                anyhow::Ok(said.contains("network left was removed here while containers on host2"))
            })
            .unwrap();
            one.docker(&[&["network", "create"], again, &["left"]].concat()).unwrap();
            // At once: the container comes up in the cluster's network, or is refused with a reason.
            let start = Instant::now();
            let mut refusals = 0;
            wait_until("a container in the network that came back", SOON, || {
                match try_run(one, "c1", "left", &[]) {
                    Ok(_) => anyhow::Ok(true),
                    Err(error) => {
                        let said = format!("{error:#}");
                        let known =
                            ["being taken over here", "not found", "No such network", "does not know"];
                        assert!(known.iter().any(|part| said.contains(part)), "{said}");
                        eprintln!("{}", said.lines().last().unwrap_or_default());
                        refusals += 1;
                        one.docker_output(&["rm", "-f", "c1"])?;
                        Ok(false)
                    }
                }
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
            eprintln!("{again:?}: container after {:?}, {refusals} refusals", start.elapsed());
            has_the_clusters(lab, one, "left");
            assert_eq!(row(one, "left")["id"], id);
            says(&inspect(one, "left", SAME).unwrap(), &["10.72.0.0/24"]);
            ping(one, "c1", two.address("c2", "left").unwrap());
            assert!(!cli(one, &["status"]).unwrap().contains("Elsewhere"), "{}", one.daemon_log());
            remove(one, &["c1"]);
        }
        // Left on one host, it goes everywhere when the last container goes.
        one.docker(&["network", "rm", "left"]).unwrap();
        is_marked(two);
        remove(two, &["c2"]);
        vanishes(lab, "left");
    }
    // The subnet of a network that was left, under another name, is not that network.
    one.docker(&[&["network", "create"], &created[..], &["left"]].concat()).unwrap();
    appears(lab, "left");
    run(two, "c2", "left", &[]);
    one.docker(&["network", "rm", "left"]).unwrap();
    is_marked(two);
    one.docker(&[&["network", "create"], &OURS[..], &["--subnet", "10.72.0.0/24", "other"]].concat())
        .unwrap();
    wait_until("the end of a network with another's subnet", SOON, || {
        anyhow::Ok(
            !has_network(one, "other")? && row(two, "left")["departed"] == serde_json::json!(["host1"]),
        )
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    remove(two, &["c2"]);
    vanishes(lab, "left");
}

/// What a host has missed while its daemon was away, or while it was cut off, is made up for.
pub(crate) fn away_and_back(lab: &Lab) {
    let (one, three) = (lab.host(1), lab.host(3));
    let away: [(&str, &dyn Fn(bool)); 2] = [
        ("its daemon was gone", &|gone| {
            if gone {
                three.daemon_kill(Signal::SIGTERM).unwrap();
            } else {
                three.daemon_start().unwrap();
            }
        }),
        ("it was cut off", &|cut| three.cut(cut).unwrap()),
    ];
    for (what, leave) in away {
        one.docker(&[&["network", "create"], &OURS[..], &["old"]].concat()).unwrap();
        appears(lab, "old");
        leave(true);
        let said = cli(one, &["network", "create", "--wait", "1", "fresh"]);
        eprintln!("while {what}: {said:?}");
        says(&said.unwrap_err().to_string(), &["fresh", "host3"]);
        one.docker(&["network", "rm", "old"]).unwrap();
        assert!(has_network(three, "old").unwrap() && !has_network(three, "fresh").unwrap());
        leave(false);
        let start = Instant::now();
        appears(lab, "fresh");
        vanishes(lab, "old");
        eprintln!("{what}: made up for after {:?}", start.elapsed());
        says(&cli(one, &["network", "rm", "fresh"]).unwrap(), &["fresh: gone everywhere"]);
    }
}

/// A host that has never been there gets all networks.
pub(crate) fn new_host(lab: &Lab) {
    let (one, three) = (lab.host(1), lab.host(3));
    three.daemon_kill(Signal::SIGTERM).unwrap();
    three.exec(&["sh", "-c", "rm -rf /var/lib/rs-overlay/*"]).unwrap();
    for name in ["first", "second"] {
        one.docker(&[&["network", "create"], &OURS[..], &[name]].concat()).unwrap();
    }
    three.daemon_start().unwrap();
    let start = Instant::now();
    for name in ["first", "second"] {
        appears(lab, name);
        has_the_clusters(lab, three, name);
    }
    eprintln!("a new host had all networks after {:?}", start.elapsed());
    for name in ["first", "second"] {
        one.docker(&["network", "rm", name]).unwrap();
        vanishes(lab, name);
    }
}

/// A host whose engine does not answer its daemon takes part in networks that it is told of by hand.
pub(crate) fn by_hand(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    two.daemon_kill(Signal::SIGTERM).unwrap();
    two.daemon_start_with(&["--docker-host", "/run/nobody.sock", "--log-level", "debug"]).unwrap();
    one.docker(&[&["network", "create"], &OURS[..], &["hand"]].concat()).unwrap();
    run(one, "c1", "hand", &[]);
    let status = wait_until("the word that the engine does not answer", SOON, || {
        let said = cli(two, &["status"])?;
        anyhow::Ok(said.contains("NOT reachable") && said.contains("only by hand"))
    });
    status.unwrap();
    assert_eq!(row(one, "hand")["missing"].as_array().unwrap().len(), 1, "{}", row(one, "hand"));
    let subnet = row(one, "hand")["subnets"][0].as_str().unwrap().to_owned();
    let join = ["--ipam-opt", "rs-overlay.network=hand", "hand"];
    let said = refused(two, &[&["network", "create"], &OURS[..], &join].concat());
    says(&said, &["hand has to be joined with its subnet", &subnet]);
    two.docker(&[&["network", "create"], &OURS[..], &["--subnet", &subnet], &join].concat()).unwrap();
    run(two, "c2", "hand", &[]);
    ping(one, "c1", two.address("c2", "hand").unwrap());
    ping(two, "c2", one.address("c1", "hand").unwrap());
    // Its own networks serve as well; only their names are not told.
    two.docker(&[&["network", "create"], &OURS[..], &["unnamed"]].concat()).unwrap();
    run(two, "c4", "unnamed", &[]);
    remove(one, &["c1"]);
    remove(two, &["c2", "c4"]);
    two.docker(&["network", "rm", "unnamed", "hand"]).unwrap();
    two.daemon_kill(Signal::SIGTERM).unwrap();
    two.daemon_start().unwrap();
    one.docker_output(&["network", "rm", "hand"]).unwrap();
    vanishes(lab, "hand");
}

/// Two hosts create one name at the same moment: one network in the end, or one clear error.
pub(crate) fn created_twice_at_once(lab: &Lab, times: usize) {
    let kinds = [&OURS[..], &["-d", "rs-overlay"]];
    for (kind, round) in kinds.iter().flat_map(|kind| (0..times).map(move |round| (kind, round))) {
        let name = format!("twice{round}");
        let answers: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = lab
                .hosts()
                .iter()
                .map(|host| {
                    let line = [&["network", "create"], *kind, &[name.as_str()]].concat();
                    scope.spawn(move || host.docker_output(&line).unwrap())
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let refused: Vec<_> = answers.iter().filter(|answer| !answer.status.success()).collect();
        assert!(refused.len() < answers.len(), "both were refused: {refused:?}");
        for answer in &refused {
            eprintln!("round {round}: {}", answer.stderr.trim());
            assert!(answer.stderr.contains("rs-overlay: ") || answer.stderr.contains("already exists"));
        }
        for host in lab.hosts() {
            has_the_clusters(lab, host, &name);
        }
        let (one, two) = (lab.host(1), lab.host(2));
        if round == 0 {
            run(one, "c1", &name, &[]);
            run(two, "c2", &name, &[]);
            ping(one, "c1", two.address("c2", &name).unwrap());
            remove(one, &["c1"]);
            remove(two, &["c2"]);
        }
        lab.host(1 + round % 2).docker(&["network", "rm", &name]).unwrap();
        vanishes(lab, &name);
    }
}

/// One name and one subnet, removed and created again from alternating hosts, with a container on each.
pub(crate) fn again_and_again(lab: &Lab, times: usize) {
    let line = [&["network", "create"], &OURS[..], &["--subnet", "10.73.0.0/24", "again"]].concat();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..times {
        let (here, there) = (lab.host(1 + round % 2), lab.host(2 - round % 2));
        let created = here.docker(&line);
        created.unwrap_or_else(|error| panic!("round {round}: {error:#}\n{}", logs(lab)));
        slowest = slowest.max(appears(lab, "again"));
        let addresses: Vec<IpAddr> = thread::scope(|scope| {
            let all = lab.hosts().iter().map(|host| {
                scope.spawn(move || {
                    run(host, "cc", "again", &[]);
                    host.address("cc", "again").unwrap()
                })
            });
            let all: Vec<_> = all.collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_ne!(addresses[0], addresses[1], "round {round}");
        if round % 10 == 0 {
            ping(lab.host(1), "cc", addresses[1]);
        }
        thread::scope(|scope| {
            for host in lab.hosts() {
                scope.spawn(move || remove(host, &["cc"]));
            }
        });
        // The other host may still be giving its container's address back: then the network lives there.
        there.docker(&["network", "rm", "again"]).unwrap();
        vanishes(lab, "again");
    }
    eprintln!("{times} rounds in {:?}, there on both hosts after {slowest:?} at most", start.elapsed());
    let left = wait_until("an empty store", SOON, || nothing_left_in_store(lab).map(|()| true));
    left.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
}
