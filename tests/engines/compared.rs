//! The same questions on a plain bridge network and on one of ours, with the same containers.

use std::collections::BTreeSet;

use netns_harness::{Host, Lab, wait_until};

use crate::{
    dns::{address, answers, dig},
    kit::{OURS, SOON, assert_clean, remove, vanishes},
};

/// The network in both its lives.
const SUBNETS: [&str; 5] = ["--ipv6", "--subnet", "10.76.0.0/24", "--subnet", "fd76::/64"];
/// Containers: name, the last part of the address, options.
const CONTAINERS: [(&str, u8, &[&str]); 3] = [
    ("asker", 10, &["--network-alias", "me"]),
    ("web1", 11, &["--network-alias", "web", "--hostname", "front", "--network-alias", "a.b"]),
    ("web2", 12, &["--network-alias", "web", "--network-alias", "Mixed"]),
];

/// The questions in dig's words; `{id}` is the short id of `web1`.
const QUESTIONS: &[&str] = &[
    "web1",
    "web1 AAAA",
    "web1.",
    "WEB1",
    "wEb1 AAAA",
    "web1.same",
    "web1.same.",
    "WEB1.same",
    "web1.SAME",
    "web1.same AAAA",
    "web",
    "web AAAA",
    "web.same",
    "WEB.same",
    "front",
    "front.same",
    "a.b",
    "a.b.same",
    "mixed",
    "Mixed",
    "me",
    "asker",
    "{id}",
    "{id} AAAA",
    "{id}.same",
    "same",
    "web1.other",
    "web1.same.same",
    "x.web1",
    "web1 MX",
    "web1 SRV",
    "web1 TXT",
    "web1 ANY",
    "web1 CNAME",
    "web1 NS",
    "web1 SOA",
    "web1 PTR",
    "web1 HTTPS",
    "_http._tcp.web1 SRV",
    "-x 10.76.0.10",
    "-x 10.76.0.11",
    "-x 10.76.0.77",
    "-x 10.76.0.1",
    "-x 198.51.100.7",
    "-x fd76::11",
    "-x fd76::77",
    "0.76.10.in-addr.arpa PTR",
    "11.0.76.10.in-addr.arpa A",
    "nobody",
    "nobody AAAA",
    "nobody MX",
    "nobody.same",
    "outside.example",
    "OUTSIDE.example",
    "outside.example.",
    "outside.example AAAA",
    "outside.example MX",
    "nobody.example",
    ". NS",
    "localhost",
    "10.76.0.11",
    "web1 +noedns",
    "web1 +bufsize=512",
    "web1 +edns=1 +noednsneg",
    "web1 +dnssec",
    "web1 +norecurse",
    "web1 +cdflag",
    "web1 -c CH",
    "web1 +tcp",
    "web +tcp",
    "web1.same AAAA +tcp",
    "-x 10.76.0.11 +tcp",
    "outside.example +tcp",
    "nobody.example +tcp",
    "nobody +tcp",
];

/// What was answered, without order and lives: these alone may differ.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: String,
    answers: BTreeSet<String>,
}

/// Makes the network and the containers, asks everything and removes all again.
fn ask(host: &Host, driver: &[&str], ready: impl Fn()) -> Vec<Outcome> {
    // The bridge's route is known for a moment after its end.
    wait_until("a network to ask in", SOON, || {
        host.docker(&[&["network", "create"], driver, &SUBNETS, &["same"]].concat()).map(|_| true)
    })
    .unwrap();
    for (name, last, options) in CONTAINERS {
        let (four, six) = (format!("10.76.0.{last}"), format!("fd76::{last}"));
        let line = ["run", "-d", "--name", name, "--net", "same", "--ip", &four, "--ip6", &six];
        host.docker(&[&line[..], options, &["busybox", "sleep", "3600"]].concat()).unwrap();
    }
    ready();
    let full = host.docker(&["inspect", "-f", "{{.Id}}", "web1"]).unwrap();
    let outcomes = QUESTIONS.iter().map(|question| {
        let text = question.replace("{id}", &full[..12]);
        let words: Vec<_> = text.split_whitespace().collect();
        dig(host, "asker", &words).map_or_else(
            |_| Outcome { code: "no answer".to_owned(), answers: BTreeSet::new() },
            |said| Outcome {
                code: said.code,
                answers: said.answers.iter().map(|text| text.replace(&full[..12], "{id}")).collect(),
            },
        )
    });
    let outcomes = outcomes.collect();
    remove(host, &["asker", "web1", "web2"]);
    host.docker(&["network", "rm", "same"]).unwrap();
    outcomes
}

/// Compares on the only host of a lab.
pub(crate) fn on(lab: &Lab) {
    let host = lab.host(1);
    let bridge = ask(host, &["-d", "bridge"], || ());
    let ours = ask(host, &OURS, || {
        // An answer that may live for 5 s at most is ours.
        let both = ["10.76.0.11", "10.76.0.12"].map(|ip| address(ip.parse().unwrap()));
        answers(host, "asker", &["web"], &both);
        for name in ["web1", "web", "front"] {
            wait_until("an answer of ours", SOON, || {
                let said = dig(host, "asker", &[name])?;
                anyhow::ensure!(!said.ttls.is_empty() && said.ttls.iter().all(|ttl| *ttl <= 5), "{said:?}");
                Ok(true)
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
        }
    });
    vanishes(lab, "same");
    let mut differ = Vec::new();
    for ((question, theirs), ours) in QUESTIONS.iter().zip(&bridge).zip(&ours) {
        eprintln!("{question}: {} {:?}", theirs.code, theirs.answers);
        if theirs != ours {
            differ.push(format!("{question}: Docker {theirs:?}, ours {ours:?}"));
        }
    }
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), QUESTIONS.len(), differ.join("\n"));
    let known = bridge.iter().filter(|outcome| !outcome.answers.is_empty()).count();
    assert!(known >= 25, "only {known} questions have an answer on a bridge");
    assert_clean(lab);
}
