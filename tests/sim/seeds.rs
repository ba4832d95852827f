//! Many seeds, spread over threads: `SEEDS=n` runs that many, `SEED=n` one of them with all that happens.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::world;

/// How long the seeds of a plain test run may take, whatever their number.
const BUDGET: Duration = Duration::from_mins(1);

/// How many they are at most; `make sim` goes on from there.
const PLAIN: u64 = 500;

/// Hosts from which on a world takes half a minute and more in a test that is not optimised.
const LARGE: usize = 8;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A line without the number of the thread that it ran in, which stands in names of directories: a call that
/// the disk refused tells the file.
fn placeless(line: &str) -> String {
    match line.split_once("-ThreadId-") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|digit: char| digit.is_ascii_digit()))
        }
        None => line.to_owned(),
    }
}

#[test]
fn the_same_seed_runs_the_same_way() {
    for seed in [3, 14, 35] {
        let [one, other] =
            [(); 2].map(|()| thread::spawn(move || world::of_seed(seed, true)).join().unwrap());
        let mut pairs = one.lines.iter().zip(&other.lines);
        let differs = pairs.position(|(one, other)| placeless(one) != placeless(other));
        if let Some(at) = differs {
            panic!("seed {seed}, line {at}:\n{}\n{}", one.lines[at], other.lines[at]);
        }
        assert_eq!(one.lines.len(), other.lines.len(), "seed {seed}");
        assert!(one.lines.len() > 100, "seed {seed} does nothing");
    }
}

#[test]
fn no_seed_breaks_the_cluster() {
    if let Some(seed) = from_environment("SEED") {
        let run = world::of_seed(seed, true);
        eprintln!("{}", run.lines.join("\n"));
        assert_eq!(run.wrong, None, "seed {seed}");
        return;
    }
    let asked = from_environment("SEEDS");
    let count = asked.unwrap_or(PLAIN);
    let budget = from_environment("BUDGET").map_or(BUDGET, Duration::from_secs);
    let first = from_environment("FIRST").unwrap_or(0);
    let (next, done, commits) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let most = Mutex::new((0, 0));
    let failed = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                while start.elapsed() < budget && !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - first >= count {
                        return;
                    }
                    // A budget ends when the last world does: what takes as long as it does not begin late.
                    if asked.is_none() && world::hosts_of(seed) > LARGE && start.elapsed() > budget / 4 {
                        continue;
                    }
                    let run = world::of_seed(seed, false);
                    let mut longest = most.lock().unwrap();
                    *longest = (run.polls, seed).max(*longest);
                    drop(longest);
                    done.fetch_add(1, Ordering::Relaxed);
                    commits.fetch_add(run.commits, Ordering::Relaxed);
                    if run.wrong.is_some() {
                        let mut failed = failed.lock().unwrap();
                        failed.push((seed, run));
                        stop.store(failed.len() >= 20, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    let (done, commits) = (done.load(Ordering::Relaxed), commits.load(Ordering::Relaxed));
    eprintln!("{done} seeds, {commits} changes in the store, {:?}", start.elapsed());
    let (polls, longest) = most.into_inner().unwrap();
    eprintln!("the longest is {longest} with {polls} polls of tasks");
    for (seed, run) in &failed {
        eprintln!("\n== seed {seed}, {:?} of virtual time", run.time);
        eprintln!("{}", run.script.join("\n"));
        eprintln!("-- {}", run.wrong.as_deref().unwrap_or_default());
        eprintln!("-- replay: make sim SEED={seed}");
    }
    let seeds: Vec<_> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "{} of {done} seeds failed: {seeds:?}", failed.len());
    assert!(done > 0);
}
