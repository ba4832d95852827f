//! The messages that make and change links.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData,
        InfoKind, InfoVeth, LinkAttribute, LinkMessage,
    },
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::{links::Link, socket::Request};
use crate::{
    dataplane::{names::Alias, namespace::Namespace},
    model::{MacAddr, Vni, probe_mac},
    plan::{Port, Vxlan},
};

/// Hop limit of the outer packets: enough for any underlay, and the same on all hosts.
const TTL: u8 = 64;

/// What a bridge port lets through. Nothing is learnt on any.
#[derive(Clone, Copy)]
pub(super) struct PortFlags {
    locked: bool,
    neigh_suppress: bool,
    group_flood: bool,
}

/// The tunnel: nothing unknown or meant for all leaves the host, and ARP and ND are answered instead.
pub(super) const VXLAN_PORT: PortFlags =
    PortFlags { locked: false, neigh_suppress: true, group_flood: false };
/// The tunnel of a network that floods: frames for all go out as well, but what can be answered here still is.
pub(super) const FLOOD_PORT: PortFlags = PortFlags { group_flood: true, ..VXLAN_PORT };
/// A container: only its own address may speak. It hears what is meant for all. Suppression would keep
/// the answers of containers on the same bridge from it.
pub(super) const CONTAINER_PORT: PortFlags =
    PortFlags { locked: true, neigh_suppress: false, group_flood: true };

impl PortFlags {
    fn message(self, index: u32) -> LinkMessage {
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

    /// Whether a port has these flags; one that an older kernel does not know is passed over.
    pub(super) fn matches(self, infos: &[InfoBridgePort]) -> bool {
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

/// An alias is not taken at creation.
fn tag(link: LinkMessageBuilder<LinkUnspec>, alias: &Alias) -> Request {
    set(link.alias(alias.text()).build())
}

/// The links carry frames of others and need no address of their own. `disable_ipv6` would do that too,
/// but then IPv6 neighbours are refused.
fn no_address(index: u32) -> Request {
    let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let link =
        LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]));
    set(link.build())
}

pub(crate) fn set_up(index: u32) -> Request {
    set(LinkUnspec::new_with_index(index).up().build())
}

pub(crate) fn set_down(index: u32) -> Request {
    set(LinkUnspec::new_with_index(index).down().build())
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
        no_address(bridge.index),
        set_up(bridge.index),
    ]
}

/// A VXLAN device made by a socket in the host's namespace, where its UDP socket then stays, and placed
/// into `target` by the same message.
pub(crate) fn create_vxlan(name: &str, vni: Vni, vxlan: &Vxlan, target: &Namespace) -> Request {
    create(tunnel(name, vni, vxlan, target).learning(false).build())
}

/// The same for the probe network, which learns and has an Ethernet address that all hosts can tell.
pub(crate) fn create_probe(name: &str, vxlan: &Vxlan, target: &Namespace) -> Request {
    let mac = probe_mac(vxlan.local).octets().to_vec();
    create(tunnel(name, Vni::PROBE, vxlan, target).learning(true).address(mac).build())
}

fn tunnel(name: &str, vni: Vni, vxlan: &Vxlan, target: &Namespace) -> LinkMessageBuilder<LinkVxlan> {
    let link = LinkVxlan::new(name, vni.get())
        .port(vxlan.port)
        .ttl(TTL)
        .udp_csum(true)
        .udp_zero_csum6_tx(false)
        .udp_zero_csum6_rx(false)
        .mtu(vxlan.mtu)
        .setns_by_fd(target.raw());
    match vxlan.local {
        IpAddr::V4(ip) => link.local(ip),
        IpAddr::V6(ip) => link.local6(ip),
    }
}

/// Brings the probe device up.
pub(crate) fn probe_messages(index: u32, alias: &Alias, vxlan: &Vxlan) -> Vec<Request> {
    let link = LinkUnspec::new_with_index(index).mtu(vxlan.mtu);
    vec![tag(link, alias), no_address(index), set_up(index)]
}

/// Joins a VXLAN device to its bridge and brings it up.
pub(crate) fn vxlan_messages(index: u32, bridge: u32, alias: &Alias, vxlan: &Vxlan) -> Vec<Request> {
    let link = LinkUnspec::new_with_index(index).controller(bridge).mtu(vxlan.mtu);
    let flags = if vxlan.flood { FLOOD_PORT } else { VXLAN_PORT };
    vec![tag(link, alias), no_address(index), change(flags.message(index)), set_up(index)]
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
    vec![
        tag(general, alias),
        no_address(link.index),
        change(CONTAINER_PORT.message(link.index)),
        set_up(link.index),
    ]
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
