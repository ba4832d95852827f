//! The daemon is killed just before and just after each single effect that it has on the world outside, for
//! each call of Docker's and each thing that it does by itself; then it comes back, and everything has to
//! become what it should be.

use std::{
    ops::RangeBounds,
    time::{Duration, Instant},
};

use rs_overlay::local::witness::Moment;
use tokio::time::sleep;

use super::{
    effects::{self, Ending},
    faults::{self, Fault},
    host,
    operations::{self, Command, Families},
    world::{self, Run, World},
};

/// How long the effects of what is done may take.
const WHILE: Duration = Duration::from_secs(6);

/// And those of an engine that has forgotten a container without a word: the daemon gives it time to come back.
const FORGOTTEN: Duration = Duration::from_secs(70);

/// Something that a host does, and what has to be there before.
struct Scenario {
    name: &'static str,
    before: Vec<Step>,
    /// All at once.
    then: Vec<Step>,
    /// Whose daemon is killed.
    victim: usize,
}

#[derive(Clone)]
enum Step {
    Do(Command),
    Befall(Fault),
}

fn network(host: usize, ours: bool, subnet: Option<&str>) -> Step {
    let subnet = subnet.map(|subnet| subnet.parse().unwrap());
    Step::Do(Command::CreateNetwork { host, name: "red".into(), ours, subnet, families: Families::Four })
}

fn no_network(host: usize) -> Step {
    Step::Do(Command::RemoveNetwork { host, name: "red".into() })
}

fn run(host: usize, name: &str, ip: Option<&str>) -> Step {
    Step::Do(Command::Run {
        host,
        name: name.into(),
        networks: vec!["red".into()],
        ip: ip.map(|ip| ip.parse().unwrap()),
        aliases: vec!["web".into()],
    })
}

fn stop(host: usize, name: &str) -> Step {
    Step::Do(Command::Stop { host, name: name.into() })
}

fn restart(host: usize, name: &str) -> Step {
    Step::Do(Command::Restart { host, name: name.into() })
}

fn scenarios() -> Vec<Scenario> {
    const SUBNET: Option<&str> = Some("10.9.0.0/24");
    let blink = Duration::from_secs(1);
    let ours = || network(0, true, SUBNET);
    let own = || network(0, false, SUBNET);
    let both = |network: Step| vec![network, run(0, "a", None), run(1, "b", None)];
    let new = |name, before, then, victim| Scenario { name, before, then, victim };
    vec![
        new("a network is created", vec![], vec![network(0, true, None)], 0),
        new("a network is created with its subnet", vec![], vec![ours()], 0),
        new("a network is created by Docker's own IPAM", vec![], vec![network(0, false, None)], 0),
        new("a network comes from another host", vec![], vec![ours()], 1),
        new("a network is removed", vec![ours()], vec![no_network(0)], 0),
        new("a network is removed where it came to", vec![own()], vec![no_network(1)], 1),
        new("a network is removed elsewhere", vec![ours()], vec![no_network(0)], 1),
        new(
            "a network is removed while others use it",
            vec![ours(), run(1, "b", None)],
            vec![no_network(0)],
            0,
        ),
        new(
            "the last container of a network that was removed elsewhere ends",
            vec![ours(), run(1, "b", None), no_network(0)],
            vec![stop(1, "b")],
            1,
        ),
        new(
            "a network that was removed here is wanted back",
            vec![ours(), run(1, "b", None), no_network(0)],
            vec![network(0, true, None)],
            0,
        ),
        new(
            "a network that was removed here is wanted back with its subnet",
            vec![ours(), run(1, "b", None), no_network(0)],
            vec![own()],
            0,
        ),
        new("two hosts create one name", vec![], vec![network(0, true, None), network(1, true, None)], 0),
        new("two hosts create one subnet", vec![], vec![own(), network(1, false, SUBNET)], 1),
        new("a container starts", vec![ours(), run(1, "b", None)], vec![run(0, "a", None)], 0),
        new("a container starts at its address", vec![ours()], vec![run(0, "a", Some("10.9.0.9"))], 0),
        new("a container starts where Docker's own IPAM chooses", vec![own()], vec![run(0, "a", None)], 0),
        new("a container starts elsewhere", both(ours()), vec![run(1, "c", None)], 0),
        new("a container ends", both(ours()), vec![stop(0, "a")], 0),
        new("a container ends where Docker's own IPAM chose", both(own()), vec![stop(0, "a")], 0),
        new("a container ends elsewhere", both(own()), vec![stop(1, "b")], 0),
        new("a container is restarted", both(ours()), vec![restart(0, "a")], 0),
        new("a container is restarted where Docker's own IPAM chose", both(own()), vec![restart(0, "a")], 0),
        new("the daemon starts", both(ours()), vec![Step::Befall(Fault::KillDaemon { host: 0 })], 0),
        new(
            "the daemon starts on a host that had no power",
            both(own()),
            vec![Step::Befall(Fault::PowerOff { host: 0, time: blink })],
            0,
        ),
        new(
            "the engine starts and has lost its containers",
            both(ours()),
            vec![Step::Befall(Fault::KillEngine { host: 0, time: blink, keeps: false })],
            0,
        ),
    ]
}

