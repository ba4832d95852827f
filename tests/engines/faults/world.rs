//! What is there, as the engines tell it, and what each kernel should hold because of it. Nothing here comes from
//! the daemons, but for the numbers of the networks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context, Result};
use netns_harness::{Host, Lab};
use serde_json::Value;

/// A running container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: usize,
    pub(crate) container: String,
    pub(crate) network: String,
    pub(crate) endpoint: String,
    pub(crate) mac: String,
    pub(crate) ip: IpAddr,
}

/// A container of one host, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) running: bool,
    /// Networks of any kind.
    pub(crate) networks: BTreeSet<String>,
}

/// What one engine has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) containers: Vec<Container>,
    /// Names of our networks.
    pub(crate) networks: BTreeSet<String>,
    pub(crate) places: Vec<Place>,
}

/// A network as a daemon lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) vni: u64,
    pub(crate) present: Vec<String>,
    pub(crate) missing: Vec<String>,
}

/// Forwarding entries (VNI, MAC, VTEP) and neighbours (VNI, address, MAC) of an overlay namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) devices: BTreeSet<u64>,
    pub(crate) fdb: BTreeSet<(u64, String, String)>,
    pub(crate) neighbours: BTreeSet<(u64, String, String)>,
}

impl Engine {
    pub(crate) fn of(host: &Host) -> Result<Self> {
        let mut engine = Self::default();
        let networks =
            host.docker(&["network", "ls", "--filter", "driver=rs-overlay", "--format", "{{.Name}}"])?;
        engine.networks = networks.lines().map(str::to_owned).collect();
        let ids = host.docker(&["ps", "-aq"])?;
        if ids.is_empty() {
            return Ok(engine);
        }
        // One that has gone since then makes it fail, and the caller looks again.
        let text = host.docker(&[&["inspect"], &*ids.lines().collect::<Vec<_>>()].concat())?;
        let all: Vec<Value> = serde_json::from_str(&text).context("docker inspect")?;
        for container in &all {
            engine.add(host.number(), container);
        }
        Ok(engine)
    }

    fn add(&mut self, host: usize, container: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&container["Name"]).trim_start_matches('/').to_owned();
        let running = container["State"]["Running"] == true;
        let none = serde_json::Map::new();
        let networks = container["NetworkSettings"]["Networks"].as_object().unwrap_or(&none);
        for (network, place) in networks.iter().filter(|(network, _)| self.networks.contains(*network)) {
            let Ok(ip) = text(&place["IPAddress"]).parse() else { continue };
            if running {
                self.places.push(Place {
                    host,
                    container: name.clone(),
                    network: network.clone(),
                    endpoint: text(&place["EndpointID"]),
                    mac: text(&place["MacAddress"]),
                    ip,
                });
            }
        }
        self.containers.push(Container { name, running, networks: networks.keys().cloned().collect() });
    }
}

/// The networks as the host's daemon lists them.
pub(crate) fn listed(host: &Host) -> Result<BTreeSet<Listed>> {
    let program = env!("CARGO_BIN_EXE_rs-overlay");
    let text = host.exec(&[program, "network", "ls", "--format", "json"])?;
    let rows: Vec<Value> = serde_json::from_str(&text).context("rs-overlay network ls")?;
    let names = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let listed = rows.iter().map(|row| Listed {
        name: row["name"].as_str().unwrap_or_default().to_owned(),
        id: row["id"].as_str().unwrap_or_default().to_owned(),
        vni: row["vni"].as_u64().unwrap_or_default(),
        present: names(&row["present"]),
        missing: names(&row["missing"]),
    });
    Ok(listed.collect())
}

/// What the kernel of host `number` should hold, given the containers of all hosts.
pub(crate) fn expected(lab: &Lab, number: usize, places: &[Place], vnis: &BTreeMap<String, u64>) -> Tables {
    let mut tables = Tables::default();
    for (network, vni) in vnis {
        let inside = || places.iter().filter(|place| place.network == *network);
        if !inside().any(|place| place.host == number) {
            continue;
        }
        tables.devices.insert(*vni);
        for other in inside().filter(|place| place.host != number) {
            let vtep = lab.host(other.host).vtep().to_string();
            tables.fdb.insert((*vni, other.mac.clone(), vtep));
            tables.neighbours.insert((*vni, other.ip.to_string(), other.mac.clone()));
        }
    }
    tables
}

/// What it holds, of our VXLAN devices outside of `beside`.
pub(crate) fn found(host: &Host, beside: &BTreeSet<u64>) -> Result<Tables> {
    let overlay = "--net=/run/docker/rs-overlay/netns/overlay";
    let ask = |argv: &[&str]| -> Result<Vec<Value>> {
        let text = host.exec(&[&["nsenter", overlay], argv].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{argv:?}: {text}"))
    };
    let mut tables = Tables::default();
    let mut devices = BTreeMap::new();
    for link in ask(&["ip", "-j", "-d", "link", "show", "type", "vxlan"])? {
        let vni = link["linkinfo"]["info_data"]["id"].as_u64().context("a VXLAN device without a VNI")?;
        if !beside.contains(&vni) {
            devices.insert(link["ifname"].as_str().unwrap_or_default().to_owned(), vni);
            devices.insert(link["master"].as_str().unwrap_or_default().to_owned(), vni);
            tables.devices.insert(vni);
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for entry in ask(&["bridge", "-j", "fdb", "show"])? {
        if let (Some(vtep), Some(vni)) = (entry["dst"].as_str(), devices.get(&text(&entry["ifname"]))) {
            tables.fdb.insert((*vni, text(&entry["mac"]), vtep.to_owned()));
        }
    }
    for entry in ask(&["ip", "-j", "neigh", "show", "nud", "permanent"])? {
        if let Some(vni) = devices.get(&text(&entry["dev"])) {
            tables.neighbours.insert((*vni, text(&entry["dst"]), text(&entry["lladdr"])));
        }
    }
    Ok(tables)
}
