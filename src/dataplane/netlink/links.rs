//! Links as the kernel lists them, and the messages that make and change them.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData,
        InfoKind, InfoPortData, InfoVeth, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkMessage,
    },
};
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::{
    error::Failure,
    socket::{Channel, Request},
};
use crate::{
    dataplane::{names::Alias, namespace::Namespace},
    model::{MacAddr, Vni},
    plan::{Port, Vxlan},
};

/// Hop limit of the outer packets: enough for any underlay, and the same on all hosts.
const TTL: u8 = 64;

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
    bridge: Vec<InfoBridge>,
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

    /// The bridge is as [`bridge_messages`] leaves it, but for its MTU.
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
        let (mut local, mut port) = (None, 0);
        for info in &self.vxlan {
            match info {
                InfoVxlan::Id(id) if *id != vni.get() => return None,
                InfoVxlan::Local(ip) => local = Some(IpAddr::V4(*ip)),
                InfoVxlan::Local6(ip) => local = Some(IpAddr::V6(*ip)),
                InfoVxlan::Port(number) => port = *number,
                InfoVxlan::Group(_)
                | InfoVxlan::Group6(_)
                | InfoVxlan::Learning(true)
                | InfoVxlan::CollectMetadata(true)
                | InfoVxlan::Proxy(true)
                | InfoVxlan::Rsc(true) => return None,
                _ => {}
            }
        }
        let good = self.up
            && self.elsewhere
            && self.alias.is_some()
            && !self.generates_address
            && self.controller == Some(bridge)
            && VXLAN_PORT.matches(&self.port);
        local.filter(|_| good).map(|local| Vxlan { local, port, mtu: self.mtu })
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

    /// The container's port is as [`port_messages`] leaves it.
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

/// What a bridge port lets through. Nothing is learnt on any.
struct PortFlags {
    locked: bool,
    neigh_suppress: bool,
    group_flood: bool,
}

/// The tunnel: nothing unknown or meant for all leaves the host, and ARP and ND are answered instead.
const VXLAN_PORT: PortFlags = PortFlags { locked: false, neigh_suppress: true, group_flood: false };
/// A container: only its own address may speak. It hears what is meant for all. Suppression would keep
/// the answers of containers on the same bridge from it.
const CONTAINER_PORT: PortFlags = PortFlags { locked: true, neigh_suppress: false, group_flood: true };

impl PortFlags {
    fn message(&self, index: u32) -> LinkMessage {
        LinkBridgePort::new(index)
            .learning(false)
            .flood(false)
            .mcast_flood(self.group_flood)
            .bcast_flood(self.group_flood)
            .neigh_suppress(self.neigh_suppress)
            .locked(self.locked)
            .isolated(false)
            .build()
    }

    fn matches(&self, infos: &[InfoBridgePort]) -> bool {
        !infos.is_empty()
            && infos.iter().all(|info| match info {
                InfoBridgePort::Learning(on)
                | InfoBridgePort::UnicastFlood(on)
                | InfoBridgePort::Isolated(on) => !on,
                InfoBridgePort::MulticastFlood(on) | InfoBridgePort::BroadcastFlood(on) => {
                    *on == self.group_flood
                }
                InfoBridgePort::NeighSupress(on) => *on == self.neigh_suppress,
                InfoBridgePort::Locked(on) => *on == self.locked,
                _ => true,
            })
    }
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

    /// Carries out messages one after the other and answers the first refusal.
    pub(crate) async fn all(&self, requests: Vec<Request>) -> Result<(), Failure> {
        self.batch(requests).await.into_iter().collect()
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

fn create(message: LinkMessage) -> Request {
    Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Settings of a link's kind can be changed by this type of message only.
fn change(message: LinkMessage) -> Request {
    Request::new(RouteNetlinkMessage::NewLink(message), 0)
}

pub(crate) fn set(message: LinkMessage) -> Request {
    Request::new(RouteNetlinkMessage::SetLink(message), 0)
}

/// Neither alias nor address generation is taken at creation.
fn tag(link: LinkMessageBuilder<LinkUnspec>, alias: &Alias) -> Request {
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    set(link
        .alias(alias.text())
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_address]))
        .build())
}

pub(crate) fn set_up(index: u32) -> Request {
    set(LinkUnspec::new_with_index(index).up().build())
}

pub(crate) fn set_mtu(name: &str, mtu: u32) -> Request {
    set(LinkUnspec::new_with_name(name).mtu(mtu).build())
}

