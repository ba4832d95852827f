//! Questions that are put to 127.0.0.11 from within a container's network namespace.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use netns_harness::{Host, wait_until};

use crate::kit::SOON;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// `NOERROR`, `NXDOMAIN`, ….
    pub(crate) code: String,
    /// Whether there is more than this answer had room for.
    pub(crate) truncated: bool,
    /// Type and data of each answer, in their order.
    pub(crate) answers: Vec<String>,
    /// Lives of the answers.
    pub(crate) ttls: Vec<u32>,
    /// Lives of the records that say how long "there is none" may be kept.
    pub(crate) negative: Vec<u32>,
}

impl Said {
    /// The answers without their order.
    pub(crate) fn set(&self) -> BTreeSet<&str> {
        self.answers.iter().map(String::as_str).collect()
    }
}

/// Asks with `dig`; no answer at all is an error.
pub(crate) fn dig(host: &Host, container: &str, question: &[&str]) -> anyhow::Result<Said> {
    let flags = ["dig", "@127.0.0.11", "+time=3", "+tries=3", "+nocookie", "+noall", "+comments", "+answer"];
    let line = [&flags[..], &["+authority"], question].concat();
    let text = host.container_netns(container, &line)?;
    read(&text).ok_or_else(|| anyhow::anyhow!("no answer to {question:?} in {container}: {text}"))
}

fn read(text: &str) -> Option<Said> {
    let code = text.split_once("status: ")?.1.split(',').next()?.to_owned();
    let flags = text.split_once("flags: ")?.1.split(';').next()?;
    let truncated = flags.split_whitespace().any(|flag| flag == "tc");
    let mut said = Said { code, truncated, answers: Vec::new(), ttls: Vec::new(), negative: Vec::new() };
    let mut authority = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(';') {
            authority |= line.contains("AUTHORITY SECTION");
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let ttl = words.get(1)?.parse().ok()?;
        if authority {
            said.negative.push(ttl);
        } else {
            said.ttls.push(ttl);
            said.answers.push(words.get(3..)?.join(" "));
        }
    }
    Some(said)
}

/// Waits until a question has just these answers; the answer is how long it took.
#[track_caller]
pub(crate) fn answers(
    host: &Host,
    container: &str,
    question: &[&str],
    expected: &[impl AsRef<str>],
) -> Duration {
    let started = Instant::now();
    let expected: BTreeSet<_> = expected.iter().map(AsRef::as_ref).collect();
    let found = wait_until(&format!("{question:?} in {container} to be {expected:?}"), SOON, || {
        let said = dig(host, container, question)?;
        anyhow::ensure!(said.code == "NOERROR" && said.set() == expected, "{said:?}");
        Ok(true)
    });
    found.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    started.elapsed()
}

/// Waits until there is no such name; the answer is how long it took.
#[track_caller]
pub(crate) fn unknown(host: &Host, container: &str, question: &[&str]) -> Duration {
    let started = Instant::now();
    let gone = wait_until(&format!("no {question:?} in {container}"), SOON, || {
        let said = dig(host, container, question)?;
        anyhow::ensure!(said.code == "NXDOMAIN" && said.answers.is_empty(), "{said:?}");
        Ok(true)
    });
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    started.elapsed()
}

/// The same in a network without a way out, where old engines say nothing at all instead.
#[track_caller]
pub(crate) fn nothing(host: &Host, container: &str, question: &[&str]) -> Duration {
    let started = Instant::now();
    let gone = wait_until(&format!("the end of {question:?} in {container}"), SOON, || {
        match dig(host, container, &[&["+tries=1", "+time=1"], question].concat()) {
            Ok(said) if !said.answers.is_empty() => anyhow::bail!("{said:?}"),
            _ => anyhow::Ok(true),
        }
    });
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
    started.elapsed()
}

/// The answer that is an address.
pub(crate) fn address(ip: IpAddr) -> String {
    format!("{} {ip}", if ip.is_ipv4() { "A" } else { "AAAA" })
}
