//! Names: questions of a container at 127.0.0.11, answered by the daemon, beside Docker's own resolver for a
//! container of the same engine on a bridge network; and the same without Docker, and without packets.

mod client;

use std::{hint::black_box, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use netns_harness::{EngineVersion, Host, Lab, StoreKind};
use rs_overlay::{
    dataplane::namespace::Namespace,
    dns::{Interceptor, Names},
    model::NetworkId,
    names::{Kind, Zone, could_come, life, lookup},
};

use self::client::{Run, await_name, latencies, question, tcp, udp};
use crate::{
    Context,
    convergence::{
        etcd::{self, apart},
        layout::{self, Place},
    },
    figure::{Better, Figure, OURS, Series},
    memory::{
        Blue,
        process::{Process, cpu_in, on_network},
    },
};

const DOCKER: &str = "Docker's resolver";
/// Names in the network, as far as Docker goes, and beyond.
const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Rounds of each load, and how long one is.
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_millis(800);
/// Questions one after the other, and how many of their times become samples.
const SINGLE: usize = 8_000;
const POINTS: usize = 400;
/// Different names that are asked for.
const ASKED: usize = 1_000;
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    let lab = Lab::builder()
        .hosts(&[EngineVersion::V20_10_24])
        .store(StoreKind::Etcd)
        .daemon(&context.daemon)
        .build()?;
    let host = lab.host(1);
    let docker = beside_docker(host)?;
    let ours = ours(context, host, &lab.store_url())?;
    lab.finish()?;
    let mut figures = packets(&ours, &docker);
    figures.extend(without_docker()?);
    Ok(figures)
}

/// What was seen of a resolver that knows so many names.
struct Seen {
    names: usize,
    udp: Vec<Run>,
    tcp: Vec<Run>,
    /// Microseconds of CPU per question over UDP.
    cpu: Vec<f64>,
    single: Vec<f64>,
}

/// Asks in the namespace at `place`, of a server whose CPU time `cpu` tells.
fn look(
    place: &Path,
    asked: &[String],
    names: usize,
    cpu: &(dyn Fn() -> Result<Duration> + Sync),
) -> Result<Seen> {
    let questions: Vec<_> = asked.iter().map(|name| question(name)).collect();
    let last = questions.last().context("nothing to ask")?;
    Namespace::open(place)?.run(|| -> Result<Seen> {
        await_name(last, PATIENCE)?;
        let mut seen = Seen { names, udp: vec![], tcp: vec![], cpu: vec![], single: vec![] };
        for _ in 0..ROUNDS {
            let before = cpu()?;
            let run = udp(&questions, TIME)?;
            seen.cpu.push(1e6 * cpu()?.saturating_sub(before).as_secs_f64() / run.answers as f64);
            seen.udp.push(run);
            seen.tcp.push(tcp(&questions, TIME)?);
        }
        let single = latencies(&questions, SINGLE)?;
        let step = single.len().div_ceil(POINTS).max(1);
        seen.single = single.into_iter().rev().step_by(step).rev().collect();
        Ok(seen)
    })?
}

