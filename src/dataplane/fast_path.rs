//! The fast path: two programs in the kernel that take known unicast past the bridges, and what their maps say.
//!
//! Nothing is pinned. Programs, links and maps belong to this process and end with it, however it ends; from the next
//! frame on everything goes by the bridges again. So each daemon begins with empty maps, and none ever meets those of
//! another release.

mod finding;
mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError, PerCpuArray},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use nix::{libc, net::if_::if_indextoname};

pub(super) use finding::Found;
use finding::attached_here;
pub(super) use layout::{PortEntry, Target};

use super::{Forged, namespace::Namespace};
use crate::model::{MacAddr, Vni};
use layout::{LinkKey, PlaceValue, PortValue, StationKey, station};

/// `make bpf` compiles it from `program.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("fast_path/program.o");

const FROM_CONTAINER: &str = "from_container";
const FROM_TUNNEL: &str = "from_tunnel";

/// Which end of the way a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A container's port.
    Container,
    /// The VXLAN device of a network.
    Tunnel(Vni),
}

impl Side {
    fn program(self) -> &'static str {
        match self {
            Self::Container => FROM_CONTAINER,
            Self::Tunnel(_) => FROM_TUNNEL,
        }
    }
}

/// The loaded programs.
pub(super) struct FastPath {
    programs: Ebpf,
    /// Numbers by which the kernel knows them.
    ids: BTreeMap<u32, &'static str>,
    ports: HashMap<MapData, LinkKey, PortValue>,
    stations: HashMap<MapData, StationKey, PlaceValue>,
    tunnels: HashMap<MapData, LinkKey, LinkKey>,
    counters: PerCpuArray<MapData, u64>,
    /// Networks of which the map has had stations: it has those of no other.
    networks: BTreeSet<Vni>,
    /// Attachments; each ends when it is dropped.
    links: BTreeMap<u32, (Side, SchedClassifierLink)>,
}

impl fmt::Debug for FastPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastPath").field("ids", &self.ids).field("links", &self.links).finish_non_exhaustive()
    }
}

impl FastPath {
    /// Loads the programs and attaches nothing. Takes some milliseconds.
    pub(super) fn load() -> Result<Self, String> {
        let loaded = EbpfLoader::new().btf(None).load(OBJECT);
        let mut programs = loaded.map_err(|error| format!("the kernel takes no maps: {}", chain(error)))?;
        let mut ids = BTreeMap::new();
        for name in [FROM_CONTAINER, FROM_TUNNEL] {
            let program = classifier(&mut programs, name)?;
            let loaded = program.load().and_then(|()| Ok(program.info()?.id()));
            let id =
                loaded.map_err(|error| format!("the kernel refuses program {name}: {}", chain(error)))?;
            ids.insert(id, name);
        }
        let mut map =
            |name: &str| programs.take_map(name).ok_or_else(|| format!("the object has no map {name}"));
        let wrong = |error: MapError| format!("a map of the object has another shape: {}", chain(error));
        Ok(Self {
            ports: map("ports")?.try_into().map_err(wrong)?,
            stations: map("stations")?.try_into().map_err(wrong)?,
            tunnels: map("tunnels")?.try_into().map_err(wrong)?,
            counters: map("counters")?.try_into().map_err(wrong)?,
            programs,
            ids,
            networks: BTreeSet::new(),
            links: BTreeMap::new(),
        })
    }

    /// Puts the programs on links of the namespace; on one that has its own already, nothing changes.
    pub(super) fn attach(&mut self, inside: &Namespace, links: &[(u32, Side)]) -> Result<(), String> {
        for (link, side) in links {
            if let Side::Tunnel(vni) = side {
                write(self.tunnels.insert(link.to_ne_bytes(), vni.get().to_ne_bytes(), 0))?;
            }
        }
        let Self { programs, ids, links: held, .. } = self;
        let attached = inside.run(|| {
            for (link, side) in links {
                let name = name_of(*link)?;
                let there = attached_here(&name, ids);
                if there.contains(side.program()) && held.get(link).is_some_and(|(of, _)| of == side) {
                    continue;
                }
                held.remove(link);
                let program = classifier(programs, side.program())?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                let taken = program
                    .attach_with_options(&name, TcAttachType::Ingress, options)
                    .and_then(|id| program.take_link(id));
                let taken =
                    taken.map_err(|error| format!("link {name} takes no program: {}", chain(error)))?;
                held.insert(*link, (*side, taken));
            }
            Ok(())
        });
        attached.map_err(|error| format!("cannot enter our network namespace: {error}"))?
    }

    /// What the port with this index is from now on.
    pub(super) fn set_port(&mut self, link: u32, entry: PortEntry) -> Result<(), String> {
        write(self.ports.insert(link.to_ne_bytes(), entry.encode(), 0))
    }

    /// Takes a port's program, its entry and its station away, as far as there are such.
    pub(super) fn drop_port(&mut self, link: u32) -> Result<(), String> {
        self.links.remove(&link);
        self.forget_port(link)
    }

