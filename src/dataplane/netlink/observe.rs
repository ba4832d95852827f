//! What is in the kernel, as an overlay. What each deviation looks like stands in the parent module.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_route::link::InfoKind;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Kernel, error::Failure, fdb::Rows, links::Link, neighbours::Neighbours, paths::Paths, probe::good_probe,
};
use crate::{
    dataplane::{
        DataplaneError,
        names::{Named, host_link, parse_link},
        raw::give_memory_back,
        sources::Guarded,
    },
    model::{EndpointId, MacAddr, NetworkId, Vni},
    plan::{Overlay, Port, Segment, Sources, Vxlan},
};

/// Entries from which on reading them leaves memory behind that is worth giving back.
const LARGE: usize = 10_000;

/// Network of a segment of which no link tells it.
const UNNAMED: &str = "unnamed";
/// No host is at this address.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A tunnel that is not as we make it.
const NO_TUNNEL: Vxlan = Vxlan { local: NOWHERE, port: 0, mtu: 0, flood: false };

pub(super) async fn observe(kernel: &Kernel) -> Result<Overlay, DataplaneError> {
    let (inside, host) = (&kernel.inside, &kernel.host);
    let during = |what: &'static str| move |failure: Failure| failure.during(format!("reading {what}"));
    let links = inside.links().await.map_err(during("links"))?;
    let probe = links.iter().find(|link| parse_link(&link.name) == Some(Named::Vxlan(Vni::PROBE)));
    let probe = match probe {
        Some(link) => inside.addresses_of(link.index).await.map_err(during("addresses"))?,
        None => BTreeSet::new(),
    };
    let indices: Vec<_> = links.iter().map(|link| link.index).collect();
    // The largest table beside all others: it takes as long as they do together, and more.
    let aside = kernel.aside.clone();
    let rows = AbortOnDropHandle::new(tokio::spawn(async move { aside.fdb().await }));
    let neighbours = inside.neighbours().await.map_err(during("neighbours"))?;
    let (paths, guarded) = (kernel.paths(&indices)?, kernel.guarded()?);
    let rows = rows.await.unwrap_or(Err(Failure::Silent)).map_err(during("forwarding entries"))?;
    let found = Found { paths, links, probe, rows, neighbours, guarded };
    let guards = host.guards().await.map_err(during("guard routes"))?;
    let segments = found.segments();
    drop(found);
    if segments.values().map(|segment| segment.fdb.len()).sum::<usize>() >= LARGE {
        give_memory_back();
    }
    Ok(Overlay { segments, guards: guards.into() })
}

struct Found {
    /// Of the fast path.
    paths: Paths,
    links: Vec<Link>,
    /// Addresses of the probe device.
    probe: BTreeSet<Ipv6Addr>,
    rows: BTreeMap<u32, Rows>,
    neighbours: BTreeMap<u32, Neighbours>,
    /// What the rules say of each port, by its name.
    guarded: BTreeMap<String, Guarded>,
}

/// The links of one VNI.
#[derive(Default)]
struct Parts<'a> {
    bridge: Option<&'a Link>,
    vxlan: Option<&'a Link>,
    ports: Vec<(&'a EndpointId, &'a Link)>,
}

impl Found {
    fn segments(&self) -> BTreeMap<Vni, Segment> {
        let mut parts: BTreeMap<Vni, Parts<'_>> = BTreeMap::new();
        for link in &self.links {
            match (parse_link(&link.name), &link.kind) {
                (Some(Named::Bridge(vni)), Some(InfoKind::Bridge)) => {
                    parts.entry(vni).or_default().bridge = Some(link);
                }
                (Some(Named::Vxlan(vni)), Some(InfoKind::Vxlan)) => {
                    parts.entry(vni).or_default().vxlan = Some(link);
                }
                (Some(Named::Port), Some(InfoKind::Veth)) => {
                    if let Some((vni, endpoint)) = owner(link) {
                        parts.entry(vni).or_default().ports.push((endpoint, link));
                    }
                }
                _ => {}
            }
        }
        parts.into_iter().filter_map(|(vni, parts)| Some((vni, self.segment(vni, &parts)?))).collect()
    }

