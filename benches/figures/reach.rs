//! From the return of `docker run` on one host to the first answer on another, by address and by name.

mod prober;

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use netns_harness::{Host, Lab, LabBuilder, StoreKind, interrupt};

use self::prober::{Asker, Seen};
use crate::{
    Context,
    clocked::docker,
    figure::{Better::Lower, Figure, OURS},
    rounds::{Samples, in_turn, thinned},
    stage::{self, End, OURS_DRIVER, THEIR_DRIVER},
};

const HOSTS: usize = 3;
const NETWORK: &str = "reached";
const THEIRS: &str = "docker overlay";
/// Samples that stand for all of ours.
const POINTS: usize = 400;

/// A cluster of three hosts, with somebody on each who asks.
struct Cluster<'a> {
    subject: &'static str,
    lab: &'a Lab,
    askers: Vec<Asker<'a>>,
}

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    context.progress.step("hosts");
    let lab = |store| stage::lab(context, HOSTS, store);
    let builders = [
        ("rs-overlay, etcd", lab(StoreKind::Etcd)),
        ("rs-overlay, consul", lab(StoreKind::Consul)),
        ("rs-overlay, embedded", lab(StoreKind::Embedded)),
        (THEIRS, lab(StoreKind::Consul).classic()),
    ];
    let labs = all_at_once(builders)?;
    let figures = measure(context, &labs);
    let ended: Vec<_> = labs.into_iter().map(|(_, lab)| lab.finish()).collect();
    let figures = figures?;
    ended.into_iter().collect::<Result<()>>()?;
    Ok(figures)
}

fn all_at_once<const N: usize>(
    builders: [(&'static str, LabBuilder); N],
) -> Result<Vec<(&'static str, Lab)>> {
    thread::scope(|scope| {
        let begun = builders.map(|(subject, builder)| (subject, scope.spawn(|| builder.build())));
        let one = |(subject, lab): (_, thread::ScopedJoinHandle<'_, Result<Lab>>)| {
            let lab = lab.join().map_err(|_| anyhow!("the thread that builds a lab died"))?;
            Ok((subject, lab.with_context(|| format!("hosts of {subject}"))?))
        };
        // All are waited for before the first error ends it.
        begun.map(one).into_iter().collect()
    })
}

fn measure(context: &Context, labs: &[(&'static str, Lab)]) -> Result<Vec<Figure>> {
    let clusters: Vec<_> =
        labs.iter().map(|(subject, lab)| Cluster::new(subject, lab)).collect::<Result<_>>()?;
    let mut samples = Samples::default();
    let starts = context.rounds(34, 5);
    for start in 0..starts {
        for cluster in in_turn(&clusters, start) {
            ensure!(!interrupt::interrupted(), "interrupted");
            context.progress.step(&format!("start {} of {starts}: {}", start + 1, cluster.subject));
            let seen = cluster.start(start).with_context(|| format!("start {start}, {}", cluster.subject))?;
            let times =
                [("reach-address", seen.address), ("reach-name", seen.name), ("reach-answer", seen.resolved)];
            for (key, time) in times {
                let time = time.as_secs_f64() * 1e3;
                samples.add(key, cluster.subject, time);
                if cluster.subject != THEIRS {
                    samples.add(key, OURS, time);
                }
            }
        }
    }
    let subjects: Vec<_> = [OURS].into_iter().chain(clusters.iter().map(|cluster| cluster.subject)).collect();
    let mut figure = |key, title: &str, note: &str| {
        let mut figure = samples.figure(key, title, ("ms", Lower), &subjects, note);
        for series in &mut figure.series {
            series.samples = thinned(std::mem::take(&mut series.samples), POINTS);
        }
        figure
    };
    let note = "three hosts: a container starts on one, and on another somebody begins to ask when docker run has \
                returned, until the first answer: a packet that the container answers. 0 is less than a tenth of a \
                millisecond; rs-overlay is all three stores together";
    Ok(vec![
        figure("reach-address", "Start to reachable by address", note),
        figure("reach-name", "Start to reachable by name", "the same by name: resolved, and then answered"),
        figure("reach-answer", "Start to resolved", "the part of it until the resolver knows the name"),
    ])
}

impl<'a> Cluster<'a> {
    fn new(subject: &'static str, lab: &'a Lab) -> Result<Self> {
        let driver = if subject == THEIRS { &THEIR_DRIVER[..] } else { &OURS_DRIVER[..] };
        stage::network(lab, NETWORK, driver)?;
        let ends: Vec<_> = lab
            .hosts()
            .iter()
            .map(|host| End::container(host, &format!("asker{}", host.number()), NETWORK))
            .collect::<Result<_>>()?;
        for (place, end) in ends.iter().enumerate() {
            end.reaches(&ends[(place + 1) % ends.len()])?;
        }
        let askers = ends.into_iter().map(Asker::new).collect::<Result<_>>()?;
        Ok(Self { subject, lab, askers })
    }

    /// One container begins, is found, and ends.
    fn start(&self, number: usize) -> Result<Seen> {
        let host = &self.lab.hosts()[number % HOSTS];
        let asker = &self.askers[(number + 1) % HOSTS];
        let name = format!("started{number}");
        let seen = asker.watch(host, &name, || {
            docker(host, &["run", "-d", "--name", &name, "--net", NETWORK, "busybox", "sleep", "3600"])
        });
        let removed = removed(host, &name);
        let seen = seen?;
        removed?;
        Ok(seen)
    }
}

fn removed(host: &Host, name: &str) -> Result<()> {
    docker(host, &["rm", "-f", name]).map(drop)?;
    // What follows from the end is over before the next start, which is measured by itself.
    thread::sleep(Duration::from_millis(100));
    Ok(())
}
