//! Rounds: commands on all hosts, and a daemon or two that are killed in their middle and come back.

use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netns_harness::{CommandOutput, Host, Signal, wait_until};

use super::{
    asker::Sandbox,
    chance::Chance,
    order::Order,
    scene::{BASE, Scene, asking},
    settled::assert_settled_and_cleared,
    world::Engine,
};
use crate::kit::{SOON, logs};

/// Rounds between two looks at the whole.
const BATCH: u32 = 20;

/// How many rounds to run where nothing else is said.
pub(crate) fn count(default: u32) -> u32 {
    number("RS_OVERLAY_FAULT_ROUNDS").map_or(default, |rounds| u32::try_from(rounds).unwrap())
}

/// Whether somebody has asked for all there is, as `make faults` does.
pub(crate) fn in_full() -> bool {
    count(0) >= 100
}

/// What the rounds are made of: drawn, where nothing else is said.
pub(crate) fn seed() -> u64 {
    number("RS_OVERLAY_FAULT_SEED").unwrap_or_else(rand::random)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

/// A daemon that is killed some time after the commands have begun, and started again a while later.
#[derive(Clone, Copy, Debug)]
struct Kill {
    host: usize,
    after: Duration,
    down: Duration,
}

/// What happens in a round.
struct Round {
    number: u32,
    seed: u64,
    orders: Vec<Order>,
    kills: Vec<Kill>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "round {} of seed {}:", self.number, self.seed)?;
        for order in &self.orders {
            writeln!(f, "       0 ms  {order}")?;
        }
        for Kill { host, after, down } in &self.kills {
            writeln!(f, "  {:6} ms  host{host}: kill -9 of the daemon", after.as_millis())?;
            writeln!(f, "  {:6} ms  host{host}: start of the daemon", (*after + *down).as_millis())?;
        }
        Ok(())
    }
}

/// How the daemons came back.
#[derive(Default)]
struct Returns {
    /// From the start of the process to the first right answer for a name of the other host.
    names: Vec<Duration>,
    failed: Vec<String>,
}

/// Plays `count` rounds and looks at the whole after every batch.
pub(crate) fn killed_daemons(scene: &Scene, count: u32, seed: u64) {
    eprintln!("{count} rounds of seed {seed}");
    let mut known = BTreeSet::new();
    let mut returns = Returns::default();
    for number in 1..=count {
        let round = Round::draw(scene, number, seed);
        known.extend(round.orders.iter().filter_map(Order::container));
        let began = scene.pinger.clock();
        let played = round.play(scene, &mut returns);
        let complaints = scene.complaints();
        if let Err(error) = played.and_then(|()| {
            ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
            Ok(())
        }) {
            panic!("{error:#}\nin {round}it began after {began:.2?}\n{}", logs(&scene.lab));
        }
        if number % BATCH == 0 || number == count {
            eprint!("round {number}: ");
            assert_settled_and_cleared(scene, &known);
            known.clear();
        }
    }
    returns.names.sort();
    eprintln!(
        "{} daemons came back; names of the other host after {:.2?} in half of the cases and {:.2?} at most",
        returns.names.len(),
        returns.names.get(returns.names.len() / 2).unwrap_or(&Duration::ZERO),
        returns.names.last().unwrap_or(&Duration::ZERO)
    );
    eprintln!("{} commands failed:\n{}", returns.failed.len(), returns.failed.join("\n"));
}

impl Round {
    /// Commands on all hosts; one daemon is killed, or all.
    fn draw(scene: &Scene, number: u32, seed: u64) -> Self {
        let mut chance = Chance::of_round(seed, number);
        let orders = scene.lab.hosts().iter().map(|host| {
            let found = wait_until("a list of containers", SOON, || Engine::of(host).map(Some)).unwrap();
            Order::choose(host.number(), number, &found, &mut chance)
        });
        let orders: Vec<Order> = orders.collect();
        let all = chance.percent(25);
        let hosts = scene.lab.hosts().len() as u64;
        let first = usize::try_from(chance.below(hosts)).unwrap() + 1;
        let victims: Vec<usize> = if all { (1..=scene.lab.hosts().len()).collect() } else { vec![first] };
        let kills = victims.into_iter().map(|host| Kill {
            host,
            after: chance.millis(600),
            down: if chance.percent(20) { chance.millis(3000) } else { chance.millis(300) },
        });
        Self { number, seed, orders, kills: kills.collect() }
    }

    fn play(&self, scene: &Scene, returns: &mut Returns) -> Result<()> {
        let lab = &scene.lab;
        let (said, back) = thread::scope(|scope| {
            let orders: Vec<_> =
                self.orders.iter().map(|order| scope.spawn(|| give(lab.host(order.host), order))).collect();
            let kills: Vec<_> =
                self.kills.iter().map(|kill| scope.spawn(|| kill_and_start(scene, *kill))).collect();
            let back: Vec<Result<Duration>> = kills.into_iter().map(|kill| kill.join().unwrap()).collect();
            let said: Vec<Result<CommandOutput>> =
                orders.into_iter().map(|order| order.join().unwrap()).collect();
            (said, back)
        });
        for took in back {
            returns.names.push(took?);
        }
        for (order, said) in self.orders.iter().zip(said) {
            let said = said.with_context(|| order.to_string())?;
            if said.status.success() {
                continue;
            }
            let undisturbed = !self.kills.iter().any(|kill| kill.host == order.host);
            ensure!(
                !(undisturbed && order.certain),
                "{order} failed on a host whose daemon ran: {}",
                said.stderr.trim()
            );
            returns.failed.push(format!("{}: {order}: {}", self.number, said.stderr.trim()));
        }
        Ok(())
    }
}

fn give(host: &Host, order: &Order) -> Result<CommandOutput> {
    let line: Vec<&str> = ["docker"].into_iter().chain(order.args.iter().map(String::as_str)).collect();
    host.run(&line).limit(Duration::from_mins(3)).output()
}

/// Gives the time from the daemon's start to the right answer for a name of another host.
fn kill_and_start(scene: &Scene, kill: Kill) -> Result<Duration> {
    let host = scene.lab.host(kill.host);
    thread::sleep(kill.after);
    host.daemon_kill(Signal::SIGKILL)?;
    thread::sleep(kill.down);
    let started = Instant::now();
    host.daemon_start()?;
    let other = scene.lab.host(if kill.host == 1 { 2 } else { 1 });
    let name = format!("named{}", other.number());
    let address: BTreeSet<IpAddr> = BTreeSet::from([other.address(&name, BASE)?]);
    let sandbox = Sandbox::of(host, &asking(kill.host));
    wait_until("a name of another host", SOON, || -> Result<bool> {
        let (answer, _) = sandbox.ask(&name)?;
        ensure!(answer == address, "{name} is {answer:?}");
        Ok(true)
    })?;
    Ok(started.elapsed())
}
