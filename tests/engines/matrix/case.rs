//! The labs of the matrix, and what is tried in each.

use netns_harness::{EngineVersion, Family, StoreKind};

use crate::table::{Cell, Verdict};

use EngineVersion::{V20_10_5, V20_10_24, V26_1, V28_5};

/// How engines run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Each engine for itself.
    Plain,
    /// The same with the managed plugin.
    Plugin,
    /// Engines with a cluster store of their own.
    Classic,
    /// Engines of one swarm, with the managed plugin.
    Swarm,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Plugin, Self::Classic, Self::Swarm];

    /// What people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Plain => "Plain engines",
            Self::Plugin => "Plain engines with the managed plugin",
            Self::Classic => "Engines with `--cluster-store`",
            Self::Swarm => "Swarms",
        }
    }

    pub(crate) fn explained(self) -> &'static str {
        match self {
            Self::Plain => {
                "Engines of which each has networks of its own. `rs-overlay` runs beside them, and creates a \
                 network that was created on one of them on all."
            }
            Self::Plugin => "The same, with `rs-overlay` as a plugin that the engines run.",
            Self::Classic => {
                "Engines that share networks, addresses and names in a cluster store of their own; `rs-overlay` uses \
                 the same server. No later engine can do that, and their `--cluster-advertise` takes no interface without \
                 an IPv4 address."
            }
            Self::Swarm => {
                "One swarm of all these engines, whose managers hand out networks and addresses, and whose resolvers \
                 know all names; attachable networks, with `rs-overlay` as a managed plugin. Swarms hand \
                 out IPv4 addresses alone."
            }
        }
    }

    /// What the engine calls the driver.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Plain | Self::Classic => "rs-overlay",
            Self::Plugin | Self::Swarm => "rs-overlay:latest",
        }
    }
}

/// Families of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Families {
    Four,
    Both,
    Six,
}

impl Families {
    pub(crate) const ALL: [Self; 3] = [Self::Four, Self::Both, Self::Six];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Four => "IPv4",
            Self::Both => "IPv4 and IPv6",
            Self::Six => "IPv6 alone",
        }
    }

    /// Options of `docker network create`.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Four => &[],
            Self::Both => &["--ipv6"],
            Self::Six => &["--ipv4=false", "--ipv6"],
        }
    }

    /// Whether an engine of this release can have such networks: the switch that leaves IPv4 out came with 28.0.
    pub(crate) fn known_to(self, engine: EngineVersion) -> bool {
        self != Self::Six || engine >= V28_5
    }
}

/// One lab.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) mode: Mode,
    pub(crate) engines: &'static [EngineVersion],
    pub(crate) store: StoreKind,
    pub(crate) underlay: Family,
    pub(crate) families: &'static [Families],
}

impl Case {
    /// All of it. The last engine is there twice, since an IPv6 network needs two that know such.
    pub(crate) fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for underlay in [Family::V4, Family::V6] {
            for store in [StoreKind::Etcd, StoreKind::Consul, StoreKind::Embedded] {
                let engines = &[V20_10_5, V20_10_24, V26_1, V28_5, V28_5];
                let families = &Families::ALL;
                cases.push(Self { mode: Mode::Plain, engines, store, underlay, families });
            }
        }
        for store in [StoreKind::Etcd, StoreKind::Consul] {
            let case = |mode, engines, underlay, families| Self { mode, engines, store, underlay, families };
            let classic = &[V20_10_5, V20_10_5];
            cases.push(case(Mode::Classic, classic, Family::V4, &[Families::Four, Families::Both]));
            for underlay in [Family::V4, Family::V6] {
                cases.push(case(Mode::Swarm, &[V20_10_24, V26_1, V28_5], underlay, &[Families::Four]));
            }
            cases.push(case(Mode::Plugin, &[V20_10_24, V26_1, V28_5, V28_5], Family::V4, &Families::ALL));
        }
        cases
    }

    /// Each mode once.
    pub(crate) fn few() -> Vec<Self> {
        let one =
            |mode, engines, store, families| Self { mode, engines, store, underlay: Family::V4, families };
        vec![
            one(Mode::Plain, &[V20_10_24, V28_5], StoreKind::Etcd, &[Families::Both]),
            one(Mode::Classic, &[V20_10_5, V20_10_5], StoreKind::Consul, &[Families::Four]),
            one(Mode::Swarm, &[V26_1, V28_5], StoreKind::Etcd, &[Families::Four]),
        ]
    }

    /// Whether the case's title has all these words, separated by commas: mode, store, family of the underlay.
    pub(crate) fn has_all(&self, words: &str) -> bool {
        let title = format!("{:?} {} {}", self.mode, self.store, self.underlay).to_lowercase();
        words.split(',').all(|word| title.split(' ').any(|part| part == word))
    }

    /// The cell of a case that ended in the middle.
    pub(crate) fn failed(&self, why: &str) -> Cell {
        let engines: Vec<_> = self.engines.iter().map(ToString::to_string).collect();
        Cell {
            mode: self.mode,
            engine: engines.join(" with "),
            families: self.families[0],
            store: self.store,
            underlay: self.underlay,
            verdict: Verdict::Failed(why.to_owned()),
        }
    }
}
