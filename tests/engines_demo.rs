//! The demo, as `make demo` runs it.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

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

/// A demo that runs, and is ended when it is dropped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(name: &str) -> Self {
        let mut child = demo(name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line begins and goes on like this.
    fn until(&mut self, begin: &str, part: &str) {
        let came =
            self.lines.any(|line| line.is_ok_and(|line| line.starts_with(begin) && line.contains(part)));
        assert!(came, "the demo ended before {begin}...{part}: {}", self.errors());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Its exit status, and the rest of what it said.
    fn end(&mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        (self.child.wait().unwrap().code(), rest.join("\n"))
    }

    /// What it said on standard error, once it has ended.
    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Neither the lab's files nor its processes, mounts, control groups or network namespaces are there.
#[track_caller]
fn assert_gone(name: &str) {
    assert!(!Lab::names().contains(&name.to_owned()), "lab {name} is still there");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&format!("/{name}/")), "mounts: {mounts}");
    let named = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let named = String::from_utf8(named.stdout).unwrap();
    assert!(!named.contains(name), "network namespaces: {named}");
    let groups = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.file_name());
    let groups: Vec<_> = groups.filter(|group| group.to_string_lossy().contains(name)).collect();
    assert!(groups.is_empty(), "control groups: {groups:?}");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // What ends in between says nothing.
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(
            !command.contains(&format!("/{name}/")),
            "{} still runs: {command}",
            process.path().display()
        );
    }
}

/// Rows of the table with this first column, as words, without the heading.
fn rows<'a>(said: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rows = said.lines().skip_while(|line| !line.starts_with(head)).skip(1);
    rows.take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect()
}

fn assert_shown(name: &str) {
    let output = demo(name).output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    for part in [
        "driver: rs-overlay\n",
        "host1$ docker-compose -p shop up -d\n",
        "host2$ docker compose -p shop up -d\n",
        "found shop_default as its own",
        "VTEP 192.0.2.2",
        "etcd://192.0.2.254:2379",
        "host1$ docker exec shop_php_1 ping -c 1 shop-nginx-1\n",
        "host2$ docker exec shop-php-1 ping -c 1 nginx\n",
        "# host1: 10 of 10 answered",
        "# host2: 10 of 10 answered",
        "# 20 pages over TCP",
        "meanwhile, none lost",
        "host1$ docker-compose -p shop down\n",
        "host2$ docker compose -p shop down\n",
        "Everything is torn down",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}\n{errors}");
    }
    assert!(!said.contains('\x1b'), "colours without a terminal: {said}");
    assert_tables(said.split_once("== What the demo saw").unwrap().1);
    assert_gone(name);
}

