//! What the kernel has of the fast path.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::{SchedClassifier, TcAttachType};

use super::{
    FROM_CONTAINER, FROM_TUNNEL, FastPath, PortEntry, Side, Target, layout::read_station, name_of, unreadable,
};
use crate::{
    dataplane::namespace::Namespace,
    model::{MacAddr, Vni},
};

/// What is in the kernel.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct Found {
    /// Links that have one of our programs, and the VNI that a VXLAN device is known to have.
    pub(in crate::dataplane) attached: BTreeMap<u32, Side>,
    /// Entries of ports, by the index of the link.
    pub(in crate::dataplane) ports: BTreeMap<u32, PortEntry>,
    /// Stations of each network.
    pub(in crate::dataplane) stations: BTreeMap<Vni, BTreeMap<MacAddr, Target>>,
}

impl FastPath {
    /// Reads what the kernel has, for these links of the namespace.
    pub(in crate::dataplane) fn find(&self, inside: &Namespace, links: &[u32]) -> Result<Found, String> {
        let attached = inside.run(|| {
            let mut attached = BTreeMap::new();
            for link in links {
                // One that has vanished has nothing.
                let Ok(name) = name_of(*link) else { continue };
                let programs = attached_here(&name, &self.ids);
                if programs.contains(FROM_CONTAINER) {
                    attached.insert(*link, Side::Container);
                } else if programs.contains(FROM_TUNNEL) {
                    let vni = self.tunnels.get(&link.to_ne_bytes(), 0).ok();
                    let vni = vni.and_then(|vni| Vni::new(u32::from_ne_bytes(vni)).ok());
                    attached.extend(vni.map(|vni| (*link, Side::Tunnel(vni))));
                }
            }
            attached
        });
        Ok(Found {
            attached: attached.map_err(|error| format!("cannot enter our network namespace: {error}"))?,
            ports: self.port_entries()?,
            stations: self.station_entries()?,
        })
    }

    pub(super) fn port_entries(&self) -> Result<BTreeMap<u32, PortEntry>, String> {
        let mut entries = BTreeMap::new();
        for entry in &self.ports {
            let (link, value) = entry.map_err(unreadable)?;
            entries.extend(PortEntry::decode(&value).map(|entry| (u32::from_ne_bytes(link), entry)));
        }
        Ok(entries)
    }

    pub(super) fn station_entries(&self) -> Result<BTreeMap<Vni, BTreeMap<MacAddr, Target>>, String> {
        let mut entries: BTreeMap<Vni, BTreeMap<MacAddr, Target>> = BTreeMap::new();
        for entry in &self.stations {
            let (key, value) = entry.map_err(unreadable)?;
            if let (Some((vni, mac)), Some(target)) = (read_station(&key), Target::decode(value)) {
                entries.entry(vni).or_default().insert(mac, target);
            }
        }
        Ok(entries)
    }
}

/// Our programs on a link in the namespace of the calling thread; others' are not shown.
pub(super) fn attached_here(link: &str, ids: &BTreeMap<u32, &'static str>) -> BTreeSet<&'static str> {
    // A link that has just vanished has none.
    let found = SchedClassifier::query_tcx(link, TcAttachType::Ingress).map(|(_, programs)| programs);
    let found = found.unwrap_or_default();
    found.iter().filter_map(|program| ids.get(&program.id()).copied()).collect()
}
