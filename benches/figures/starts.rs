//! `docker run -d` and `docker rm -f` on networks of all drivers, and the driver's own share of ours.

mod share;

use anyhow::{Context as _, Result, ensure};
use netns_harness::{Host, Lab, StoreKind, interrupt};

use crate::{
    Context,
    clocked::docker,
    figure::{Better::Lower, Figure, OURS},
    rounds::{Samples, in_turn},
    stage::{self, OURS_DRIVER, THEIR_DRIVER},
};

/// Ours on engines that share networks by themselves, as the ones with Docker's overlay do: these write every
/// endpoint into their store, whoever carries the packets.
const OURS_CLASSIC: &str = "rs-overlay, classic engine";
const THEIRS: &str = "docker overlay";
const BRIDGE: &str = "docker bridge";
const NONE: &str = "none";
const OTHERS: [&str; 4] = [THEIRS, BRIDGE, NONE, "host"];

/// One network of one host, in which containers begin and end.
struct Subject<'a> {
    name: &'static str,
    host: &'a Host,
    network: &'static str,
}

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    context.progress.step("hosts");
    let plain = stage::lab(&context.daemon, 2, StoreKind::Etcd).build()?;
    let classic = stage::lab(&context.daemon, 2, StoreKind::Consul).classic().build()?;
    let figures = measure(context, &plain, &classic);
    let ended = [plain, classic].map(Lab::finish);
    let figures = figures?;
    ended.into_iter().collect::<Result<()>>()?;
    Ok(figures)
}

fn measure(context: &Context, plain: &Lab, classic: &Lab) -> Result<Vec<Figure>> {
    stage::network(plain, "ours", &OURS_DRIVER)?;
    stage::network(classic, "ours", &OURS_DRIVER)?;
    stage::network(classic, "theirs", &THEIR_DRIVER)?;
    let (host, old) = (plain.host(1), classic.host(1));
    host.docker(&["network", "create", "bridged"])?;
    let subject = |name, host, network| Subject { name, host, network };
    let subjects = [
        subject(OURS, host, "ours"),
        subject(OURS_CLASSIC, old, "ours"),
        subject(THEIRS, old, "theirs"),
        subject(BRIDGE, host, "bridged"),
        subject(NONE, host, "none"),
        subject("host", host, "host"),
    ];
    // One that stays in each network: the first container of a host has to make more than all others.
    for subject in &subjects {
        stage::container(subject.host, &format!("stays-{}", subject.network), subject.network)?;
    }
    let mut samples = Samples::default();
    let rounds = context.rounds(12, 4);
    for round in 0..rounds {
        for subject in in_turn(&subjects, round) {
            ensure!(!interrupt::interrupted(), "interrupted");
            context.progress.step(&format!("round {} of {rounds}: {}", round + 1, subject.name));
            subject.once(round, &mut samples).with_context(|| subject.name)?;
        }
    }
    let mut figures = figures(&mut samples);
    context.progress.step("the driver's own share");
    figures.extend(share::measure(context, host, "ours").context("the driver's own share")?);
    Ok(figures)
}

impl Subject<'_> {
    fn once(&self, round: usize, samples: &mut Samples) -> Result<()> {
        let name = format!("brief{round}");
        let line = ["run", "-d", "--name", &name, "--net", self.network, "busybox", "sleep", "3600"];
        let ran = docker(self.host, &line)?;
        let removed = docker(self.host, &["rm", "-f", &name])?;
        samples.add("docker-run", self.name, ran.as_secs_f64() * 1e3);
        samples.add("docker-rm", self.name, removed.as_secs_f64() * 1e3);
        Ok(())
    }
}

fn figures(samples: &mut Samples) -> Vec<Figure> {
    let subjects = || [OURS, OURS_CLASSIC].into_iter().chain(OTHERS);
    let note = "engine 20.10.5 for all, from the command's start to its end; each network has a container already. \
                On a classic engine, as with Docker's overlay, engines share the network by themselves";
    let run = samples.figure("docker-run", "docker run -d", ("ms", Lower), subjects(), note);
    let removal = samples.figure("docker-rm", "docker rm -f", ("ms", Lower), subjects(), "");
    let share = above_none(&run);
    [run, removal].into_iter().chain(share).collect()
}

/// What a network costs: the time above that of a container without one, round by round.
fn above_none(run: &Figure) -> Option<Figure> {
    let none = run.of(NONE)?.samples.clone();
    let mut figure = run.clone();
    figure.key = "docker-run-network";
    "docker run -d, above that without a network".clone_into(&mut figure.title);
    figure.note = None;
    figure.series.retain(|series| series.subject != NONE && series.subject != "host");
    for series in &mut figure.series {
        series.samples.iter_mut().zip(&none).for_each(|(sample, none)| *sample -= none);
    }
    Some(figure)
}
