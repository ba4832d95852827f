//! More replicas, all of which must resolve, answer and serve.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use netns_harness::{Host, wait_until};

use super::super::asking::{Ping, answers, braces};
use super::super::heartbeat::all_at_once;
use super::super::picture::Place;
use super::super::project::{self, Replica, SERVICES};
use super::{REPLICAS, SEEN_LIMIT, Show, asker};

/// Pages that the first host asks for by alias.
const PAGES: usize = 20;

impl Show<'_> {
    /// All hosts at once.
    pub(super) fn scale(&self, places: &mut [Place]) -> Result<()> {
        let arguments = project::up(REPLICAS);
        for host in self.lab.hosts() {
            self.stage.type_in(host, &project::line(host, &arguments))?;
        }
        let started = Instant::now();
        all_at_once(self.lab.hosts(), |host| self.stage.quietly(host, &project::line(host, &arguments)))?;
        let took = started.elapsed();
        for (host, place) in self.lab.hosts().iter().zip(places.iter_mut()) {
            place.replicas = project::replicas(self.stage, host)?;
            let count = place.replicas.len();
            ensure!(count == REPLICAS * SERVICES.len(), "{count} containers on {}", host.name());
        }
        let all: usize = places.iter().map(|place| place.replicas.len()).sum();
        self.stage.note(&format!("all hosts at once: {all} containers after {:.1} s", took.as_secs_f32()))?;
        self.know(places)?;
        for (host, place) in self.with_hosts(places) {
            let line = format!("docker exec {} nslookup -type=a nginx | grep -c ^Name", asker(place)?.name);
            self.stage.run(host, &line)?;
        }
        let after = started.elapsed().saturating_sub(took).as_millis();
        self.stage.note(&format!("every replica is found by its name on the other side, after {after} ms"))
    }

    /// Every host's first `php` pings every replica of the next host by name.
    pub(super) fn every(&self, places: &[Place]) -> Result<Vec<Ping>> {
        let all: Vec<Replica> = places.iter().flat_map(|place| place.replicas.clone()).collect();
        let next = places.iter().cycle().skip(1);
        let jobs: Vec<_> = self
            .with_hosts(places)
            .into_iter()
            .zip(next)
            .map(|((host, from), to)| Ok((host, asker(from)?, to.replicas.iter().collect())))
            .collect::<Result<_>>()?;
        self.sweep(&jobs, &all)
    }

    /// Each of these containers pings all of those that go with it, one after the other, all containers at once.
    pub(super) fn sweep(
        &self,
        jobs: &[(&Host, &Replica, Vec<&Replica>)],
        all: &[Replica],
    ) -> Result<Vec<Ping>> {
        let line = |from: &Replica, to: &[&Replica]| {
            let names: Vec<&str> = to.iter().map(|one| project::own_name(one, all)).collect();
            let script = "for name; do ping -c 1 $name; done";
            format!("docker exec {} sh -c '{script}' sh {}", from.name, braces(&names))
        };
        for (host, from, to) in jobs {
            self.stage.type_in(host, &line(from, to))?;
        }
        let said = all_at_once(jobs, |(host, from, to)| {
            // One that fails is not the last one's exit status: the answers are what counts.
            self.stage.output(host, &line(from, to))
        })?;
        let mut pings = Vec::new();
        for ((host, from, to), said) in jobs.iter().zip(said) {
            let answers = answers(&said.stdout);
            let begin = pings.len();
            for one in to {
                let asked = project::own_name(one, all);
                let answer = answers.get(asked).copied();
                let answer = answer.with_context(|| {
                    format!(
                        "{asked} does not answer {} on {}: {}",
                        from.name,
                        host.name(),
                        said.stderr.trim()
                    )
                })?;
                ensure!(answer.address == one.address, "{asked} is {}, not {answer:?}", one.address);
                pings.push(Ping {
                    from: from.name.clone(),
                    from_host: from.host.clone(),
                    asked: asked.to_owned(),
                    by: one.name.clone(),
                    by_host: one.host.clone(),
                    answer,
                });
            }
            let times = pings[begin..].iter().map(|ping| ping.answer.millis);
            let (least, most) =
                times.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
            let count = to.len();
            self.stage.good(&format!(
                "{}: {count} of {count} answered, in {least:.3} to {most:.3} ms",
                host.name()
            ))?;
        }
        Ok(pings)
    }

    /// The first host's `php` fetches pages by alias: replicas of all hosts serve them.
    pub(super) fn pages(&self, places: &[Place]) -> Result<()> {
        let all: BTreeMap<&str, &Replica> =
            places.iter().flat_map(|place| &place.replicas).map(|one| (&*one.id, one)).collect();
        let host = self.first()?;
        let from = asker(places.first().context("a demo without hosts")?)?;
        // A container runs a moment before its server listens.
        let addresses = all.values().filter(|one| one.service == "nginx").map(|one| one.address.to_string());
        let addresses = addresses.collect::<Vec<_>>().join(" ");
        let listen = format!(
            "docker exec {} sh -c 'for a; do wget -q -O /dev/null http://$a/ || exit 1; done' sh {addresses}",
            from.name
        );
        wait_until("a page of every nginx", SEEN_LIMIT, || self.stage.quietly(host, &listen).map(|_| true))?;
        let script = format!("for i in $(seq {PAGES}); do wget -q -O - http://nginx/; done");
        let line = format!("docker exec {} sh -c '{script}' | sort | uniq -c", from.name);
        let said = self.stage.run_for(host, &line, |_| String::new())?;
        let mut served: BTreeMap<&str, usize> = BTreeMap::new();
        for row in said.lines() {
            let row: Vec<&str> = row.split_whitespace().collect();
            let [count, id] = row[..] else { continue };
            let one = all.get(id).with_context(|| format!("{id} served a page and is no replica"))?;
            *served.entry(&one.host).or_default() += count.parse::<usize>().unwrap_or(0);
        }
        let pages: usize = served.values().sum();
        ensure!(pages == PAGES, "{pages} pages of {PAGES} came: {said}");
        let shares: Vec<String> = served.iter().map(|(host, count)| format!("{count} from {host}")).collect();
        self.stage.good(&format!("{PAGES} pages over TCP, {}", shares.join(", ")))
    }
}
