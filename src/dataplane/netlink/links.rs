//! Links as the kernel lists them, and whether each is as we make it.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData,
        InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    },
};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{
    error::Failure,
    link_messages::{CONTAINER_PORT, FLOOD_PORT, VXLAN_PORT},
    socket::{Channel, Request},
};
use crate::{
    dataplane::names::Alias,
    model::{MacAddr, Vni, probe_mac},
    plan::Vxlan,
};

/// A link, as far as we care.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Vec<u8>,
    pub(crate) controller: Option<u32>,
    pub(crate) alias: Option<Alias>,
    /// It has an alias, if only someone else's.
    pub(crate) labelled: bool,
    /// Index of a veth's other end, in that one's namespace.
    pub(crate) peer: Option<u32>,
    pub(crate) kind: Option<InfoKind>,
    pub(super) bridge: Vec<InfoBridge>,
    vxlan: Vec<InfoVxlan>,
    port: Vec<InfoBridgePort>,
    generates_address: bool,
    elsewhere: bool,
}

impl Link {
    fn parse(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            mac: Vec::new(),
            controller: None,
            alias: None,
            labelled: false,
            peer: None,
            kind: None,
            bridge: Vec::new(),
            vxlan: Vec::new(),
            port: Vec::new(),
            generates_address: false,
            elsewhere: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::IfAlias(text) => {
                    link.labelled = true;
                    link.alias = Alias::parse(&text);
                }
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(_) => link.elsewhere = true,
                LinkAttribute::LinkInfo(infos) => link.take(infos),
                LinkAttribute::AfSpecUnspec(families) => {
                    link.generates_address = generates_address(&families);
                }
                _ => {}
            }
        }
        link
    }

    fn take(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind),
                LinkInfo::Data(InfoData::Bridge(data)) => self.bridge = data,
                LinkInfo::Data(InfoData::Vxlan(data)) => self.vxlan = data,
                LinkInfo::PortData(InfoPortData::BridgePort(data)) => self.port = data,
                _ => {}
            }
        }
    }

    pub(crate) fn is(&self, kind: &InfoKind) -> bool {
        self.kind.as_ref() == Some(kind)
    }

    /// The bridge is as `bridge_messages` leaves it, but for its MTU.
    pub(crate) fn is_good_bridge(&self, vni: Vni) -> bool {
        self.up
            && self.alias.is_some()
            && !self.generates_address
            && self.mac == MacAddr::of_bridge(vni).octets()
            && self.bridge.iter().all(|info| match info {
                InfoBridge::MulticastSnooping(on) | InfoBridge::VlanFiltering(on) => !on,
                InfoBridge::StpState(state) => *state == BridgeStpState::Disabled,
                _ => true,
            })
    }

    /// The settings of a VXLAN device that is as we make it, but for its MTU; `None`: it has to be made anew.
    pub(crate) fn good_vxlan(&self, vni: Vni, bridge: u32) -> Option<Vxlan> {
        let flags = [(false, VXLAN_PORT), (true, FLOOD_PORT)];
        let (flood, _) = flags.into_iter().find(|(_, flags)| flags.matches(&self.port))?;
        let vxlan = self.tunnel(vni, false).filter(|_| self.controller == Some(bridge))?;
        Some(Vxlan { flood, ..vxlan })
    }

    /// The same of the probe device, but for its address.
    pub(super) fn good_probe(&self) -> Option<Vxlan> {
        let vxlan = self.tunnel(Vni::PROBE, true)?;
        (self.controller.is_none() && self.mac == probe_mac(vxlan.local).octets()).then_some(vxlan)
    }

    fn tunnel(&self, vni: Vni, learns: bool) -> Option<Vxlan> {
        let (mut local, mut port) = (None, 0);
        for info in &self.vxlan {
            match info {
                InfoVxlan::Id(id) if *id != vni.get() => return None,
                InfoVxlan::Local(ip) => local = Some(IpAddr::V4(*ip)),
                InfoVxlan::Local6(ip) => local = Some(IpAddr::V6(*ip)),
                InfoVxlan::Port(number) => port = *number,
                InfoVxlan::Learning(on) if *on != learns => return None,
                InfoVxlan::Group(_)
                | InfoVxlan::Group6(_)
                | InfoVxlan::CollectMetadata(true)
                | InfoVxlan::Proxy(true)
                | InfoVxlan::Rsc(true) => return None,
                _ => {}
            }
        }
        let good = self.up && self.elsewhere && self.alias.is_some() && !self.generates_address;
        local.filter(|_| good).map(|local| Vxlan { local, port, mtu: self.mtu, flood: false })
    }

    /// VNI and UDP port, whatever else is set.
    pub(crate) fn vxlan_key(&self) -> Option<(u32, u16)> {
        let id = self.vxlan.iter().find_map(|info| match info {
            InfoVxlan::Id(id) => Some(*id),
            _ => None,
        })?;
        let port = self.vxlan.iter().find_map(|info| match info {
            InfoVxlan::Port(port) => Some(*port),
            _ => None,
        })?;
        Some((id, port))
    }

    /// A device whose packets leave by another namespace than its own.
    pub(crate) fn lives_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// The container's port is as `port_messages` leaves it.
    pub(crate) fn is_good_port(&self, bridge: u32) -> bool {
        self.up
            && self.is(&InfoKind::Veth)
            && !self.generates_address
            && self.controller == Some(bridge)
            && CONTAINER_PORT.matches(&self.port)
    }
}

fn generates_address(families: &[AfSpecUnspec]) -> bool {
    families.iter().any(|family| match family {
        AfSpecUnspec::Inet6(settings) => settings.iter().any(
            |setting| matches!(setting, AfSpecInet6::AddrGenMode(mode) if *mode != In6AddrGenMode::None),
        ),
        _ => false,
    })
}

impl Channel {
    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, Failure> {
        let message =
            LinkMessageBuilder::<LinkUnspec>::default().append_extra_attribute(no_statistics()).build();
        let rows = self.dump(RouteNetlinkMessage::GetLink(message)).await?;
        Ok(rows.into_iter().filter_map(link).collect())
    }

    /// The link of that name, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, Failure> {
        let message = LinkUnspec::new_with_name(name).append_extra_attribute(no_statistics()).build();
        match self.get(RouteNetlinkMessage::GetLink(message)).await {
            Ok(answer) => Ok(answer.and_then(link)),
            Err(failure) if failure.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes a link; one that is gone already is no error.
    pub(crate) async fn delete_link(&self, index: u32) -> Result<(), Failure> {
        let message = LinkUnspec::new_with_index(index).build();
        match self.call(Request::new(RouteNetlinkMessage::DelLink(message), 0)).await {
            Err(failure) if failure.errno() == Some(Errno::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Carries out messages one after the other and answers the first refusal. That address generation
    /// cannot be turned off is none: a kernel without IPv6 has no such setting.
    pub(crate) async fn all(&self, requests: Vec<Request>) -> Result<(), Failure> {
        let answers = self.batch(requests).await;
        answers
            .into_iter()
            .filter(|answer| !matches!(answer, Err(f) if f.errno() == Some(Errno::EAFNOSUPPORT)))
            .collect()
    }
}

fn link(message: RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::parse(message)),
        _ => None,
    }
}

fn no_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// The header's family of requests that are about bridges.
pub(crate) const BRIDGE: AddressFamily = AddressFamily::Bridge;
