//! Facts about the host: its addresses and where its routes lead.

pub(super) mod foreign;
mod notices;
mod reading;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
};
use nix::errno::Errno;

pub use self::notices::Notices;
use self::reading::{
    Address, address, destination, family_and_length, interfaces, is_no_route, is_worth_knowing, metric,
    preferred_source, route_mtu,
};
use super::{
    DataplaneError,
    names::PROTOCOL,
    netlink::{Channel, Failure, Link, host_namespace},
};
use crate::model::HostRoute;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A host's addresses and routes, which it only reads.
#[derive(Debug)]
pub struct Host {
    channel: Channel,
}

impl Host {
    /// The host in the namespace pinned at `namespace`, or in the one of the calling thread.
    pub fn open(namespace: Option<&Path>) -> Result<Self, DataplaneError> {
        Ok(Self { channel: Channel::new(Arc::new(host_namespace(namespace)?)) })
    }

    /// The address from which packets leave by the default route: IPv4 first, then IPv6. Of several
    /// default routes the one with the lowest metric counts.
    pub async fn default_source(&self) -> Result<Option<IpAddr>, DataplaneError> {
        let during = |failure: Failure| failure.during("reading the default route");
        let addresses = self.channel.addresses().await.map_err(during)?;
        for family in FAMILIES {
            let routes = self.channel.main_routes(family).await.map_err(during)?;
            let defaults = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
            let mut best: Vec<_> = defaults.filter(|route| !interfaces(route).is_empty()).collect();
            best.sort_by_key(|route| metric(route));
            for route in best {
                let preferred = preferred_source(route);
                let first = || {
                    let link = interfaces(route).into_iter().next()?;
                    let usable = |address: &&Address| address.link == link && address.global;
                    addresses
                        .iter()
                        .filter(usable)
                        .map(|a| a.ip)
                        .find(|ip| ip.is_ipv6() == (family == AddressFamily::Inet6))
                };
                if let Some(source) = preferred.or_else(first) {
                    return Ok(Some(source));
                }
            }
        }
        Ok(None)
    }

    /// Addresses of global scope of the interface `name`, IPv4 first; none if there is no such interface.
    pub async fn interface_address(&self, name: &str) -> Result<Vec<IpAddr>, DataplaneError> {
        let during = |failure: Failure| failure.during(format!("reading the addresses of interface {name}"));
        let Some(link) = self.channel.link(name).await.map_err(during)? else { return Ok(Vec::new()) };
        let addresses = self.channel.addresses().await.map_err(during)?;
        let mut found: Vec<_> =
            addresses.into_iter().filter(|a| a.link == link.index && a.global).map(|a| a.ip).collect();
        // Stable: the primary address of each family stays first.
        found.sort_by_key(IpAddr::is_ipv6);
        Ok(found)
    }

    /// Whether `ip` is an address of this host.
    pub async fn has_address(&self, ip: IpAddr) -> Result<bool, DataplaneError> {
        let during = |failure: Failure| failure.during("reading the host's addresses");
        Ok(self.channel.addresses().await.map_err(during)?.iter().any(|address| address.ip == ip))
    }

    /// Networks that this host reaches by itself: destinations of the main table and the subnets of its
    /// interfaces, without default routes, link-local, multicast, loopback and our own guards. Sorted,
    /// each once.
    pub async fn host_routes(&self) -> Result<Vec<HostRoute>, DataplaneError> {
        let during = |failure: Failure| failure.during("reading the host's routes");
        let names = self.channel.link_names().await.map_err(during)?;
        let name =
            |index: Option<u32>| index.and_then(|index| names.get(&index)).cloned().unwrap_or_default();
        let mut found = BTreeSet::new();
        for family in FAMILIES {
            for route in self.channel.main_routes(family).await.map_err(during)? {
                if route.header.protocol == RouteProtocol::from(PROTOCOL) {
                    continue;
                }
                if let Some(cidr) = destination(&route).filter(is_worth_knowing) {
                    found.insert(HostRoute { cidr, dev: name(interfaces(&route).into_iter().next()) });
                }
            }
        }
        for address in self.channel.addresses().await.map_err(during)? {
            if let Some(cidr) =
                IpNet::new(address.ip, address.prefix).ok().map(|net| net.trunc()).filter(is_worth_knowing)
            {
                found.insert(HostRoute { cidr, dev: name(Some(address.link)) });
            }
        }
        Ok(found.into_iter().collect())
    }

