//! `demo`: build a lab, show what the daemon does on it, step by step, and take it down.

mod link;
mod picture;
mod stage;

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use netns_harness::{EngineVersion, Host, KEEP_LOGS_ENV, Lab, StoreKind, interrupt, parts, wait_until};
use serde::Deserialize;

use super::status::table;
use super::{interrupt_on_signals, print, progress};
use link::{Link, PING_COUNT};
use picture::Place;
use stage::Stage;

const NETWORK: &str = "blue";

/// A download this long is told to go on.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How long the other hosts may take to have the network, on a busy machine.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

/// Engines of the hosts when none are named: the oldest and the newest.
const ENGINES: [EngineVersion; 2] = [EngineVersion::V20_10_24, EngineVersion::V28_5];

/// What the demo is made of.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The rs-overlay binary
    #[arg(long, value_name = "PATH")]
    daemon: PathBuf,
    /// Docker engine: 20.10 (20.10.24), 20.10.5, 26.1 or 28.5; give several and the hosts take turns [default: 20.10
    /// and 28.5]
    #[arg(long = "engine", value_name = "VERSION")]
    engines: Vec<EngineVersion>,
    /// Number of hosts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    hosts: u8,
    /// Cluster store: etcd, consul or embedded (in the first host's daemon)
    #[arg(long, default_value = "etcd")]
    store: StoreKind,
    /// Name of the lab
    #[arg(long, default_value = "demo")]
    name: String,
}

/// The part of `rs-overlay network ls --format json` that the picture shows.
#[derive(Debug, Deserialize)]
struct Network {
    name: Option<String>,
    subnets: Vec<String>,
    vni: u32,
    mtu: u32,
}

/// Build, show, take down, whatever comes in between. An error when any packet or byte is lost.
pub(super) fn demo(args: &DemoArgs) -> Result<()> {
    interrupt_on_signals()?;
    ensure!(
        args.store != StoreKind::None,
        "the hosts of a demo meet in a store: choose etcd, consul or embedded"
    );
    ensure!(args.daemon.is_file(), "no daemon at {}: build it with `make build`", args.daemon.display());
    let stage = Stage::new(&args.daemon);
    print(&format!(
        "{} Docker hosts in network namespaces of this machine, cluster store {}\n",
        args.hosts, args.store
    ))?;
    let engines = args.provide_engines()?;
    let started = Instant::now();
    let lab = Lab::builder()
        .name(&args.name)
        .hosts(&engines)
        .store(args.store)
        .daemon(&args.daemon)
        .build_with_progress(&progress)?;
    progress(&format!("everything is up after {:.1} s", started.elapsed().as_secs_f32()));
    let mut shown = show(&stage, &lab);
    if interrupt::interrupted() {
        // Which command it was that gave up is of no use to the person who asked for it.
        shown = Err(anyhow!("interrupted"));
    } else if shown.is_err() {
        progress(&format!("with {KEEP_LOGS_ENV}=DIR in the environment, the logs are kept there"));
    }
    let ending = Instant::now();
    let ended = lab.finish().context("the demo's hosts cannot be torn down");
    if ended.is_ok() {
        let took = ending.elapsed().as_secs_f32();
        print(&format!("\nEverything is torn down: hosts, store, links and files ({took:.1} s).\n"))?;
    }
    shown.and(ended)
}

