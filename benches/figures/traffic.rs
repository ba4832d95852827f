//! The data path: throughput, packet rate, round trips and CPU, across hosts and on one.

mod figures;
mod iperf;
mod subjects;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netns_harness::interrupt;

use self::{
    figures::What,
    subjects::{Stage, Subject},
};
use crate::{
    Context,
    between::{Cores, flood, round_trips},
    figure::{Figure, quantile},
    rounds::{Samples, in_turn},
};

/// Round trips of one visit.
const ROUND_TRIPS: usize = 9_000;
/// For how long packets are sent in one visit.
const FLOOD: Duration = Duration::from_millis(300);

/// A visit to one subject.
type Measure = fn(&Subject<'_>, &mut Samples) -> Result<()>;

const MEASURES: [(&str, Measure); 6] = [
    ("TCP, one stream", one_stream),
    ("TCP, four streams", four_streams),
    ("UDP, 64 bytes", |subject, samples| packets(subject, samples, What::Small, 64)),
    ("UDP, 1,400 bytes", |subject, samples| packets(subject, samples, What::Large, 1400)),
    ("round trips on one core", one_core),
    ("round trips on two cores", two_cores),
];

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    context.progress.step("hosts and containers");
    let labs = subjects::labs(context)?;
    let mut figures = Vec::new();
    let result = {
        let stage = Stage::new(context, &labs)?;
        let across = visit(context, &stage.across, "across hosts", context.rounds(4, 1));
        let local = across.and_then(|across| {
            figures.extend(across);
            visit(context, &stage.local, "on one host", context.rounds(2, 1))
        });
        local.map(|local| figures.extend(local))
    };
    let ended: Vec<_> = labs.into_iter().map(netns_harness::Lab::finish).collect();
    result?;
    ended.into_iter().collect::<Result<()>>()?;
    Ok(figures)
}

/// Every measure of every subject, subject by subject, as often as there are rounds.
fn visit(context: &Context, subjects: &[Subject<'_>], place: &str, rounds: usize) -> Result<Vec<Figure>> {
    let mut samples = Samples::default();
    for round in 0..rounds {
        for (title, measure) in MEASURES {
            for subject in in_turn(subjects, round) {
                ensure!(!interrupt::interrupted(), "interrupted");
                let name = &subject.name;
                context.progress.step(&format!("{place}, round {} of {rounds}: {title}, {name}", round + 1));
                measure(subject, &mut samples).with_context(|| format!("{title}, {name}, {place}"))?;
            }
        }
    }
    let local = subjects.iter().any(|subject| subject.local);
    let names: Vec<_> = subjects.iter().map(|subject| subject.name.clone()).collect();
    Ok(figures::ALL.iter().map(|row| row.figure(&mut samples, &names, local)).collect())
}

fn one_stream(subject: &Subject<'_>, samples: &mut Samples) -> Result<()> {
    let ran = subject.iperf.run(&subject.from, 1)?;
    samples.add(What::Stream.key(subject.local), &subject.name, ran.gigabits);
    samples.add(What::Cpu.key(subject.local), &subject.name, ran.cpu);
    Ok(())
}

fn four_streams(subject: &Subject<'_>, samples: &mut Samples) -> Result<()> {
    let ran = subject.iperf.run(&subject.from, 4)?;
    samples.add(What::Streams.key(subject.local), &subject.name, ran.gigabits);
    Ok(())
}

fn packets(subject: &Subject<'_>, samples: &mut Samples, what: What, size: usize) -> Result<()> {
    let rate = flood(&subject.from.namespace, subject.to(), size, FLOOD)?;
    samples.add(what.key(subject.local), &subject.name, rate / 1e3);
    Ok(())
}

fn one_core(subject: &Subject<'_>, samples: &mut Samples) -> Result<()> {
    let times = round_trips(&subject.from.namespace, subject.to(), ROUND_TRIPS, Cores::One)?;
    samples.add(What::OneCoreHalf.key(subject.local), &subject.name, quantile(&times, 0.5));
    samples.add(What::OneCoreMost.key(subject.local), &subject.name, quantile(&times, 0.99));
    samples.extend(What::OneCoreAll.key(subject.local), &subject.name, times);
    Ok(())
}

fn two_cores(subject: &Subject<'_>, samples: &mut Samples) -> Result<()> {
    let times = round_trips(&subject.from.namespace, subject.to(), ROUND_TRIPS, Cores::Two)?;
    samples.add(What::TwoCoresHalf.key(subject.local), &subject.name, quantile(&times, 0.5));
    samples.add(What::TwoCoresMost.key(subject.local), &subject.name, quantile(&times, 0.99));
    Ok(())
}
