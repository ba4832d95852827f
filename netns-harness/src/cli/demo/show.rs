//! The show itself: a compose project's life on several hosts, step by step.

mod goodbye;
mod scale;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netns_harness::{Host, Lab, StoreKind, wait_until};
use serde::Deserialize;

use super::super::print;
use super::asking::{self, Ping, answers};
use super::engines::compose;
use super::heartbeat::all_at_once;
use super::picture::{self, Place};
use super::project::{self, NETWORK, Replica, SERVICES};
use super::stage::Stage;
use super::summary::{Findings, tables};

/// How long the other hosts may take to have a network or a name, on a busy machine.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

/// Replicas of each service on each host, in the end.
const REPLICAS: usize = 5;

/// A name that several hosts bear leads to each of them in turn, by lot: this often it has not led across by then only
/// if something is wrong.
const TRIES: usize = 100;

/// What the steps share.
struct Show<'a> {
    stage: &'a Stage,
    lab: &'a Lab,
}

/// A part of `rs-overlay name lookup --format json`.
#[derive(Deserialize)]
struct Known {
    holders: Vec<Holder>,
}

#[derive(Deserialize)]
struct Holder {
    addresses: Vec<std::net::IpAddr>,
}

/// From the first `up` to the last `down`. An error when any step of it fails.
pub(super) fn show(stage: &Stage, lab: &Lab) -> Result<()> {
    let show = Show { stage, lab };
    project::write(lab)?;
    stage.step("One compose file, the same on every host", || stage.file(project::FILE))?;
    let mut places = stage.step("The project comes up, one host after the other", || show.up())?;
    stage.step("What was built", || {
        print(&picture::draw(&project::network(stage, show.first()?)?, &show.store(), &places))
    })?;
    let few = stage.step("Pings both ways, by container name, alias and service name", || {
        show.know(&places)?;
        show.few(&places)
    })?;
    let title = format!("Scale to {REPLICAS} + {REPLICAS} on every host");
    let (network, every) = stage.step(&title, || {
        show.scale(&mut places)?;
        let every = show.every(&places)?;
        show.pages(&places)?;
        Ok((project::network(stage, show.first()?)?, every))
    })?;
    let title = format!("Down on {}, while the project goes on elsewhere", show.first()?.name());
    let after = stage.step(&title, || show.leave(&places))?;
    let left = stage.step("Down everywhere: nothing is left", || show.end())?;
    let findings = Findings { network, places, few, every, after, left };
    stage.step("What the demo saw", || print(&tables(&findings)))?;
    let pings = findings.few.len() + findings.every.len() + 1;
    print("\n")?;
    stage.good(&format!("All {pings} pings of the tables were answered, and nothing is left of the project."))
}

