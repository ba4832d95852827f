//! What containers on two hosts find of each other. The scenes build on one another.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use netns_harness::{Host, Lab, Signal};

use crate::{
    dns::{address, answers, dig, nothing, unknown},
    kit::{create, remove, says, vanishes},
};

/// Longest time after which what comes or goes on one host shows on the other, on a busy machine.
const LONG: Duration = Duration::from_secs(10);

/// Starts a container without a hostname of its own, which would be one more name.
fn run(host: &Host, name: &str, network: &str, aliases: &[&str]) {
    let mut line = vec!["run", "-d", "--name", name, "--net", network];
    aliases.iter().for_each(|alias| line.extend(["--network-alias", alias]));
    line.extend(["busybox", "sleep", "3600"]);
    host.docker(&line).unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
}

fn short_id(host: &Host, name: &str) -> String {
    host.docker(&["inspect", "-f", "{{.Id}}", name]).unwrap()[..12].to_owned()
}

fn in_shop(host: &Host, name: &str) -> String {
    address(host.address(name, "shop").unwrap())
}

fn within(what: &str, took: Duration) {
    eprintln!("{what}: {took:?}");
    assert!(took < LONG, "{what}: {took:?}");
}

/// Every kind of name from both sides; leaves `a1` and `b2` behind.
pub(crate) fn answered(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    create(lab, 1, "shop", &["--subnet", "10.74.0.0/24"]);
    run(one, "a1", "shop", &["web", "only1"]);
    run(two, "b2", "shop", &["web", "only2"]);
    let (a, b) = (in_shop(one, "a1"), in_shop(two, "b2"));
    within("first name on the other host", answers(one, "a1", &["b2"], &[b.clone()]));
    let (id1, id2) = (short_id(one, "a1"), short_id(two, "b2"));
    let both = vec![a.clone(), b.clone()];
    for (host, from) in [(one, "a1"), (two, "b2")] {
        for (name, holder) in
            [("a1", &a), ("only1", &a), (id1.as_str(), &a), ("b2", &b), ("only2", &b), (id2.as_str(), &b)]
        {
            let (upper, below) = (name.to_ascii_uppercase(), format!("{name}.shop"));
            for question in [&[name][..], &[&upper], &[&below], &["+tcp", name], &["+noedns", name]] {
                answers(host, from, question, std::slice::from_ref(holder));
            }
            let said = dig(host, from, &["AAAA", name]).unwrap();
            assert!(said.code == "NOERROR" && said.answers.is_empty(), "AAAA of {name} in {from}: {said:?}");
        }
        for question in [&["web"][..], &["WeB"], &["web.shop"], &["+tcp", "web"]] {
            answers(host, from, question, &both);
        }
        let tries: Vec<_> = (0..40).map(|_| dig(host, from, &["web"]).unwrap()).collect();
        let first: BTreeSet<_> = tries.iter().map(|said| said.answers[0].clone()).collect();
        assert_eq!(first.len(), 2, "always in one order: {first:?}");
        assert!(tries.iter().all(|said| said.ttls.iter().all(|ttl| *ttl <= 5)), "{tries:?}");

        for (holder, name) in [(&a, "a1"), (&b, "b2")] {
            let ip = holder.strip_prefix("A ").unwrap();
            for question in [&["-x", ip][..], &["+tcp", "-x", ip]] {
                answers(host, from, question, &[format!("PTR {name}.shop.")]);
            }
            says(&host.in_container(from, &["ping", "-c", "1", "-W", "5", name]).unwrap(), &[ip]);
            says(&host.in_container(from, &["nslookup", name]).unwrap(), &[ip]);
        }
        host.in_container(from, &["ping", "-c", "1", "-W", "5", "web"]).unwrap();

        for how in ["+notcp", "+tcp"] {
            answers(host, from, &[how, "outside.example"], &["A 198.51.100.7".to_owned()]);
            unknown(host, from, &[how, "nobody.example"]);
            unknown(host, from, &[how, "nobody"]);
        }
        unknown(host, from, &["-x", "203.0.113.77"]);
        let said = dig(host, from, &["nobody"]).unwrap();
        assert!(said.negative.iter().all(|ttl| *ttl == 0), "kept for a while: {said:?}");
    }
}