/// Runs a scenario, with an end of the victim's daemon if there is one; answers the effects it had.
fn play(number: usize, ending: Option<Ending>, record: bool) -> (Run, usize) {
    let effects = std::rc::Rc::new(std::cell::Cell::new(0));
    let told = std::rc::Rc::clone(&effects);
    let seed = 1000 + u64::try_from(number).unwrap();
    let run = world::run(seed, 2, record, move || async move {
        let Scenario { before, then, victim, .. } = scenarios().remove(number);
        let mut world = World::default();
        (0..2).for_each(host::start_daemon);
        sleep(Duration::from_secs(1)).await;
        for step in before {
            take(step);
            sleep(Duration::from_secs(2)).await;
        }
        world.settle().await?;
        let so_far = effects::count(victim);
        if let Some(ending) = ending {
            effects::end_at(victim, ending);
        }
        let forgets =
            then.iter().any(|step| matches!(step, Step::Befall(Fault::KillEngine { keeps: false, .. })));
        then.into_iter().for_each(take);
        sleep(if forgets { FORGOTTEN } else { WHILE }).await;
        told.set(effects::count(victim) - so_far);
        if ending.is_some() && effects::is_to_end(victim) {
            return Err("there is no such effect".to_owned());
        }
        effects::spare_all();
        faults::end_all();
        world.settle().await?;
        world.tear_down().await
    });
    (run, effects.get())
}

fn take(step: Step) {
    match step {
        Step::Do(command) => operations::type_in(command),
        Step::Befall(fault) => faults::befall(fault),
    }
}

fn check(number: usize, ending: Option<Ending>) -> Result<usize, String> {
    let (run, effects) = play(number, ending, false);
    let Some(wrong) = run.wrong else { return Ok(effects) };
    let (again, _) = play(number, ending, true);
    let killed = again.lines.iter().position(|line| line.contains("the daemon is killed"));
    let tail = killed.unwrap_or(again.lines.len()).saturating_sub(30);
    Err(format!(
        "{} (scenario {number}), killed {ending:?}: {wrong}\n-- its log there:\n{}",
        scenarios()[number].name,
        again.lines[tail..].iter().take(90).cloned().collect::<Vec<_>>().join("\n")
    ))
}

/// All ends of one scenario.
fn all_ends(number: usize) -> Result<usize, Vec<String>> {
    let count = check(number, None).map_err(|error| vec![error])?;
    let ends = (0..count).flat_map(|at| [Moment::Before, Moment::After].map(|moment| Ending { at, moment }));
    let failures: Vec<_> = ends.filter_map(|ending| check(number, Some(ending)).err()).collect();
    if failures.is_empty() { Ok(count) } else { Err(failures) }
}

/// All ends of the scenarios of `part`. Each part is a test of its own, so that they run side by side.
fn all_ends_of(part: impl RangeBounds<usize>) {
    let only: Option<usize> = std::env::var("SCENARIO").ok().map(|text| text.parse().unwrap());
    let mine = (0..scenarios().len()).filter(|n| part.contains(n) && only.is_none_or(|only| only == *n));
    let mut failures = Vec::new();
    for number in mine {
        let start = Instant::now();
        let name = scenarios()[number].name;
        match all_ends(number) {
            Ok(count) => {
                eprintln!(
                    "{count:>4} effects, each with an end before it and one after it: {name} ({:?})",
                    start.elapsed()
                );
                assert!(count > 0, "{name} has no effect");
            }
            Err(more) => failures.extend(more),
        }
    }
    assert!(failures.is_empty(), "{} crash points:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_daemon_that_is_killed_while_a_network_begins_finds_its_way() {
    all_ends_of(..4);
}

#[test]
fn a_daemon_that_is_killed_while_a_network_ends_finds_its_way() {
    all_ends_of(4..9);
}

#[test]
fn a_daemon_that_is_killed_while_two_want_one_network_finds_its_way() {
    all_ends_of(9..13);
}

#[test]
fn a_daemon_that_is_killed_while_a_container_starts_finds_its_way() {
    all_ends_of(13..17);
}

#[test]
fn a_daemon_that_is_killed_while_a_container_ends_finds_its_way() {
    all_ends_of(17..20);
}

#[test]
fn a_daemon_that_is_killed_while_a_container_is_restarted_finds_its_way() {
    all_ends_of(20..22);
}

#[test]
fn a_daemon_that_is_killed_while_it_starts_finds_its_way() {
    all_ends_of(22..24);
}

#[test]
fn a_daemon_that_is_killed_while_its_engine_starts_finds_its_way() {
    all_ends_of(24..);
}
