//! The fast path as part of a segment: programs on its device and its ports, and what their maps say.
//!
//! An entry of a map says where frames for a station go, so it comes after all that it leads to and goes before it.
//! Whoever finds none goes by the bridge.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{MutexGuard, PoisonError},
};

use super::{Kernel, error::Failure, fdb::Rows};
use crate::{
    dataplane::{
        DataplaneError,
        fast_path::{FastPath, Found, PortEntry, Side, Target},
        names::{host_link, vxlan_link},
    },
    model::{EndpointId, MacAddr, Vni},
    plan::{Op, Port},
};

/// No host is at this address.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Kernel {
    /// Opens or closes the short way into a segment's containers.
    pub(super) async fn set_path(&self, vni: Vni, open: bool) -> Result<(), DataplaneError> {
        let what = format!("fast path of segment {vni}");
        let during = |failure: Failure| failure.during(&what);
        let name = vxlan_link(vni);
        let Some(link) = self.inside.link(&name).await.map_err(during)? else {
            return Err(refused(&what, format!("its VXLAN device {name} is missing")));
        };
        let rows = if open { self.inside.fdb_of(link.index).await.map_err(during)? } else { Rows::default() };
        self.with_fast_path(|fast| {
            if !open {
                return fast.close(vni);
            }
            rows.own.keys().try_for_each(|mac| fast.set_station(vni, *mac, Target::Tunnel))?;
            fast.attach(self.inside.namespace(), &[(link.index, Side::Tunnel(vni))])?;
            fast.set_tunnel(vni, link.index)
        })
        .map_err(|detail| refused(&what, detail))
    }

    /// A port's programs and entries, or their end.
    pub(super) async fn set_port_path(&self, vni: Vni, link: u32, port: Port) -> Result<(), DataplaneError> {
        let what = format!("fast path of the port with {} in segment {vni}", port.mac);
        let tunnel = self.inside.link(&vxlan_link(vni)).await.map_err(|failure| failure.during(&what))?;
        self.with_fast_path(|fast| {
            if !port.fast {
                return fast.drop_port(link);
            }
            let tunnel = tunnel.map_or(0, |link| link.index);
            fast.set_port(
                link,
                PortEntry { vni, tunnel, mtu: port.mtu, mac: port.mac, sources: port.sources },
            )?;
            fast.set_station(vni, port.mac, Target::Port(link))?;
            fast.attach(self.inside.namespace(), &[(link, Side::Container)])
        })
        .map_err(|detail| refused(&what, detail))
    }

    /// The same for a port that is there.
    pub(super) async fn set_path_of(
        &self,
        vni: Vni,
        endpoint: &EndpointId,
        port: Port,
    ) -> Result<(), DataplaneError> {
        let name = host_link(endpoint);
        let what = format!("fast path of port {name} in segment {vni}");
        let link = self.inside.link(&name).await.map_err(|failure| failure.during(&what))?;
        let link = link.ok_or_else(|| refused(&what, "it is missing".into()))?;
        self.set_port_path(vni, link.index, port).await
    }

    /// Before a port's link goes.
    pub(super) fn forget_port_path(&self, link: u32) -> Result<(), String> {
        self.with_fast_path(|fast| fast.forget_port(link))
    }

    /// And after that.
    pub(super) fn drop_port_path(&self, link: u32) -> Result<(), String> {
        self.with_fast_path(|fast| fast.drop_port(link))
    }

    /// Before a segment's device goes: its ports send by the bridge until another one is there.
    pub(super) fn close_path(&self, vni: Vni) -> Result<(), String> {
        self.with_fast_path(|fast| fast.set_tunnel(vni, 0))
    }

    /// Before a segment goes.
    pub(super) fn forget_paths(&self, vni: Vni) -> Result<(), String> {
        self.with_fast_path(|fast| fast.close(vni))
    }

    /// Before their forwarding entries go.
    pub(super) fn forget_stations(&self, ops: &[Op]) -> Result<(), String> {
        self.with_fast_path(|fast| {
            ops.iter().try_for_each(|op| match op {
                Op::DeleteFdb { vni, mac } => fast.remove_station(*vni, *mac),
                _ => Ok(()),
            })
        })
    }

    /// A station whose forwarding entry is there, where its segment has the short way.
    pub(super) fn add_station(&self, vni: Vni, mac: MacAddr) -> Result<(), String> {
        self.with_fast_path(|fast| {
            if fast.is_open(vni) { fast.set_station(vni, mac, Target::Tunnel) } else { Ok(()) }
        })
    }

    /// What the programs' maps and links are, for the links of our namespace.
    pub(super) fn paths(&self, links: &[u32]) -> Result<Paths, DataplaneError> {
        let found = self.fast_path_lock().as_ref().map(|fast| fast.find(self.inside.namespace(), links));
        let found = found.transpose().map_err(|detail| refused("reading the fast path", detail))?;
        Ok(Paths(found.unwrap_or_default()))
    }

    pub(super) fn fast_path_lock(&self) -> MutexGuard<'_, Option<FastPath>> {
        self.fast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is to be done where there is no fast path.
    fn with_fast_path(&self, f: impl FnOnce(&mut FastPath) -> Result<(), String>) -> Result<(), String> {
        self.fast_path_lock().as_mut().map_or(Ok(()), f)
    }
}

fn refused(what: &str, detail: String) -> DataplaneError {
    DataplaneError::Refused { what: what.to_owned(), detail }
}

/// What was found of the fast path, as parts of segments and ports.
#[derive(Debug, Default)]
pub(super) struct Paths(Found);

impl Paths {
    /// The device hands on what comes for a container.
    pub(super) fn is_open(&self, vni: Vni, vxlan: u32) -> bool {
        self.0.attached.get(&vxlan) == Some(&Side::Tunnel(vni))
    }

    /// Whether a port has all of the fast path or nothing of it; `None`: a part.
    pub(super) fn of_port(&self, vni: Vni, link: u32, port: &Port, tunnel: Option<u32>) -> Option<bool> {
        let attached = self.0.attached.get(&link) == Some(&Side::Container);
        let entry = self.0.ports.get(&link);
        let station = self.0.stations.get(&vni).and_then(|stations| stations.get(&port.mac));
        let station = station == Some(&Target::Port(link));
        let tunnel = tunnel.unwrap_or(0);
        let wanted = PortEntry { vni, tunnel, mtu: port.mtu, mac: port.mac, sources: port.sources };
        match (attached, entry, station) {
            (true, Some(entry), true) if *entry == wanted => Some(true),
            (false, None, false) => Some(false),
            _ => None,
        }
    }

    /// Marks those forwarding entries of an open segment that the map does not have, and adds those that only the
    /// map has, as entries that lead nowhere.
    pub(super) fn mark(&self, vni: Vni, own: impl Fn(&MacAddr) -> bool, fdb: &mut BTreeMap<MacAddr, IpAddr>) {
        let none = BTreeMap::new();
        let stations = self.0.stations.get(&vni).unwrap_or(&none);
        for (_, vtep) in fdb.iter_mut().filter(|(mac, _)| stations.get(mac) != Some(&Target::Tunnel)) {
            *vtep = NOWHERE;
        }
        let strays: Vec<_> =
            stations.keys().copied().filter(|mac| !fdb.contains_key(mac) && !own(mac)).collect();
        fdb.extend(strays.into_iter().map(|mac| (mac, NOWHERE)));
    }
}