/// A bridge takes the lowest MTU of its ports unless its own was changed once after its creation. So it
/// begins with one that nobody wants, and the first of [`bridge_messages`] changes it.
pub(crate) fn create_bridge(name: &str, vni: Vni, mtu: u32) -> Request {
    let mac = MacAddr::of_bridge(vni).octets().to_vec();
    create(LinkBridge::new(name).address(mac).mtu(mtu.saturating_add(1)).build())
}

/// Makes an existing bridge ours in all respects. Without a fixed MAC a bridge takes the lowest of its
/// ports' and drops its neighbours when that changes.
pub(crate) fn bridge_messages(bridge: &Link, vni: Vni, alias: &Alias, mtu: u32) -> Vec<Request> {
    let mut settings = LinkMessageBuilder::<LinkBridge>::new_with_info_kind(InfoKind::Bridge)
        .index(bridge.index)
        .mcast_snooping(false)
        .stp_state(BridgeStpState::Disabled);
    // Kernels without VLAN filtering refuse even to have it turned off.
    if bridge.bridge.contains(&InfoBridge::VlanFiltering(true)) {
        settings = settings.vlan_filtering(false);
    }
    let mut general = LinkUnspec::new_with_index(bridge.index).mtu(mtu);
    if bridge.mac != MacAddr::of_bridge(vni).octets() {
        general = general.address(MacAddr::of_bridge(vni).octets().to_vec());
    }
    vec![
        change(settings.build()),
        set(general.build()),
        tag(LinkUnspec::new_with_index(bridge.index), alias),
        set_up(bridge.index),
    ]
}

/// A VXLAN device made by a socket in the host's namespace, where its UDP socket then stays, and placed
/// into `target` by the same message.
pub(crate) fn create_vxlan(name: &str, vni: Vni, vxlan: &Vxlan, target: &Namespace) -> Request {
    let link = LinkVxlan::new(name, vni.get())
        .port(vxlan.port)
        .learning(false)
        .ttl(TTL)
        .udp_csum(true)
        .udp_zero_csum6_tx(false)
        .udp_zero_csum6_rx(false)
        .mtu(vxlan.mtu)
        .setns_by_fd(target.raw());
    let link = match vxlan.local {
        IpAddr::V4(ip) => link.local(ip),
        IpAddr::V6(ip) => link.local6(ip),
    };
    create(link.build())
}

/// Joins a VXLAN device to its bridge and brings it up.
pub(crate) fn vxlan_messages(index: u32, bridge: u32, alias: &Alias, mtu: u32) -> Vec<Request> {
    let vxlan = LinkUnspec::new_with_index(index).controller(bridge).mtu(mtu);
    vec![tag(vxlan, alias), change(VXLAN_PORT.message(index)), set_up(index)]
}

/// A veth pair: `name` in the bridge, `peer` with the container's MAC in `target`.
pub(crate) fn create_veth(name: &str, bridge: u32, peer: &str, port: Port, target: &Namespace) -> Request {
    let peer = LinkUnspec::new_with_name(peer)
        .address(port.mac.octets().to_vec())
        .mtu(port.mtu)
        .setns_by_fd(target.raw())
        .build();
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name.to_owned())
        .mtu(port.mtu)
        .controller(bridge)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    create(link.build())
}

/// Makes the bridge's end of a pair ours in all respects.
pub(crate) fn port_messages(link: &Link, bridge: u32, alias: &Alias, mtu: u32) -> Vec<Request> {
    let mut general = LinkUnspec::new_with_index(link.index).mtu(mtu);
    if link.controller != Some(bridge) {
        general = general.controller(bridge);
    }
    vec![tag(general, alias), change(CONTAINER_PORT.message(link.index)), set_up(link.index)]
}

/// The container's end, as long as it waits in the host's namespace.
pub(crate) fn container_messages(link: &Link, port: Port, alias: &Alias) -> Vec<Request> {
    let mut message = LinkUnspec::new_with_index(link.index).alias(alias.text());
    if link.mtu != port.mtu {
        message = message.mtu(port.mtu);
    }
    if link.mac != port.mac.octets() {
        message = message.address(port.mac.octets().to_vec());
    }
    vec![set(message.build())]
}

/// The header's family of requests that are about bridges.
pub(crate) const BRIDGE: AddressFamily = AddressFamily::Bridge;