fn assert_tables(said: &str) {
    let networks = rows(said, "NETWORK ");
    let [network] = &networks[..] else { panic!("{said}") };
    assert_eq!(
        (network[0], &network[2..]),
        ("shop_default", &["65536", "1450", "host1,", "host2", "20"][..])
    );

    let hosts = rows(said, "HOST ");
    assert_eq!(hosts.len(), 2, "{said}");
    for (host, engine, compose, vtep) in
        [("host1", "20.10.24", "1.", "192.0.2.1"), ("host2", "28.5", "2.", "192.0.2.2")]
    {
        let row = hosts.iter().find(|row| row[0] == host).unwrap();
        assert_eq!((row[1], row[3]), (engine, vtep));
        assert!(row[2].starts_with(compose), "{row:?}");
        assert_eq!(row[4..], ["5", "nginx", "+", "5", "php"]);
    }

    let names = rows(said, "NAME ");
    assert_eq!(names.len(), 22, "{said}");
    for alias in ["nginx", "php"] {
        let row = names.iter().find(|row| row[0] == alias).unwrap();
        assert_eq!(row[1..5], ["host1,", "host2", "10", "addresses"]);
    }
    let mut addresses = Vec::new();
    for (host, separator, asker, from) in
        [("host1", "_", "shop-php-1", "host2"), ("host2", "-", "shop_php_1", "host1")]
    {
        for service in ["nginx", "php"] {
            for number in 1..=5 {
                let name = ["shop", service, &number.to_string()].join(separator);
                let row =
                    names.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name}: {said}"));
                assert_eq!((row[1], &row[3..6]), (host, &[asker, "of", from][..]), "{name}");
                assert!(row[6].parse::<f64>().is_ok() && row[7] == "ms", "{row:?}");
                addresses.push((name, row[2]));
            }
        }
    }
    let mut different: Vec<&str> = addresses.iter().map(|(_, address)| *address).collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 20, "an address twice: {said}");

    // When, from, to, name asked, answer, round trip.
    let pings = rows(said, "WHEN ");
    let one = |when: [&str; 2], from: &str, to: &str, asked: &str| {
        let of = |name: &str| ["host1", "host2"][usize::from(name.contains('-'))].to_owned();
        let fits = |row: &&Vec<&str>| {
            let words = &[&when[..], if when[0] == "1" { &["1", "up"][..] } else { &[] }].concat();
            row.starts_with(words)
                && row[words.len()..].starts_with(&[from, "of", &of(from), to, "of", &of(to), asked])
        };
        let row = pings.iter().find(fits).unwrap_or_else(|| panic!("no ping from {from} to {to}: {said}"));
        let [.., answer, round_trip, "ms"] = row[..] else { panic!("{row:?}") };
        assert_eq!(addresses.iter().find(|(name, _)| name == to).unwrap().1, answer, "{row:?}");
        assert!(round_trip.parse::<f64>().is_ok(), "{row:?}");
    };
    for (here, there) in [("_1", "-1"), ("-1", "_1")] {
        let full = |service: &str, end: &str| ["shop", service, &end[1..]].join(&end[..1]);
        let (php, nginx) = (full("php", here), full("nginx", here));
        let (other, others) = (full("nginx", there), full("php", there));
        one(["1", "+"], &php, &other, &other);
        one(["1", "+"], &php, &other, "nginx");
        one(["1", "+"], &nginx, &others, "php");
    }
    let last = pings.last().unwrap();
    assert_eq!(pings.len(), 7, "{said}");
    assert_eq!(last[..5], ["host1", "down", "shop-php-1", "of", "host2"]);
    assert_eq!(
        (last[6], last[7], last[8]),
        ("of", "host2", "nginx"),
        "a host that has left answers: {last:?}"
    );

    let left: Vec<String> = rows(said, "AFTER DOWN ").iter().map(|row| row.join(" ")).collect();
    let nothing = "0 containers, 0 networks, 0 links and routes";
    assert_eq!(left, [format!("host1 {nothing}"), format!("host2 {nothing}"), "etcd 0 records".into()]);
}

#[test]
fn an_interrupted_demo_takes_everything_down() {
    // Before anything is up, while compose works, and in the middle of pings.
    for (begin, part) in
        [("2 Docker hosts", ""), ("host2$ ", "--scale"), ("host2$ docker exec", "sh -c 'for name")]
    {
        let name = "demo-interrupted";
        let mut running = Running::start(name);
        running.until(begin, part);
        running.signal(Signal::SIGINT);
        let (status, said) = running.end();
        assert_eq!(status, Some(130), "after {begin}...{part}: {said}\n{}", running.errors());
        assert!(!said.contains("== What the demo saw"), "it went on to its end: {said}");
        assert_gone(name);
    }
}

#[test]
fn a_demo_that_loses_a_host_says_so_and_takes_everything_down() {
    let name = "demo-failing";
    let mut running = Running::start(name);
    running.until("host2$ docker exec", "ping -c 1 nginx");
    Lab::attach(name).unwrap().host(2).power_off().unwrap();
    let (status, said) = running.end();
    let errors = running.errors();
    assert_eq!(status, Some(1), "{said}\n{errors}");
    assert!(
        said.contains("This step failed") && said.contains("Everything is torn down"),
        "{said}\n{errors}"
    );
    let last = errors.lines().find(|line| line.starts_with("netns-harness: ")).unwrap();
    assert!(last.contains("the step \"") && last.contains("on host"), "{errors}");
    assert_gone(name);
}

#[test]
fn a_demo_shows_a_whole_project_also_after_one_that_was_killed() {
    let name = "demo-killed";
    let mut running = Running::start(name);
    running.until("host1$ ", "");
    running.signal(Signal::SIGKILL);
    running.end();
    assert_shown(name);
}