    fn segment(&self, vni: Vni, parts: &Parts<'_>) -> Option<Segment> {
        let mut links =
            parts.bridge.iter().chain(&parts.vxlan).chain(parts.ports.iter().map(|(_, link)| link));
        let network = links.find_map(|link| link.alias.as_ref()?.network.clone());
        let network = network.or_else(|| NetworkId::new(UNNAMED).ok())?;
        if let (Vni::PROBE, Parts { bridge: None, vxlan: Some(link), .. }) = (vni, parts) {
            let vxlan = good_probe(link, &self.probe);
            return Some(Segment {
                network,
                vxlan: vxlan.unwrap_or(NO_TUNNEL),
                fast: false,
                ports: BTreeMap::new(),
                fdb: vxlan.map(|_| self.probe_fdb(link.index)).unwrap_or_default().into(),
                neighbours: vxlan.map(|_| self.neighbours(vni, link.index)).unwrap_or_default().into(),
                flood: if vxlan.is_some() { self.flood(link.index) } else { BTreeSet::new() },
            });
        }
        let bridge = parts.bridge.filter(|bridge| bridge.is_good_bridge(vni));
        let vxlan = bridge.zip(parts.vxlan).and_then(|(bridge, vxlan)| {
            let mut settings = vxlan.good_vxlan(vni, bridge.index)?;
            if bridge.mtu != vxlan.mtu {
                settings.mtu = 0;
            }
            Some((vxlan.index, settings))
        });
        let index = parts.bridge.map(|bridge| bridge.index);
        let tunnel = vxlan.map(|(index, _)| index);
        let fast = tunnel.filter(|tunnel| self.paths.is_open(vni, *tunnel));
        let containers: BTreeMap<_, _> = parts
            .ports
            .iter()
            .map(|(endpoint, link)| ((*endpoint).clone(), self.port(vni, index, fast, link)))
            .collect();
        let mut fdb = tunnel.map(|index| self.fdb(index)).unwrap_or_default();
        if fast.is_some() {
            let own: BTreeSet<_> = containers.values().map(|port| port.mac).collect();
            self.paths.mark(vni, |mac| own.contains(mac), &mut fdb);
        }
        Some(Segment {
            network,
            vxlan: vxlan.map_or(NO_TUNNEL, |(_, settings)| settings),
            fast: fast.is_some(),
            ports: containers,
            fdb: fdb.into(),
            neighbours: index.map(|index| self.neighbours(vni, index)).unwrap_or_default().into(),
            flood: tunnel.map(|index| self.flood(index)).unwrap_or_default(),
        })
    }

    fn port(&self, vni: Vni, bridge: Option<u32>, tunnel: Option<u32>, link: &Link) -> Port {
        let mut rows = self.rows.get(&link.index).map(|rows| rows.bridge.iter()).into_iter().flatten();
        let guarded = self.guarded.get(&link.name);
        let sources = guarded.map_or(Some(Sources::Any), |guarded| guarded.sources);
        let row = rows.next();
        let mac = row.map_or(MacAddr::of_bridge(vni), |(mac, _)| *mac);
        let whole = row.is_some_and(|(_, sticky)| !sticky)
            && rows.next().is_none()
            && bridge.is_some_and(|bridge| link.is_good_port(bridge))
            && sources.is_some()
            && guarded.is_none_or(|guarded| guarded.mac == Some(mac));
        let mut port = Port { mac, mtu: link.mtu, sources: sources.unwrap_or(Sources::Any), fast: false };
        let fast = self.paths.of_port(vni, link.index, &port, tunnel);
        port.fast = fast.unwrap_or_default();
        if !whole || fast.is_none() {
            port.mtu = 0;
        }
        port
    }

    fn fdb(&self, vxlan: u32) -> BTreeMap<MacAddr, IpAddr> {
        let Some(Rows { own, bridge, .. }) = self.rows.get(&vxlan) else { return BTreeMap::new() };
        let macs: BTreeSet<_> = own.keys().chain(bridge.keys()).collect();
        let vtep = |mac: &MacAddr| {
            let sticky = bridge.get(mac).copied().unwrap_or_default();
            own.get(mac).copied().flatten().filter(|_| sticky).unwrap_or(NOWHERE)
        };
        macs.into_iter().map(|mac| (*mac, vtep(mac))).collect()
    }

    fn flood(&self, vxlan: u32) -> BTreeSet<IpAddr> {
        let rows = self.rows.get(&vxlan).map(|rows| rows.flood.iter()).into_iter().flatten();
        rows.map(|vtep| vtep.unwrap_or(NOWHERE)).collect()
    }

    fn probe_fdb(&self, vxlan: u32) -> BTreeMap<MacAddr, IpAddr> {
        let rows = self.rows.get(&vxlan).map(|rows| rows.own.iter()).into_iter().flatten();
        rows.map(|(mac, vtep)| (*mac, vtep.unwrap_or(NOWHERE))).collect()
    }

    fn neighbours(&self, vni: Vni, bridge: u32) -> BTreeMap<IpAddr, MacAddr> {
        let rows = self.neighbours.get(&bridge).into_iter().flatten();
        rows.map(|(ip, mac)| (*ip, mac.unwrap_or(MacAddr::of_bridge(vni)))).collect()
    }
}

/// Segment and endpoint of a port, as its alias has them, if its name fits them.
fn owner(link: &Link) -> Option<(Vni, &EndpointId)> {
    let alias = link.alias.as_ref()?;
    let endpoint = alias.endpoint.as_ref().filter(|endpoint| host_link(endpoint) == link.name)?;
    Some((alias.vni?, endpoint))
}
