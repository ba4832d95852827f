//! What containers find under a name, and who answers a ping.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, ensure};
use netns_harness::Host;

use super::stage::Stage;

/// The answer to one ping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) address: IpAddr,
    /// Round trip in milliseconds.
    pub(super) millis: f64,
}

/// One ping by name, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Ping {
    pub(super) from: String,
    pub(super) from_host: String,
    /// The name that was asked for.
    pub(super) asked: String,
    /// The container that answered.
    pub(super) by: String,
    pub(super) by_host: String,
    pub(super) answer: Answer,
}

/// Each name of one or several runs of busybox's `ping -c 1`, after each other, with the answer if there was one. Of
/// `PING name (10.0.0.2): 56 data bytes` and `64 bytes from 10.0.0.2: seq=0 ttl=64 time=0.15 ms`.
pub(super) fn answers(said: &str) -> BTreeMap<String, Answer> {
    let mut asked = None;
    let mut found = BTreeMap::new();
    for line in said.lines() {
        if let Some((name, _)) = line.strip_prefix("PING ").and_then(|rest| rest.split_once(" (")) {
            asked = Some(name.to_owned());
        }
        if let (Some(answer), Some(name)) = (answer(line), &asked) {
            found.insert(name.clone(), answer);
        }
    }
    found
}

fn answer(line: &str) -> Option<Answer> {
    let (_, rest) = line.split_once(" bytes from ")?;
    let (address, rest) = rest.split_once(": ")?;
    let (_, time) = rest.split_once("time=")?;
    Some(Answer { address: address.parse().ok()?, millis: time.strip_suffix(" ms")?.parse().ok()? })
}

/// Packets sent and received, of busybox's `5 packets transmitted, 4 packets received, 20% packet loss`.
pub(super) fn counted(said: &str) -> Option<(u32, u32)> {
    said.lines().find_map(|line| {
        let (sent, rest) = line.split_once(" packets transmitted, ")?;
        let (received, _) = rest.split_once(" packets received")?;
        Some((sent.parse().ok()?, received.parse().ok()?))
    })
}

/// An error unless the container finds exactly these addresses under each of these names.
pub(super) fn resolves(
    stage: &Stage,
    host: &Host,
    container: &str,
    wanted: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> Result<()> {
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let script = r#"for name; do echo "= $name"; nslookup -type=a $name; done; true"#;
    let said =
        stage.quietly(host, &format!("docker exec {container} sh -c '{script}' sh {}", names.join(" ")))?;
    let found = found(&said);
    for (name, wanted) in wanted {
        let found = found.get(name).cloned().unwrap_or_default();
        ensure!(found == *wanted, "{container} on {} finds {found:?} as {name}, not {wanted:?}", host.name());
    }
    Ok(())
}

/// The resolver's own address comes with its port, so it is not read as one of those that were found.
fn found(said: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut all: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut name = String::new();
    for line in said.lines() {
        if let Some(asked) = line.strip_prefix("= ") {
            asked.clone_into(&mut name);
        }
        if let Some(address) = line.strip_prefix("Address:").and_then(|text| text.trim().parse().ok()) {
            all.entry(name.clone()).or_default().insert(address);
        }
    }
    all
}

/// Names as a shell expands them from fewer letters: those that differ only in a number, counted without a gap, become
/// `name-{1..5}`.
pub(super) fn braces(names: &[&str]) -> String {
    let mut runs: Vec<(&str, u32, u32)> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = name[stem.len()..].parse().unwrap_or(0);
        // What is written another way, such as `web01`, would not come out of the shell as it was.
        let number = if format!("{stem}{number}") == *name { number } else { 0 };
        match runs.last_mut() {
            Some((last, from, to)) if *from > 0 && *last == stem && to.checked_add(1) == Some(number) => {
                *to = number;
            }
            _ if number > 0 => runs.push((stem, number, number)),
            _ => runs.push((name, 0, 0)),
        }
    }
    let words = runs.into_iter().map(|(stem, from, to)| match (from, to) {
        (0, _) => stem.to_owned(),
        _ if from == to => format!("{stem}{from}"),
        _ => format!("{stem}{{{from}..{to}}}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINGS: &str = "PING nginx (10.0.0.2): 56 data bytes\n\
        64 bytes from 10.0.0.2: seq=0 ttl=64 time=0.150 ms\n\n\
        --- nginx ping statistics ---\n\
        1 packets transmitted, 1 packets received, 0% packet loss\n\
        round-trip min/avg/max = 0.150/0.150/0.150 ms\n\
        PING php (10.0.0.3): 56 data bytes\n\n\
        --- php ping statistics ---\n\
        1 packets transmitted, 0 packets received, 100% packet loss\n";

    #[test]
    fn answers_are_told_from_silence() {
        let answers = answers(PINGS);
        let answer = Answer { address: "10.0.0.2".parse().unwrap(), millis: 0.15 };
        assert_eq!(answers, BTreeMap::from([("nginx".to_owned(), answer)]));
        assert!(super::answers("ping: bad address 'nginx'\n").is_empty());
    }

    #[test]
    fn packets_are_counted() {
        let line = "10 packets transmitted, 9 packets received, 10% packet loss";
        assert_eq!(counted(&format!("--- x ping statistics ---\n{line}\n")), Some((10, 9)));
        assert_eq!(counted("sh: no ping"), None);
    }

    #[test]
    fn all_addresses_of_a_name_are_found_and_not_the_resolvers() {
        let said = "= nginx\nServer:\t\t127.0.0.11\nAddress:\t127.0.0.11:53\n\nName:\tnginx\nAddress: 10.0.0.2\n\
            Name:\tnginx\nAddress: 10.0.0.9\n= php\nServer:\t\t127.0.0.11\n** server can't find php: NXDOMAIN\n";
        let addresses = ["10.0.0.2", "10.0.0.9"].map(|text| text.parse().unwrap());
        assert_eq!(found(said), BTreeMap::from([("nginx".to_owned(), BTreeSet::from(addresses))]));
    }

    #[test]
    fn the_shell_makes_the_names_again() {
        let names = ["shop_php_1", "shop_php_2", "shop_php_4", "web", "web1", "web02", "0f3", "0f4"];
        let short = braces(&names);
        assert_eq!(short, "shop_php_{1..2} shop_php_4 web web1 web02 0f{3..4}");
        let said =
            std::process::Command::new("bash").args(["-c", &format!("echo {short}")]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), names.join(" "));
    }
}
