//! One network on four hosts with three kinds of engines: what each container finds of all others. The
//! scenes build on one another; `c1` to `c4` are there all the time, and come back with their engine.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use netns_harness::{Host, Lab, Signal, wait_until};

use crate::{
    dns::{address, answers, dig, unknown},
    figures::Figures,
    kit::{SOON, appears, create, remove, says},
};

/// Hosts on which something happens: one of each engine.
const ACTORS: [usize; 3] = [1, 2, 3];
/// For how long a name that lost a holder is answered with TTL 0.
const UNSETTLED: Duration = Duration::from_secs(10);

fn keeper(host: &Host) -> String {
    format!("c{}", host.number())
}

/// All hosts, or all but one, each with its container that asks.
fn askers(lab: &Lab, but: usize) -> impl Iterator<Item = (&Host, String)> {
    lab.hosts().iter().filter(move |host| host.number() != but).map(|host| (host, keeper(host)))
}

fn run(host: &Host, name: &str, options: &[&str]) {
    let line = ["run", "-d", "--name", name, "--net", "shop"];
    host.docker(&[&line[..], options, &["busybox", "sleep", "3600"]].concat())
        .unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
}

fn four(host: &Host, name: &str) -> String {
    address(host.address(name, "shop").unwrap())
}

/// Waits until all hosts but one have this answer; the answer is how long the last one took.
#[track_caller]
fn come(lab: &Lab, but: usize, question: &[&str], expected: &[impl AsRef<str>]) -> Duration {
    let started = Instant::now();
    for (host, asker) in askers(lab, but) {
        answers(host, &asker, question, expected);
    }
    started.elapsed()
}

/// Waits until all hosts but one know no such name.
#[track_caller]
fn gone(lab: &Lab, but: usize, name: &str) -> Duration {
    let started = Instant::now();
    for (host, asker) in askers(lab, but) {
        unknown(host, &asker, &[name]);
    }
    started.elapsed()
}