/// Networks do not see each other; one with IPv6 and one without a way out.
pub(crate) fn apart(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    create(lab, 2, "inside", &["--internal", "--ipv6", "--subnet", "10.75.0.0/24", "--subnet", "fd75::/64"]);
    run(one, "i1", "inside", &["web"]);
    run(two, "i2", "inside", &["deep"]);
    let (i1, i2) = (one.address("i1", "inside").unwrap(), two.address("i2", "inside").unwrap());
    let six = two.address6("i2", "inside").unwrap();
    answers(one, "i1", &["deep"], &[address(i2)]);
    answers(one, "i1", &["AAAA", "i2.inside"], &[address(six)]);
    answers(one, "i1", &["-x", &six.to_string()], &["PTR i2.inside.".to_owned()]);
    answers(two, "i2", &["web"], &[address(i1)]);
    one.in_container("i1", &["ping", "-c", "1", "-W", "5", "deep"]).unwrap();
    // Docker's resolver finds no server from here: older ones say nothing at all.
    let said = dig(one, "i1", &["+tries=1", "outside.example"]);
    assert!(!said.as_ref().is_ok_and(|said| !said.answers.is_empty()), "a way out: {said:?}");

    for name in ["i1", "i2", "deep", "i2.inside", short_id(two, "i2").as_str()] {
        unknown(one, "a1", &[name]);
        unknown(two, "b2", &[name]);
    }
    unknown(one, "a1", &["-x", &i2.to_string()]);
    answers(one, "a1", &["web"], &[in_shop(one, "a1"), in_shop(two, "b2")]);

    // Seen by one that is on both.
    two.docker(&["network", "connect", "inside", "b2"]).unwrap();
    answers(two, "b2", &["i1"], &[address(i1)]);
    answers(two, "b2", &["a1"], &[in_shop(one, "a1")]);
    answers(one, "i1", &["b2"], &[address(two.address("b2", "inside").unwrap())]);
    two.docker(&["network", "disconnect", "inside", "b2"]).unwrap();
    within("gone after a disconnect", nothing(one, "i1", &["b2"]));
    unknown(two, "b2", &["i1"]);
    remove(one, &["i1"]);
    remove(two, &["i2"]);
}

