//! The containers that talk while things break, and the accounts of what they lose.

use std::net::IpAddr;

use netns_harness::{EngineVersion, Host, Lab, StoreKind};

use super::{
    asker::{Found, Sandbox, Watch},
    pinger::Pinger,
    stream::Stream,
};
use crate::kit::{assert_clean, builder, create, ping, run};

/// The network that is there all the time.
pub(crate) const BASE: &str = "base";

/// All containers that are there all the time.
pub(crate) const CONTAINERS: [&str; 6] = ["talks1", "named1", "talks2", "named2", "talks3", "named3"];

/// The container of this host that asks.
pub(crate) fn asking(host: usize) -> String {
    format!("talks{host}")
}

/// Two containers on each host: one that asks and talks, `talks1`, and one that is asked for, `named1`.
pub(crate) struct Scene {
    pub(crate) pinger: Pinger,
    pub(crate) stream: Stream,
    /// Per host that nothing happens to: questions for a name of the same host.
    pub(crate) watches: Vec<Watch>,
    pub(crate) lab: Lab,
}

impl Scene {
    pub(crate) fn new(engines: &[EngineVersion], store: StoreKind) -> Self {
        Self::build(engines, engines.len(), store)
    }

    /// The same with one more host, whose names nobody watches.
    pub(crate) fn beside(engines: &[EngineVersion], other: EngineVersion, store: StoreKind) -> Self {
        Self::build(&[engines, &[other]].concat(), engines.len(), store)
    }

    fn build(engines: &[EngineVersion], talking: usize, store: StoreKind) -> Self {
        // With a server that denies names, an engine's resolver does so as well and keeps nobody waiting.
        let outside = [("outside.example", IpAddr::from([198, 51, 100, 7]))];
        let lab = builder(engines, store).resolver(&outside).build().unwrap();
        create(&lab, 1, BASE, &["--subnet", "10.80.0.0/24"]);
        for host in lab.hosts() {
            for name in ["talks", "named"] {
                run(host, &format!("{name}{}", host.number()), BASE, &[]);
            }
        }
        let (one, two) = (lab.host(1), lab.host(2));
        let ip = two.address("talks2", BASE).unwrap();
        ping(one, "talks1", ip);
        let pinger = Pinger::start(one, "talks1", ip);
        let stream = Stream::start((one, "talks1"), (two, "talks2"), ip);
        let watches = lab.hosts().iter().take(talking).map(watch).collect();
        Self { pinger, stream, watches, lab }
    }

    /// What was lost or wrong so far, as lines.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let (gaps, twice) = self.pinger.gaps();
        let mut lines: Vec<String> = gaps.iter().map(|gap| format!("lost: {gap}")).collect();
        if twice > 0 {
            lines.push(format!("{twice} pings were answered twice"));
        }
        for (watch, host) in self.watches.iter().zip(self.lab.hosts()) {
            lines.extend(watch.found().wrong.iter().map(|wrong| format!("{}: {wrong}", host.name())));
        }
        lines
    }

    /// All is taken down, nothing was lost, and nothing is left.
    pub(crate) fn finish(self) {
        let complaints = self.complaints();
        let Self { pinger, stream, watches, lab } = self;
        let found: Vec<Found> = watches.iter().map(Watch::found).collect();
        let pause = stream.longest_pause();
        let sum = stream.finish();
        eprintln!(
            "{} pings answered in {:.0?}; {} MB over one connection, which stood still for {:.1?} at most",
            pinger.answered(),
            pinger.clock(),
            sum.bytes >> 20,
            pause
        );
        for (found, host) in found.iter().zip(lab.hosts()) {
            eprintln!(
                "{}: {} questions for a local name, {} of them asked again, the slowest took {:.0?}",
                host.name(),
                found.asked,
                found.repeated,
                found.slowest
            );
        }
        drop((pinger, watches));
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        assert_clean(&lab);
    }
}

/// Questions on a host for its other container.
fn watch(host: &Host) -> Watch {
    let (number, name) = (host.number(), format!("named{}", host.number()));
    let address = host.address(&name, BASE).unwrap();
    Watch::start(Sandbox::of(host, &asking(number)), &name, address)
}