impl DemoArgs {
    /// The engine of every host, after a download where one is needed. An engine that cannot be had is left out,
    /// and told, unless it was asked for.
    fn provide_engines(&self) -> Result<Vec<EngineVersion>> {
        let wanted = if self.engines.is_empty() { &ENGINES[..] } else { &self.engines };
        let mut here = Vec::new();
        for &version in wanted {
            match provide(version) {
                Ok(()) => here.push(version),
                Err(error) if self.engines.is_empty() && !interrupt::interrupted() => {
                    progress(&format!("engine {version} is left out: {error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
        ensure!(!here.is_empty(), "there is no Docker engine for the demo's hosts");
        Ok(here.iter().copied().cycle().take(self.hosts.into()).collect())
    }
}

/// Have the engine in the cache, telling every few seconds that a download goes on.
fn provide(version: EngineVersion) -> Result<()> {
    let started = Instant::now();
    thread::scope(|scope| {
        let (done, wait) = sync_channel::<()>(1);
        let work = scope.spawn(move || {
            let provided = parts::engine(version).map(drop);
            drop(done);
            provided
        });
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let seconds = started.elapsed().as_secs();
            progress(&format!("engine {version} is being downloaded, this once: {seconds} s so far"));
        }
        let provided =
            work.join().map_err(|_| anyhow!("the thread that provides engine {version} panicked"))?;
        if provided.is_ok() && started.elapsed() > HEARTBEAT {
            progress(&format!("engine {version} is here"));
        }
        provided
    })
}

fn show(stage: &Stage, lab: &Lab) -> Result<()> {
    let (first, others) = lab.hosts().split_first().context("a demo without hosts")?;
    stage.heading("One command on one host makes a network")?;
    stage.run(first, &format!("docker network create -d rs-overlay --ipam-driver rs-overlay {NETWORK}"))?;
    let created = Instant::now();
    for host in others {
        wait_until(&format!("network {NETWORK} on {}", host.name()), SEEN_LIMIT, || {
            host.docker(&["network", "inspect", NETWORK]).map(|_| true)
        })?;
        let after = created.elapsed().as_millis();
        stage.note(&format!("{} has it as well, seen after {after} ms", host.name()))?;
    }
    if let Some(host) = others.first() {
        stage.run(host, "docker network ls --filter driver=rs-overlay")?;
    }

    stage.heading("A container on each host")?;
    let mut places = Vec::new();
    for host in lab.hosts() {
        let name = format!("web{}", host.number());
        let serve = "mkdir /www; dd if=/dev/urandom of=/www/data bs=1M count=8; exec httpd -f -h /www";
        stage
            .run(host, &format!("docker run -d --name {name} --network {NETWORK} busybox sh -c '{serve}'"))?;
        places.push(Place {
            host: host.name(),
            engine: host.engine_version().to_string(),
            vtep: host.vtep().to_string(),
            address: host.address(&name, NETWORK)?.to_string(),
            container: name,
        });
    }

    stage.heading("What the daemon knows, asked on any host")?;
    stage.run(first, "rs-overlay network ls")?;
    stage.run(others.last().unwrap_or(first), "rs-overlay node ls")?;

    stage.heading("Ping, every container to every other, by name")?;
    let mut links = Vec::new();
    for (host, from) in lab.hosts().iter().zip(&places) {
        for to in places.iter().filter(|to| to.host != from.host) {
            links.push(ping(stage, host, from, to)?);
        }
    }

    stage.heading("TCP, 8 MiB from each host to the next, compared by checksum")?;
    let next = |number: usize| (number + 1) % places.len();
    for (number, (host, from)) in lab.hosts().iter().zip(&places).enumerate() {
        let (to, source) = (&places[next(number)], lab.host(next(number) + 1));
        let same = download(stage, (host, from), (source, to))?;
        for link in links.iter_mut().filter(|link| link.from == from.container && link.to == to.container) {
            link.tcp = Some(same);
        }
    }

    let network = network(stage, first)?;
    let store = match lab.store_kind() {
        StoreKind::Embedded => "embedded store, in host1's daemon".to_owned(),
        _ => lab.store_url(),
    };
    stage.heading("What was built")?;
    print(&picture::draw(&network, &store, &places))?;
    print("\n")?;
    print(&summary(&network, &places, &links))?;
    let failed: Vec<String> = links
        .iter()
        .filter(|link| link.failed())
        .map(|link| format!("{} -> {}", link.from, link.to))
        .collect();
    if !failed.is_empty() {
        bail!("not everything arrived: {}", failed.join(", "));
    }
    print("\n")?;
    stage.good(&format!("All {} pings and {} downloads arrived whole.", links.len(), places.len()))
}

fn ping(stage: &Stage, host: &Host, from: &Place, to: &Place) -> Result<Link> {
    // A name reaches the other hosts moments after its container has started.
    let resolves = format!("docker exec {} nslookup {}", from.container, to.container);
    wait_until(&format!("{} to know {}", from.container, to.container), SEEN_LIMIT, || {
        stage.quietly(host, &resolves).map(|said| said.contains(&to.address))
    })?;
    let line = format!("docker exec {} ping -c {PING_COUNT} -i 0.1 {}", from.container, to.container);
    // A ping without an answer is a line of the table, not the end of the show.
    let said = stage.try_run(host, &line, |text| {
        text.lines().skip_while(|line| !line.contains("packets transmitted")).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Link::of_ping(&from.container, &to.container, &said.stdout))
}

/// Whether `from` gets the file of `to` as it is there.
fn download(stage: &Stage, from: (&Host, &Place), to: (&Host, &Place)) -> Result<bool> {
    let begun = Instant::now();
    let line =
        format!("docker exec {} wget -q -O - http://{}/data | sha256sum", from.1.container, to.1.address);
    let got = stage.try_run(from.0, &line, str::to_owned)?;
    let took = begun.elapsed().as_millis();
    let there = stage.run(to.0, &format!("docker exec {} cat /www/data | sha256sum", to.1.container))?;
    let same = got.status.success() && got.stdout.trim() == there.trim();
    if same {
        stage.good(&format!("the same checksum, {took} ms"))?;
    } else {
        stage.bad("NOT the same")?;
    }
    Ok(same)
}

fn network(stage: &Stage, host: &Host) -> Result<Network> {
    let said = stage.quietly(host, "rs-overlay network ls --format json")?;
    let all: Vec<Network> =
        serde_json::from_str(&said).with_context(|| format!("cannot read the list of networks: {said}"))?;
    all.into_iter()
        .find(|network| network.name.as_deref() == Some(NETWORK))
        .with_context(|| format!("the daemon does not list {NETWORK}: {said}"))
}

fn summary(network: &Network, places: &[Place], links: &[Link]) -> String {
    let subnets = network.subnets.join(", ");
    let networks = table(
        ["NETWORK", "SUBNET", "VNI", "MTU"],
        [[NETWORK.to_owned(), subnets, network.vni.to_string(), network.mtu.to_string()]],
    );
    let hosts = table(
        ["HOST", "ENGINE", "VTEP", "CONTAINER", "ADDRESS"],
        places.iter().cloned().map(|p| [p.host, p.engine, p.vtep, p.container, p.address]),
    );
    let links = table(
        ["FROM", "TO", "PINGS", "LOST", "ROUND TRIP, MS (MIN/AVG/MAX)", "8 MIB BY TCP"],
        links.iter().map(Link::row),
    );
    format!("{networks}\n{hosts}\n{links}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_holds_what_was_measured() {
        let network =
            Network { name: Some("blue".into()), subnets: vec!["10.0.0.0/24".into()], vni: 4096, mtu: 1450 };
        let text = summary(&network, &picture::places(2), &[Link::of_ping("web1", "web2", "")]);
        for part in ["blue     10.0.0.0/24  4096  1450", "host2  28.5", "web1  web2  5      5"] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
}