    /// All addresses of this host, also those that no other host can reach.
    pub async fn addresses(&self) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let during = |failure: Failure| failure.during("reading the host's addresses");
        Ok(self.channel.addresses().await.map_err(during)?.into_iter().map(|address| address.ip).collect())
    }

    /// The largest packet, in bytes, that the way from `source` to `peer` takes as far as this host knows:
    /// the route's own MTU or one learnt by path MTU discovery, else that of the outgoing interface.
    /// `None`: no route.
    pub async fn path_mtu(&self, peer: IpAddr, source: IpAddr) -> Result<Option<u32>, DataplaneError> {
        Ok(self.paths(&[peer], source).await?.remove(&peer))
    }

    /// The same for several peers; those to which no route leads are left out.
    pub async fn paths(
        &self,
        peers: &[IpAddr],
        source: IpAddr,
    ) -> Result<BTreeMap<IpAddr, u32>, DataplaneError> {
        let mut found = BTreeMap::new();
        if peers.is_empty() {
            return Ok(found);
        }
        let links = self.channel.links().await;
        let links = links.map_err(|failure| failure.during("reading the MTUs of the host's interfaces"))?;
        for peer in peers {
            let Some(route) = self.route(*peer, source).await? else { continue };
            let link = || {
                let interface = interfaces(&route).into_iter().next()?;
                links.iter().find(|link| link.index == interface).map(|link| link.mtu)
            };
            found.extend(route_mtu(&route).or_else(link).map(|mtu| (*peer, mtu)));
        }
        Ok(found)
    }

    /// The route by which a packet from `source` to `peer` leaves, by whatever rules and tables that is.
    async fn route(&self, peer: IpAddr, source: IpAddr) -> Result<Option<RouteMessage>, DataplaneError> {
        let during = |failure: Failure| failure.during(format!("reading the route to {peer} from {source}"));
        let mut message = RouteMessage::default();
        (message.header.address_family, message.header.destination_prefix_length) = family_and_length(peer);
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(peer)));
        if family_and_length(source) == family_and_length(peer) {
            message.header.source_prefix_length = message.header.destination_prefix_length;
            message.attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
        }
        let answer = match self.channel.get(RouteNetlinkMessage::GetRoute(message)).await {
            Err(failure) if is_no_route(&failure) => return Ok(None),
            other => other.map_err(during)?,
        };
        match answer {
            Some(RouteNetlinkMessage::NewRoute(route)) => Ok(Some(route)),
            _ => Ok(None),
        }
    }

    /// MTU, in bytes, of the interface that has the address `ip`; `None`: no interface has it.
    pub async fn link_mtu_of(&self, ip: IpAddr) -> Result<Option<u32>, DataplaneError> {
        let during = |failure: Failure| failure.during(format!("reading the MTU of the interface with {ip}"));
        let addresses = self.channel.addresses().await.map_err(during)?;
        let Some(address) = addresses.into_iter().find(|address| address.ip == ip) else { return Ok(None) };
        let links = self.channel.links().await.map_err(during)?;
        Ok(links.into_iter().find(|link| link.index == address.link).map(|link| link.mtu))
    }
}

impl Channel {
    async fn addresses(&self) -> Result<Vec<Address>, Failure> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let mut message = AddressMessage::default();
            message.header.family = family;
            let rows = self.dump(RouteNetlinkMessage::GetAddress(message)).await?;
            found.extend(rows.into_iter().filter_map(|row| address(row, family)));
        }
        Ok(found)
    }

    /// The unicast routes of the main table.
    async fn main_routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, Failure> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        let rows = match self.dump(RouteNetlinkMessage::GetRoute(message)).await {
            // A namespace without any route of the family has no such table yet.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Vec::new(),
            other => other?,
        };
        Ok(rows
            .into_iter()
            .filter_map(|row| match row {
                RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
                    Some(route)
                }
                _ => None,
            })
            .collect())
    }

    async fn link_names(&self) -> Result<BTreeMap<u32, String>, Failure> {
        Ok(self.links().await?.into_iter().map(|Link { index, name, .. }| (index, name)).collect())
    }
}