/// `rs-overlay name lookup`.
pub(crate) fn looked_up(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ask = |host: &Host, args: &[&str]| {
        host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay"), "name", "lookup"], args].concat())
    };
    let b = two.address("b2", "shop").unwrap().to_string();
    for host in lab.hosts() {
        says(&ask(host, &["only2"]).unwrap(), &[&b, "b2", "host2", "shop"]);
        says(&ask(host, &[&b]).unwrap(), &["b2"]);
        let json = ask(host, &["web.shop", "--from", "a1", "--explain", "--format", "json"]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let hosts: BTreeSet<_> =
            json["holders"].as_array().unwrap().iter().filter_map(|row| row["host"].as_str()).collect();
        assert_eq!((hosts, json["searched"][0].as_str()), (BTreeSet::from(["host1", "host2"]), Some("shop")));
        assert!(json["holders"][0]["revision"].as_u64().is_some_and(|revision| revision > 0), "{json}");
        says(
            &ask(host, &["nobody"]).unwrap_err().to_string(),
            &["exit status: 1", "nobody answers to nobody"],
        );
        says(&ask(host, &["web", "--from", "nobody"]).unwrap_err().to_string(), &["no container nobody"]);
    }
    says(&ask(one, &["only2", "--from", &short_id(one, "a1"), "--explain"]).unwrap(), &["v1/endpoints/"]);
}

/// Renames, restarts, disconnects, removals.
pub(crate) fn followed(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    for (host, other, from) in [(two, one, "a1"), (one, two, "b2")] {
        run(host, "cc", "shop", &["kept"]);
        let ip = in_shop(host, "cc");
        within("come", answers(other, from, &["cc"], &[ip.clone()]));
        host.docker(&["rename", "cc", "renamed"]).unwrap();
        within("renamed", answers(other, from, &["renamed"], &[ip.clone()]));
        unknown(other, from, &["cc"]);
        answers(other, from, &["-x", ip.strip_prefix("A ").unwrap()], &["PTR renamed.shop.".to_owned()]);
        answers(other, from, &["kept"], &[ip]);

        host.docker(&["restart", "-t", "0", "renamed"]).unwrap();
        let ip = in_shop(host, "renamed");
        within("restarted", answers(other, from, &["renamed"], &[ip.clone()]));
        answers(other, from, &["kept"], &[ip]);
        answers(host, "renamed", &[from], &[in_shop(other, from)]);

        host.docker(&["stop", "-t", "0", "renamed"]).unwrap();
        within("stopped", unknown(other, from, &["renamed"]));
        host.docker(&["start", "renamed"]).unwrap();
        within("started", answers(other, from, &["renamed"], &[in_shop(host, "renamed")]));

        host.docker(&["network", "disconnect", "shop", "renamed"]).unwrap();
        within("disconnected", unknown(other, from, &["renamed"]));
        host.docker(&["network", "connect", "--alias", "late", "shop", "renamed"]).unwrap();
        let ip = in_shop(host, "renamed");
        within("connected", answers(other, from, &["renamed"], &[ip.clone()]));
        answers(other, from, &["late"], &[ip]);
        unknown(other, from, &["kept"]);

        remove(host, &["renamed"]);
        within("removed", unknown(other, from, &["late"]));
    }
}

/// A name is asked for on the other host before, while and right after its container starts.
pub(crate) fn at_once(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let name = format!("fresh{round}");
        unknown(one, "a1", &[&name]);
        run(two, &name, "shop", &["fresh"]);
        let ip = in_shop(two, &name);
        slowest = slowest.max(answers(one, "a1", &[&name], &[ip.clone()]));
        answers(one, "a1", &["fresh"], &[ip.clone()]);
        says(&one.in_container("a1", &["nslookup", &name]).unwrap(), &[ip.strip_prefix("A ").unwrap()]);
        remove(two, &[&name]);
        unknown(one, "a1", &["fresh"]);
    }
    within("found after docker run", slowest);
}

/// Without the daemon Docker answers; with it again, so does it.
pub(crate) fn without_the_daemon(lab: &Lab) {
    for (host, from, other, far) in
        [(lab.host(1), "a1", lab.host(2), "b2"), (lab.host(2), "b2", lab.host(1), "a1")]
    {
        run(host, "near", "shop", &["web"]);
        let near = in_shop(host, "near");
        answers(host, from, &["web"], &[near.clone(), in_shop(host, from), in_shop(other, far)]);
        host.daemon_kill(Signal::SIGKILL).unwrap();
        let said = dig(host, from, &["near"]).unwrap();
        assert_eq!((said.code.as_str(), said.set()), ("NOERROR", BTreeSet::from([near.as_str()])));
        answers(host, from, &["web"], &[near.clone(), in_shop(host, from)]);
        answers(host, from, &["outside.example"], &["A 198.51.100.7".to_owned()]);
        unknown(host, from, &[far]);
        let started = Instant::now();
        host.daemon_start().unwrap();
        answers(host, from, &[far], &[in_shop(other, far)]);
        within("answered again after a start", started.elapsed());
        answers(host, from, &["web"], &[near, in_shop(host, from), in_shop(other, far)]);
        answers(other, far, &["near"], &[in_shop(host, "near")]);
        remove(host, &["near"]);
    }
}

/// Removes all that the scenes have left behind.
pub(crate) fn end(lab: &Lab) {
    remove(lab.host(1), &["a1"]);
    remove(lab.host(2), &["b2"]);
    for network in ["shop", "inside"] {
        lab.host(1).docker(&["network", "rm", network]).unwrap();
        vanishes(lab, network);
    }
}