/// Names, aliases, hostnames and addresses of both families, on all hosts from all hosts.
pub(crate) fn everyone(lab: &Lab) {
    let subnets = ["--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];
    create(lab, 2, "shop", &subnets);
    for host in lab.hosts() {
        let front = format!("front{}", host.number());
        // An engine that ends does not wait for it.
        let quick = ["--restart", "always", "--stop-signal", "SIGKILL"];
        run(host, &keeper(host), &[&["--hostname", &front, "--network-alias", "web"], &quick[..]].concat());
    }
    let found: Vec<(String, String, IpAddr, IpAddr)> = askers(lab, 0)
        .map(|(host, name)| {
            let six = host.address6(&name, "shop").unwrap();
            (name.clone(), format!("front{}", host.number()), host.address(&name, "shop").unwrap(), six)
        })
        .collect();
    for (name, front, v4, v6) in &found {
        for question in [name, front] {
            come(lab, 0, &[question], &[address(*v4)]);
            come(lab, 0, &["AAAA", question], &[address(*v6)]);
        }
        for ip in [v4, v6] {
            come(lab, 0, &["-x", &ip.to_string()], &[format!("PTR {name}.shop.")]);
        }
    }
    let all = |pick: fn(&(String, String, IpAddr, IpAddr)) -> IpAddr| -> Vec<String> {
        found.iter().map(|holder| address(pick(holder))).collect()
    };
    come(lab, 0, &["web"], &all(|holder| holder.2));
    come(lab, 0, &["AAAA", "web.shop"], &all(|holder| holder.3));
}

/// Renames, restarts, stops, disconnects, connects and removals, on each kind of engine.
pub(crate) fn followed(lab: &Lab, figures: &mut Figures) {
    for number in ACTORS {
        let host = lab.host(number);
        let engine = host.engine_version();
        let mut note = |what: &str, took| figures.note(&format!("{what} on {engine}"), took);
        run(host, "cc", &["--network-alias", "kept"]);
        let ip = four(host, "cc");
        note("a name comes", come(lab, number, &["cc"], &[&ip]));
        host.docker(&["rename", "cc", "new"]).unwrap();
        note("a name comes", come(lab, number, &["new"], &[&ip]));
        note("a name leaves", gone(lab, number, "cc"));
        come(lab, number, &["kept"], &[&ip]);
        come(lab, number, &["-x", ip.trim_start_matches("A ")], &["PTR new.shop."]);

        host.docker(&["restart", "-t", "0", "new"]).unwrap();
        note("a name comes", come(lab, number, &["new"], &[four(host, "new")]));
        come(lab, number, &["kept"], &[four(host, "new")]);
        host.docker(&["stop", "-t", "0", "new"]).unwrap();
        note("a name leaves", gone(lab, number, "new"));
        host.docker(&["start", "new"]).unwrap();
        note("a name comes", come(lab, number, &["new"], &[four(host, "new")]));

        host.docker(&["network", "disconnect", "shop", "new"]).unwrap();
        note("a name leaves", gone(lab, number, "kept"));
        host.docker(&["network", "connect", "--alias", "late", "shop", "new"]).unwrap();
        note("a name comes", come(lab, number, &["late"], &[four(host, "new")]));
        gone(lab, number, "kept");
        remove(host, &["new"]);
        note("a name leaves", gone(lab, number, "late"));
    }
}

/// An alias that has just lost one of its holders.
pub(crate) fn unsettled(lab: &Lab) {
    for number in ACTORS {
        let host = lab.host(number);
        let before: Vec<_> = askers(lab, 0).map(|(host, name)| four(host, &name)).collect();
        run(host, "extra", &["--network-alias", "web"]);
        come(lab, 0, &["web"], &[&before[..], &[four(host, "extra")]].concat());
        let began = Instant::now();
        remove(host, &["extra"]);
        come(lab, 0, &["web"], &before);
        for (host, asker) in askers(lab, 0) {
            let said = dig(host, &asker, &["web"]).unwrap();
            let kept = said.ttls.iter().any(|ttl| *ttl > 0);
            assert!(!kept || began.elapsed() >= UNSETTLED, "kept after {:?}: {said:?}", began.elapsed());
        }
    }
}

/// Since when a name is held.
pub(crate) fn since_when(lab: &Lab) {
    let since = |host: &Host, name: &str| -> u64 {
        let program = env!("CARGO_BIN_EXE_rs-overlay");
        let json = host.exec(&[
            program,
            "name",
            "lookup",
            name,
            "--from",
            &keeper(host),
            "--explain",
            "--format",
            "json",
        ]);
        let json: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        let row = &json["holders"][0];
        assert!(row["revision"].as_u64().is_some() && row["record"].is_string(), "{json}");
        row["since"].as_u64().unwrap()
    };
    let actors =
        ACTORS.map(|number| (lab.host(number), format!("early{number}"), format!("renamed{number}")));
    // Times are told in seconds.
    let a_while = || std::thread::sleep(Duration::from_millis(2100));
    for (host, early, _) in &actors {
        run(host, "dd", &["--network-alias", early]);
        come(lab, 0, &[early], &[four(host, "dd")]);
    }
    a_while();
    for (host, _, renamed) in &actors {
        host.docker(&["rename", "dd", renamed]).unwrap();
        come(lab, 0, &[renamed], &[four(host, renamed)]);
    }
    a_while();
    for (host, early, renamed) in &actors {
        let first = since(host, early);
        let second = since(host, renamed);
        assert!(second > first, "{renamed} since {second}, {early} since {first}");
        let ip = host.address(renamed, "shop").unwrap().to_string();
        for (other, _) in askers(lab, host.number()) {
            let told = [early, renamed, &ip].map(|name| since(other, name));
            assert_eq!(told, [first, second, second], "{early}, {renamed}, {ip} on {}", other.name());
        }
        let late = format!("late{}", host.number());
        host.docker(&["network", "disconnect", "shop", renamed]).unwrap();
        host.docker(&["network", "connect", "--alias", &late, "shop", renamed]).unwrap();
        come(lab, 0, &[&late], &[four(host, renamed)]);
        assert!(since(lab.host(4), &late) > second);
        remove(host, &[renamed]);
    }
}

/// What the user's own options say stays as it is: servers, search domains, links.
pub(crate) fn options(lab: &Lab) {
    for number in ACTORS {
        let (host, keeper) = (lab.host(number), keeper(lab.host(number)));
        let far = lab.host(number % 4 + 1);
        let (far_name, far_ip) = (self::keeper(far), four(far, &self::keeper(far)));
        let link = format!("{keeper}:db");
        run(host, "searcher", &["--dns", "192.0.2.254", "--dns-search", "example", "--link", &link]);
        answers(host, "searcher", &[&far_name], &[&far_ip]);
        answers(host, "searcher", &["outside.example"], &["A 198.51.100.7"]);
        answers(host, "searcher", &["db"], &[four(host, &keeper)]);
        unknown(host, &keeper, &["db"]);
        let ping = |target: &str| {
            let command = format!("ping -4 -c 1 -W 1 {target} || true");
            host.in_container("searcher", &["sh", "-c", &command]).unwrap()
        };
        says(&ping("outside"), &["198.51.100.7"]);
        says(&ping(&far_name), &[far_ip.trim_start_matches("A "), " 0% packet loss"]);

        // A server that is not there: ours are answered all the same, the world is not.
        run(host, "lost", &["--dns", "192.0.2.77"]);
        answers(host, "lost", &[&far_name], &[&far_ip]);
        let said = dig(host, "lost", &["+tries=1", "+time=1", "outside.example"]);
        assert!(!said.as_ref().is_ok_and(|said| !said.answers.is_empty()), "{said:?}");
        remove(host, &["searcher", "lost"]);
    }
}

/// Names are seen by those who share a network. On the host where this one was created the engine's own
/// IPAM hands out its addresses.
pub(crate) fn shared_only(lab: &Lab) {
    lab.host(2).docker(&["network", "create", "-d", "rs-overlay", "back"]).unwrap();
    appears(lab, "back");
    let three = lab.host(3);
    three.docker(&["run", "-d", "--name", "hidden", "--net", "back", "busybox", "sleep", "3600"]).unwrap();
    let ip = three.address("hidden", "back").unwrap();
    for name in ["hidden", "hidden.back"] {
        gone(lab, 0, name);
    }
    for number in ACTORS {
        let (host, keeper) = (lab.host(number), keeper(lab.host(number)));
        unknown(host, &keeper, &["-x", &ip.to_string()]);
        host.docker(&["network", "connect", "back", &keeper]).unwrap();
        for name in ["hidden", "hidden.back"] {
            answers(host, &keeper, &[name], &[address(ip)]);
        }
        answers(host, &keeper, &["-x", &ip.to_string()], &["PTR hidden.back."]);
        answers(three, "hidden", &[&keeper], &[address(host.address(&keeper, "back").unwrap())]);
        host.docker(&["network", "disconnect", "back", &keeper]).unwrap();
        unknown(host, &keeper, &["hidden"]);
        answers(host, &keeper, &["c4"], &[four(lab.host(4), "c4")]);
    }
    remove(three, &["hidden"]);
}

/// A container's first process finds what is on other hosts.
pub(crate) fn first_process(lab: &Lab) {
    let ip = four(lab.host(4), "c4");
    for number in ACTORS {
        let host = lab.host(number);
        for _ in 0..2 {
            let line = ["run", "--rm", "--net", "shop", "busybox", "nslookup", "-type=a", "c4"];
            let said = host.docker(&line).unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
            says(&said, &[ip.trim_start_matches("A ")]);
        }
    }
}

/// Daemons that are away while a container gets another name read it when they are back.
pub(crate) fn after_the_daemon(lab: &Lab, figures: &mut Figures) {
    for number in ACTORS {
        let (host, old) = (lab.host(number), keeper(lab.host(number)));
        let ip = four(host, &old);
        host.daemon_kill(Signal::SIGKILL).unwrap();
        // What the others know stays meanwhile.
        come(lab, number, &[&old], &[&ip]);
        host.docker(&["rename", &old, "meanwhile"]).unwrap();
        host.daemon_start().unwrap();
        figures.note("a name given without the daemon comes after its start", {
            come(lab, number, &["meanwhile"], &[&ip])
        });
        gone(lab, number, &old);
        answers(host, "meanwhile", &["c4"], &[four(lab.host(4), "c4")]);
        host.docker(&["rename", "meanwhile", &old]).unwrap();
        come(lab, 0, &[&old], &[&ip]);
        come(lab, 0, &[&format!("front{number}")], &[&ip]);
    }
}

/// Engines that end, in either way, and come back with their containers.
pub(crate) fn after_the_engine(lab: &Lab, figures: &mut Figures) {
    let ends = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM];
    for (host, signal) in lab.hosts().iter().zip(ends) {
        let (number, name) = (host.number(), keeper(host));
        host.engine_stop(signal).unwrap();
        if signal == Signal::SIGTERM {
            figures.note("a name leaves with its engine", gone(lab, number, &name));
        }
        host.engine_start().unwrap();
        let started = Instant::now();
        let front = format!("front{number}");
        for (other, asker) in askers(lab, number) {
            for question in [&name, &front] {
                let back = wait_until("the name after the engine's restart", SOON, || {
                    let ip = address(host.address(&name, "shop")?);
                    let said = dig(other, &asker, &[question])?;
                    anyhow::ensure!(said.set() == [ip.as_str()].into(), "{ip}: {said:?}");
                    Ok(true)
                });
                back.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
            }
        }
        figures.note(&format!("names are back after {signal} to an engine"), started.elapsed());
        let (other, asker) = askers(lab, number).next().unwrap();
        let back = wait_until("the container to ask again", SOON, || {
            let said = dig(host, &name, &[&asker])?;
            anyhow::ensure!(said.set() == [four(other, &asker).as_str()].into(), "{said:?}");
            Ok(true)
        });
        back.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    }
    let all: Vec<_> = askers(lab, 0).map(|(host, name)| four(host, &name)).collect();
    come(lab, 0, &["web"], &all);
}
