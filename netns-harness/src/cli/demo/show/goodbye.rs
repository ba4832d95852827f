//! The project leaves one host, then all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use netns_harness::Host;

use super::super::asking::{Ping, counted};
use super::super::heartbeat::all_at_once;
use super::super::left::{self, Left};
use super::super::picture::Place;
use super::super::project::{self, Replica};
use super::{Show, asker, first};

impl Show<'_> {
    /// `down` on the first host under a running ping of another one, which then goes on as it was.
    pub(super) fn leave(&self, places: &[Place]) -> Result<Ping> {
        let (leaving, staying) = places.split_first().context("a demo without hosts")?;
        let next = staying.first().context("a demo of one host")?;
        let host = self.first()?;
        let other = self.with_hosts(staying).first().context("a host that stays")?.0;
        let (from, to) = (asker(next)?, first(next, "nginx")?);
        let line = project::line(host, "down");
        self.stage.type_in(host, &line)?;
        let started = Instant::now();
        let done = AtomicBool::new(false);
        let (sent, received) = thread::scope(|scope| {
            let pinging = scope.spawn(|| self.ping_until(&done, other, from, to));
            let down = self.stage.quietly(host, &line);
            done.store(true, Ordering::SeqCst);
            let pinged = pinging.join().map_err(|_| anyhow!("the thread that pings panicked"))?;
            down.and(pinged)
        })?;
        let count = leaving.replicas.len();
        let took = started.elapsed().as_secs_f32();
        self.stage.note(&format!(
            "{count} containers and the network are gone from {}, {took:.1} s",
            host.name()
        ))?;
        let meanwhile = format!("{sent} pings from {} to {} meanwhile", from.name, to.name);
        ensure!(sent == received, "{meanwhile}, {} lost", sent.saturating_sub(received));
        self.stage.good(&format!("{meanwhile}, none lost"))?;
        self.stage.run(other, "rs-overlay network ls")?;

        self.know(staying)?;
        let all: Vec<Replica> = staying.iter().flat_map(|place| place.replicas.clone()).collect();
        let ping = self.ping(other, from, "nginx", &all, false)?;
        let others: Vec<&Replica> = all.iter().filter(|one| *one != from).collect();
        self.sweep(&[(other, from, others)], &all)?;
        Ok(ping)
    }

    /// Packets sent and received until `done`.
    fn ping_until(&self, done: &AtomicBool, host: &Host, from: &Replica, to: &Replica) -> Result<(u32, u32)> {
        let (mut sent, mut received) = (0, 0);
        while !done.load(Ordering::SeqCst) {
            let line = format!("docker exec {} ping -c 5 -i 0.1 {}", from.name, to.address);
            // Its exit status tells of lost packets only, which are counted here.
            let said = self.stage.output(host, &line)?;
            let (more, back) = counted(&said.stdout).with_context(|| format!("no ping: {said:?}"))?;
            sent += more;
            received += back;
        }
        Ok((sent, received))
    }

    /// `down` on all hosts that still have the project, and nothing is left of it.
    pub(super) fn end(&self) -> Result<Vec<Left>> {
        let rest = self.lab.hosts().get(1..).unwrap_or_default();
        for host in rest {
            self.stage.type_in(host, &project::line(host, "down"))?;
        }
        all_at_once(rest, |host| self.stage.quietly(host, &project::line(host, "down")))?;
        let started = Instant::now();
        let left = left::nothing(self.stage, self.lab)?;
        let after = started.elapsed().as_secs_f32();
        self.stage.good(&format!(
            "no container, network, link, route or record anywhere, {after:.1} s after the last `down`"
        ))?;
        Ok(left)
    }
}