    /// Takes away its entry and its station: what it sends goes by the bridge, and so does what is for it.
    pub(super) fn forget_port(&mut self, link: u32) -> Result<(), String> {
        let entry = self.ports.get(&link.to_ne_bytes(), 0).ok().and_then(|value| PortEntry::decode(&value));
        if let Some(entry) = entry {
            let key = station(entry.vni, entry.mac);
            if self.stations.get(&key, 0).ok() == Some(Target::Port(link).encode()) {
                gone_is_fine(self.stations.remove(&key))?;
            }
        }
        gone_is_fine(self.ports.remove(&link.to_ne_bytes()))
    }

    /// Where frames for a station go.
    pub(super) fn set_station(&mut self, vni: Vni, mac: MacAddr, target: Target) -> Result<(), String> {
        self.networks.insert(vni);
        write(self.stations.insert(station(vni, mac), target.encode(), 0))
    }

    /// From now on they go by the bridge.
    pub(super) fn remove_station(&mut self, vni: Vni, mac: MacAddr) -> Result<(), String> {
        gone_is_fine(self.stations.remove(&station(vni, mac)))
    }

    /// Whether what comes by the tunnel of a network takes the short way.
    pub(super) fn is_open(&self, vni: Vni) -> bool {
        self.links.values().any(|(side, _)| *side == Side::Tunnel(vni))
    }

    /// All ports of a network send by this device, or with 0 by the bridge.
    pub(super) fn set_tunnel(&mut self, vni: Vni, tunnel: u32) -> Result<(), String> {
        for (link, entry) in self.port_entries()? {
            if entry.vni == vni && entry.tunnel != tunnel {
                self.set_port(link, PortEntry { tunnel, ..entry })?;
            }
        }
        if tunnel == 0 {
            self.let_go_of_tunnel(vni)?;
        }
        Ok(())
    }

    /// All frames of a network go by its bridge, but those from container to container of this host.
    pub(super) fn close(&mut self, vni: Vni) -> Result<(), String> {
        self.set_tunnel(vni, 0)?;
        let remote: Vec<_> = self
            .station_entries()?
            .remove(&vni)
            .into_iter()
            .flatten()
            .filter(|(_, target)| *target == Target::Tunnel)
            .collect();
        remote.into_iter().try_for_each(|(mac, _)| self.remove_station(vni, mac))
    }

    /// Forgets what belongs to links that are gone, and stations of networks that are: nobody is led by them.
    pub(super) fn sweep(&mut self, links: &BTreeSet<u32>, networks: &BTreeSet<Vni>) -> Result<(), String> {
        let ports: Vec<_> = self.port_entries()?.into_keys().filter(|link| !links.contains(link)).collect();
        ports.into_iter().try_for_each(|link| self.drop_port(link))?;
        let gone: Vec<_> = self.links.keys().filter(|link| !links.contains(link)).copied().collect();
        for link in gone {
            self.links.remove(&link);
            gone_is_fine(self.tunnels.remove(&link.to_ne_bytes()))?;
        }
        // To walk through the map takes two calls for each station: not for nothing.
        if self.networks.is_subset(networks) {
            return Ok(());
        }
        for (vni, stations) in self.station_entries()?.into_iter().filter(|(vni, _)| !networks.contains(vni))
        {
            stations.into_keys().try_for_each(|mac| self.remove_station(vni, mac))?;
        }
        self.networks.retain(|vni| networks.contains(vni));
        Ok(())
    }

    /// Frames dropped since the programs were loaded.
    pub(super) fn forged(&self) -> Result<Forged, String> {
        let count = |reason| self.counters.get(&reason, 0).map(|each| each.iter().sum::<u64>());
        let read = count(0).and_then(|mac| {
            let address = (1..self.counters.len()).map(count).sum::<Result<u64, _>>()?;
            Ok(Forged { mac, address })
        });
        read.map_err(|error| format!("reading the programs' counters: {}", chain(error)))
    }

    fn let_go_of_tunnel(&mut self, vni: Vni) -> Result<(), String> {
        let of_it = |side: &Side| *side == Side::Tunnel(vni);
        let links: Vec<_> =
            self.links.iter().filter(|(_, (side, _))| of_it(side)).map(|(link, _)| *link).collect();
        for link in links {
            self.links.remove(&link);
            gone_is_fine(self.tunnels.remove(&link.to_ne_bytes()))?;
        }
        Ok(())
    }
}

fn classifier<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = programs.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| format!("program {name}: {}", chain(error)))
}

/// Name of a link in the namespace of the calling thread.
fn name_of(link: u32) -> Result<String, String> {
    let name = if_indextoname(link).map_err(|errno| format!("link {link} has vanished: {errno}"))?;
    Ok(name.to_string_lossy().into_owned())
}

fn write(result: Result<(), MapError>) -> Result<(), String> {
    result.map_err(|error| match &error {
        MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::E2BIG) => {
            "a map of the fast path is full; what is not in it goes by the bridge".to_owned()
        }
        _ => format!("writing a map of the fast path: {}", chain(error)),
    })
}

fn gone_is_fine(result: Result<(), MapError>) -> Result<(), String> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(call)) if call.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => write(other),
    }
}

fn unreadable(error: MapError) -> String {
    format!("reading a map of the fast path: {}", chain(error))
}

/// An error with its causes: aya's own texts leave them out.
fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[cfg(test)]
mod tests;
