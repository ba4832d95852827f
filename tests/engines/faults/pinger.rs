//! A ping every 10 ms whose every number is accounted for.

use std::{
    fmt,
    io::{BufRead, BufReader},
    net::IpAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netns_harness::{Host, wait_until};

use crate::kit::SOON;

/// Numbers that the kernel has for pings before it begins anew.
const NUMBERS: usize = 1 << 16;

/// A running `ping`. It is a program of this machine in the container's network namespace and of no host, so that no
/// fault of a host's programs stops it.
pub(crate) struct Pinger {
    child: Child,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
    started: Instant,
}

#[derive(Default)]
struct Seen {
    /// When the answer to each number came, since the start.
    answers: Vec<Option<Duration>>,
    twice: usize,
}

/// Pings in a row that were not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: usize,
    pub(crate) count: usize,
    /// When the answer before them came, since the start.
    pub(crate) after: Duration,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pings from number {} on, after {:.2?}", self.count, self.from, self.after)
    }
}

impl Pinger {
    pub(crate) fn start(host: &Host, container: &str, ip: IpAddr) -> Self {
        let namespace = host.container_namespace(container).unwrap();
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            .args(["nice", "-n", "-19", "ping", "-n", "-i", "0.01", &ip.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (started, output) = (Instant::now(), child.stdout.take().unwrap());
        let reader = Some(thread::spawn({
            let seen = Arc::clone(&seen);
            move || read(output, &seen, started)
        }));
        let pinger = Self { child, reader, seen, started };
        wait_until("the first answers to the steady ping", SOON, || pinger.answered() > 10).unwrap();
        pinger
    }

    /// How many pings were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.seen.lock().unwrap().answers.iter().flatten().count()
    }

    /// Time since its start, as gaps tell it.
    pub(crate) fn clock(&self) -> Duration {
        self.started.elapsed()
    }

    /// All gaps up to now, for which an answer to a later ping is waited for; and how many answers came twice.
    pub(crate) fn gaps(&self) -> (Vec<Gap>, usize) {
        // Answers that are under way are no loss: those to pings of this moment must be there first.
        let reached = self.clock() + Duration::from_millis(200);
        let last = || self.seen.lock().unwrap().answers.iter().rev().find_map(|answer| *answer);
        wait_until("an answer to a ping", SOON, || last().is_some_and(|last| last > reached)).unwrap();
        let seen = self.seen.lock().unwrap();
        let mut gaps: Vec<Gap> = Vec::new();
        let mut before = Duration::ZERO;
        let first = seen.answers.iter().position(Option::is_some).unwrap_or(0);
        let settled = seen.answers.iter().rposition(|answer| answer.is_some_and(|at| at <= reached));
        for (number, answer) in seen.answers.iter().enumerate().take(settled.unwrap_or(0)).skip(first) {
            match answer {
                Some(at) => before = *at,
                None => match gaps.last_mut().filter(|gap| gap.from + gap.count == number) {
                    Some(gap) => gap.count += 1,
                    None => gaps.push(Gap { from: number, count: 1, after: before }),
                },
            }
        }
        (gaps, seen.twice)
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        // `nsenter` and `nice` have replaced themselves: the child is the ping.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Lines like `64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.05 ms`.
fn read(output: ChildStdout, seen: &Mutex<Seen>, started: Instant) {
    let mut last = 0;
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let number = line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let Some(number): Option<usize> = number.filter(|_| line.contains("bytes from")) else { continue };
        let number = unwrapped(number, last);
        last = last.max(number);
        let mut seen = seen.lock().unwrap();
        if seen.answers.len() <= number {
            seen.answers.resize(number + 1, None);
        }
        if seen.answers[number].replace(started.elapsed()).is_some() {
            seen.twice += 1;
        }
    }
}

/// The number that `number` stands for, the one nearest to the last.
fn unwrapped(number: usize, last: usize) -> usize {
    let base = last / NUMBERS * NUMBERS;
    let candidates = [base.checked_sub(NUMBERS), Some(base), Some(base + NUMBERS)];
    candidates.into_iter().flatten().map(|base| base + number).min_by_key(|n| n.abs_diff(last)).unwrap()
}