impl<'a> Show<'a> {
    fn first(&self) -> Result<&'a Host> {
        self.lab.hosts().first().context("a demo without hosts")
    }

    fn store(&self) -> String {
        match self.lab.store_kind() {
            StoreKind::Embedded => "embedded store, in host1's daemon".to_owned(),
            _ => self.lab.store_url(),
        }
    }

    /// One replica of each service on every host.
    fn up(&self) -> Result<Vec<Place>> {
        let hosts = self.lab.hosts();
        let mut places = Vec::new();
        for host in hosts {
            let before = (!places.is_empty()).then(|| self.network_id(host)).transpose()?;
            let line = project::line(host, "up -d");
            self.stage.type_in(host, &line)?;
            let started = Instant::now();
            self.stage.quietly(host, &line)?;
            let took = started.elapsed().as_secs_f32();
            let place = self.place(host)?;
            ensure!(place.replicas.len() == SERVICES.len(), "containers after `up`: {:?}", place.replicas);
            match before {
                None => {
                    self.stage.note(&format!("{NETWORK} and {} containers, {took:.1} s", SERVICES.len()))?;
                    self.appears()?;
                }
                Some(before) => {
                    let same = before == self.network_id(host)?;
                    ensure!(same, "compose replaced {NETWORK} on {}: it did not see its own", host.name());
                    let found = format!("found {NETWORK} as its own, {} containers", SERVICES.len());
                    self.stage.note(&format!("{found}, {took:.1} s"))?;
                }
            }
            places.push(place);
        }
        Ok(places)
    }

    fn network_id(&self, host: &Host) -> Result<String> {
        self.stage.quietly(host, &format!("docker network inspect -f '{{{{.Id}}}}' {NETWORK}"))
    }

    /// Wait until every other host has the network.
    fn appears(&self) -> Result<()> {
        let started = Instant::now();
        for host in self.lab.hosts().iter().skip(1) {
            wait_until(&format!("network {NETWORK} on {}", host.name()), SEEN_LIMIT, || {
                self.network_id(host).map(|_| true)
            })?;
            let after = started.elapsed().as_millis();
            self.stage.note(&format!("{} has the network as well, seen after {after} ms", host.name()))?;
        }
        Ok(())
    }

    fn place(&self, host: &Host) -> Result<Place> {
        let version = format!("{} version --short", compose(host.engine_version()));
        Ok(Place {
            host: host.name(),
            engine: host.engine_version().to_string(),
            compose: self.stage.quietly(host, &version)?,
            vtep: host.vtep().to_string(),
            replicas: project::replicas(self.stage, host)?,
        })
    }

    /// Wait until every host knows all these containers and no others, and ensure that their names lead to them.
    ///
    /// Its daemon is asked first: a container that asks too early waits for a name server outside, which a lab has not.
    fn know(&self, places: &[Place]) -> Result<()> {
        let all: Vec<Replica> = places.iter().flat_map(|place| place.replicas.clone()).collect();
        let mut names = BTreeMap::new();
        for service in SERVICES {
            names.insert(service.to_owned(), project::addresses(&all, |one| one.service == service));
        }
        all_at_once(self.with_hosts(places), |(host, place)| {
            let what = format!("all {} containers in the names of {}", all.len(), host.name());
            wait_until(&what, SEEN_LIMIT, || -> Result<bool> {
                for (name, wanted) in &names {
                    let said =
                        self.stage.quietly(host, &format!("rs-overlay name lookup {name} --format json"))?;
                    let known: Known =
                        serde_json::from_str(&said).with_context(|| format!("cannot read {said}"))?;
                    let found = known.holders.into_iter().flat_map(|one| one.addresses).collect();
                    ensure!(*wanted == found, "{name} is {found:?}, not {wanted:?}");
                }
                Ok(true)
            })?;
            let mut names = names.clone();
            for one in all.iter().filter(|one| one.host != host.name()) {
                names.insert(project::own_name(one, &all).to_owned(), [one.address].into());
            }
            let asker = &asker(place)?.name;
            let what = format!("all names for {asker} on {}", host.name());
            wait_until(&what, SEEN_LIMIT, || asking::resolves(self.stage, host, asker, &names).map(|()| true))
        })
        .map(drop)
    }

    /// Every place with its host.
    fn with_hosts<'b>(&self, places: &'b [Place]) -> Vec<(&'a Host, &'b Place)> {
        let host = |place: &Place| self.lab.hosts().iter().find(|host| host.name() == place.host);
        places.iter().filter_map(|place| Some((host(place)?, place))).collect()
    }

    /// Each host's first `php` asks for the next host's `nginx` under its name and its alias, and the other way round
    /// by service name.
    fn few(&self, places: &[Place]) -> Result<Vec<Ping>> {
        let all: Vec<Replica> = places.iter().flat_map(|place| place.replicas.clone()).collect();
        let mut pings = Vec::new();
        for ((host, from), to) in self.with_hosts(places).into_iter().zip(places.iter().cycle().skip(1)) {
            let (php, nginx) = (asker(from)?, first(from, "nginx")?);
            let other = first(to, "nginx")?;
            for (from, name) in [(php, project::own_name(other, &all)), (php, "nginx"), (nginx, "php")] {
                pings.push(self.ping(host, from, name, &all, true)?);
            }
        }
        Ok(pings)
    }

    /// Ping a name until another host's container answers, if it has to be one.
    fn ping(&self, host: &Host, from: &Replica, name: &str, all: &[Replica], across: bool) -> Result<Ping> {
        let line = format!("docker exec {} ping -c 1 {name}", from.name);
        self.stage.type_in(host, &line)?;
        for tries in 1..=TRIES {
            let said = self.stage.quietly(host, &line)?;
            let Some(answer) = answers(&said).remove(name) else { bail!("no answer in {said:?}") };
            let by = all.iter().find(|one| one.address == answer.address);
            let by = by.with_context(|| format!("{} is nobody's address: {said}", answer.address))?;
            if across && by.host == from.host {
                continue;
            }
            let line = said.lines().find(|line| line.contains(" bytes from ")).unwrap_or_default();
            print(&format!("{line}\n"))?;
            let turns = match tries {
                1 => String::new(),
                _ => format!(", at ping {tries}: {}'s own has that name too", from.host),
            };
            self.stage.note(&format!("{} of {}{turns}", by.name, by.host))?;
            return Ok(Ping {
                from: from.name.clone(),
                from_host: from.host.clone(),
                asked: name.to_owned(),
                by: by.name.clone(),
                by_host: by.host.clone(),
                answer,
            });
        }
        bail!("{name} led {} to no other host in {TRIES} pings", from.name)
    }
}

/// The container of a place that asks.
fn asker(place: &Place) -> Result<&Replica> {
    first(place, "php")
}

fn first<'a>(place: &'a Place, service: &str) -> Result<&'a Replica> {
    let one = place.replicas.iter().find(|one| one.service == service);
    one.with_context(|| format!("{} has no container of {service}", place.host))
}
