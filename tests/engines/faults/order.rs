//! What a user does while things break: one `docker` command, chosen by chance among those that make sense.

use std::{collections::BTreeSet, fmt};

use super::{
    chance::Chance,
    scene::{BASE, CONTAINERS},
    world::{Container, Engine},
};
use crate::kit::OURS;

/// Most containers and networks of a host beside the scene's own.
const MOST_CONTAINERS: usize = 3;
const MOST_NETWORKS: usize = 2;

/// A command of one host.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) host: usize,
    pub(crate) args: Vec<String>,
    /// Whether it concerns only what no other host can take away.
    pub(crate) certain: bool,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host{}: docker {}", self.host, self.args.join(" "))
    }
}

impl Order {
    /// The name of the container that it makes.
    pub(crate) fn container(&self) -> Option<String> {
        (self.args[0] == "run").then(|| self.args[3].clone())
    }

    /// Something that makes sense on a host whose engine has `found`; names of the scene are left alone.
    pub(crate) fn choose(host: usize, round: u32, found: &Engine, chance: &mut Chance) -> Self {
        let containers: Vec<&Container> = found
            .containers
            .iter()
            .filter(|container| !CONTAINERS.contains(&container.name.as_str()))
            .collect();
        let extra: Vec<&String> = found.networks.iter().filter(|network| *network != BASE).collect();
        let mut choices: Vec<Vec<String>> = Vec::new();
        let mut may = |words: &[&str]| choices.push(words.iter().map(ToString::to_string).collect());
        if containers.len() < MOST_CONTAINERS {
            let name = format!("r{round}h{host}");
            let mut networks = vec![BASE, BASE];
            networks.extend(extra.iter().map(|name| name.as_str()));
            let network = *chance.one_of(&networks);
            for _ in 0..3 {
                may(&["run", "-d", "--name", &name, "--net", network, "busybox", "sleep", "3600"]);
            }
        }
        if extra.len() < MOST_NETWORKS {
            let name = format!("x{round}h{host}");
            may(&[&["network", "create"], &OURS[..], &[&name]].concat());
        }
        for network in &extra {
            may(&["network", "rm", network]);
        }
        for container in &containers {
            let name = &container.name;
            may(&["rm", "-f", name]);
            if !container.running {
                may(&["start", name]);
                continue;
            }
            may(&["stop", "-t", "0", name]);
            may(&["restart", "-t", "0", name]);
            for network in &extra {
                if container.networks.contains(*network) {
                    may(&["network", "disconnect", network, name]);
                } else {
                    may(&["network", "connect", network, name]);
                }
            }
        }
        let args = chance.one_of(&choices).clone();
        // Another host may remove any other network at the same time.
        let touched: BTreeSet<&str> = args.iter().map(String::as_str).collect();
        let inside_base = |container: &&&Container| container.networks.iter().all(|network| network == BASE);
        let named = containers.iter().filter(|container| touched.contains(container.name.as_str()));
        let certain = args[0] != "network"
            && !extra.iter().any(|network| touched.contains(network.as_str()))
            && named.clone().count() == named.filter(inside_base).count();
        Self { host, args, certain }
    }
}