fn beside_docker(host: &Host) -> Result<Seen> {
    host.docker(&["network", "create", "plain"])?;
    let count = SIZES[0];
    let names: Vec<_> = (0..count).map(|n| format!("project_service-0-{n}_1")).collect();
    for name in &names {
        host.docker(&["run", "-d", "--name", name, "--network", "plain", "busybox", "sleep", "3600"])?;
    }
    let pid = host.exec(&["pidof", "dockerd"])?;
    let stat = host.path(&format!("/proc/{pid}/stat"))?;
    let seen = look(&host.container_namespace(&names[0])?, &names, count, &|| {
        cpu_in(&std::fs::read_to_string(&stat)?)
    });
    let remove: Vec<_> = ["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    host.docker(&remove)?;
    seen
}

fn ours(context: &Context, host: &Host, url: &str) -> Result<Vec<Seen>> {
    let options = ["-d", "rs-overlay", "--ipam-driver", "rs-overlay", "--subnet", "10.16.0.0/12"];
    host.docker(&[&["network", "create"], &options[..], &["blue"]].concat())?;
    host.docker(&["run", "-d", "--name", "web", "--network", "blue", "busybox", "sleep", "3600"])?;
    let blue = on_network(host, async || Blue::find(url).await)?;
    let (daemon, place) = (Process::of(host)?, host.container_namespace("web")?);
    let (mut there, mut all) = (0, Vec::new());
    for count in SIZES.into_iter().take(context.rounds(SIZES.len(), 2)) {
        context.progress.step(&format!("{count} names"));
        let more: Vec<_> = (there..count).map(|n| blue.other(n)).collect::<Result<_>>()?;
        let records = more.iter().map(layout::endpoint_record).collect();
        on_network(host, async || etcd::fill(&etcd::client_of(url, etcd::patient()).await?, records).await)?;
        there = count;
        // The kernel's rows of so many are another group's business.
        daemon.settle()?;
        let step = count.div_ceil(ASKED);
        let asked: Vec<_> =
            (0..count).step_by(step).map(|n| format!("project_service-0-{}_1", 1000 + n)).collect();
        all.push(look(&place, &asked, count, &|| daemon.cpu())?);
    }
    Ok(all)
}

fn packets(ours: &[Seen], docker: &Seen) -> Vec<Figure> {
    let series = |value: &dyn Fn(&Seen) -> Vec<f64>| -> Vec<Series> {
        let docker = Series::new(format!("{DOCKER}, {} names", docker.names), value(docker));
        let ours = ours.iter().map(|seen| Series::new(format!("{OURS}, {} names", seen.names), value(seen)));
        ours.chain([docker]).collect()
    };
    let rates = |runs: &[Run]| runs.iter().map(|run| run.rate()).collect::<Vec<_>>();
    let figure = |key, title: &str, unit, better, series, note: &str| Figure {
        key,
        title: title.to_owned(),
        unit,
        better,
        series,
        note: Some(note.to_owned()),
    };
    let load = "one client in the container's network namespace, 32 questions under way at once, on the same cores as \
                the server";
    vec![
        figure("names-udp", "Names over UDP", "1/s", Better::Higher, series(&|seen| rates(&seen.udp)), load),
        figure(
            "names-tcp",
            "Names over TCP, one connection",
            "1/s",
            Better::Higher,
            series(&|s| rates(&s.tcp)),
            load,
        ),
        figure(
            "names-per-core",
            "Names over UDP, per second of a core",
            "1/s",
            Better::Higher,
            series(&|seen| seen.cpu.iter().map(|us| 1e6 / us).collect()),
            "answers divided by the CPU time of the server's process (/proc/PID/stat) in the same load: what one core \
             that does nothing else answers; the client's time is not in it",
        ),
        figure(
            "names-latency",
            "A name, from question to answer",
            "us",
            Better::Lower,
            series(&|seen| seen.single.clone()),
            "UDP, one question after the other",
        ),
    ]
}

/// The daemon's resolver in a bare namespace, and the index alone.
fn without_docker() -> Result<Vec<Figure>> {
    let (mut loops, mut lookups) = (Vec::new(), Vec::new());
    for count in SIZES {
        let network = layout::network(0)?;
        let all: Vec<_> = (0..count)
            .map(|n| layout::published(Place { host: 1, network: 0, number: 1000 + n }))
            .collect::<Result<_>>()?;
        let zone = Zone::new([&network], all);
        let step = count.div_ceil(ASKED);
        let asked: Vec<_> =
            (0..count).step_by(step).map(|n| format!("project_service-0-{}_1", 1000 + n)).collect();
        let subject = format!("{OURS}, {count} names");
        let nanoseconds = (0..ROUNDS).map(|_| pure(&zone, &network.id, &asked)).collect();
        lookups.push(Series::new(subject.clone(), nanoseconds));
        loops.push(Series::new(subject, bare(zone, &network.id, &asked)?));
    }
    Ok(vec![
        Figure {
            key: "names-loop",
            title: "Names over UDP without daemon and engine, per second of a core".into(),
            unit: "1/s",
            better: Better::Higher,
            series: loops,
            note: Some(
                "the resolver of one sandbox on a thread of its own in an empty namespace: answers divided by that \
                 thread's CPU time"
                    .into(),
            ),
        },
        Figure {
            key: "names-lookup",
            title: "A look into the index of names".into(),
            unit: "ns",
            better: Better::Lower,
            series: lookups,
            note: Some("lookup, lifetime and whether the name may come later, without the DNS message".into()),
        },
    ])
}

fn pure(zone: &Zone, network: &NetworkId, asked: &[String]) -> f64 {
    let networks = [network.clone()];
    let (began, times) = (std::time::Instant::now(), 100_000_usize.div_ceil(asked.len()));
    for _ in 0..times {
        for name in asked {
            black_box(lookup(zone, &networks, name, Kind::A, 7));
            black_box(life(zone, &networks, name, Kind::A, Duration::from_secs(1)));
            black_box(could_come(zone, &networks, name));
        }
    }
    1e9 * began.elapsed().as_secs_f64() / (times * asked.len()) as f64
}

/// Answers per second of CPU time of the thread that answers.
fn bare(zone: Zone, network: &NetworkId, asked: &[String]) -> Result<Vec<f64>> {
    let questions: Vec<_> = asked.iter().map(|name| question(name)).collect();
    apart(|| {
        let place = Path::new("/proc/thread-self/ns/net");
        let stat = std::fs::canonicalize("/proc/thread-self")?.join("stat");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = Namespace::current()?;
        runtime.block_on(async {
            let interceptor = Interceptor::open(place, Names::fixed(zone, vec![network.clone()]))?;
            let asking = tokio::task::spawn_blocking(move || {
                inside.run(|| -> Result<Vec<f64>> {
                    let cpu = || cpu_in(&std::fs::read_to_string(&stat)?);
                    let round = |_| {
                        let before = cpu()?;
                        let run = udp(&questions, TIME)?;
                        Ok(run.answers as f64 / cpu()?.saturating_sub(before).as_secs_f64())
                    };
                    (0..ROUNDS).map(round).collect()
                })?
            });
            let answers = asking.await?;
            interceptor.close().await;
            answers
        })
    })
}
