//! The floor: rows in datagrams that are ready to be sent.

use std::{io, net::IpAddr, path::Path};

use anyhow::{Result, bail, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::RouteProtocol,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rs_overlay::{
    dataplane::{
        names::{PROTOCOL, bridge_link, vxlan_link},
        namespace::Namespace,
    },
    model::{MacAddr, Vni},
    plan::Overlay,
};

/// Messages in a datagram, at which the kernel takes new forwarding entries fastest.
const TOGETHER: usize = 64;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

pub(super) struct Prepared {
    socket: Socket,
    rows: Vec<NeighbourMessage>,
    all: Vec<Vec<u8>>,
    entries: usize,
}

impl Prepared {
    /// All rows of a segment, for the links that are there.
    pub(super) fn new(namespace: &Path, vni: Vni, overlay: &Overlay) -> Result<Self> {
        let inside = Namespace::open(namespace)?;
        let (socket, bridge, vxlan) = inside.run(|| -> Result<_> {
            let index = |name: String| nix::net::if_::if_nametoindex(name.as_str());
            Ok((Socket::new(NETLINK_ROUTE)?, index(bridge_link(vni))?, index(vxlan_link(vni))?))
        })??;
        let segment = &overlay.segments[&vni];
        let own = segment.fdb.iter().map(|(mac, vtep)| own(vxlan, *mac, *vtep));
        let of_bridge = segment.fdb.keys().map(|mac| of_bridge(vxlan, *mac));
        let neighbours = segment.neighbours.iter().map(|(ip, mac)| neighbour(bridge, *ip, *mac));
        let rows: Vec<_> = own.chain(of_bridge).chain(neighbours).collect();
        let entries = segment.fdb.len();
        Ok(Self { socket, all: datagrams(rows.iter().cloned()), rows, entries })
    }

    /// Writes all.
    pub(super) fn fill(&self) -> Result<()> {
        self.send(&self.all)
    }

    /// Writes one of so many of each kind, as they lie in their tables.
    pub(super) fn repair(&self, every: usize) -> Result<()> {
        let kinds = self.rows.chunks(self.entries);
        self.send(&datagrams(kinds.flat_map(|rows| rows.iter().step_by(every).cloned())))
    }

    /// Receives both tables.
    pub(super) fn read(&self) -> Result<()> {
        for family in [AddressFamily::Bridge, AddressFamily::Inet] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let request = bytes(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP);
            self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
            while !self.answer()? {}
        }
        Ok(())
    }

    fn send(&self, datagrams: &[Vec<u8>]) -> Result<()> {
        for datagram in datagrams {
            self.socket.send_to(datagram, &SocketAddr::new(0, 0), 0)?;
            ensure!(self.answer()?, "the kernel has not answered what it was asked for");
        }
        Ok(())
    }

    /// Receives one datagram; whether it ends an answer.
    fn answer(&self) -> Result<bool> {
        let mut buffer = Vec::with_capacity(65_536);
        self.socket.recv(&mut buffer, 0)?;
        let word = |at: usize| -> Result<[u8; 2], io::Error> {
            let bytes = buffer.get(at..at + 2).ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok([bytes[0], bytes[1]])
        };
        let mut at = 0;
        while at < buffer.len() {
            match u16::from_ne_bytes(word(at + 4)?) {
                DONE => return Ok(true),
                ERROR if word(at + 16)? == [0, 0] => return Ok(true),
                ERROR => bail!("the kernel has refused a row"),
                _ => at += usize::from(u16::from_ne_bytes(word(at)?)).next_multiple_of(4).max(16),
            }
        }
        Ok(false)
    }
}

fn datagrams(rows: impl Iterator<Item = NeighbourMessage>) -> Vec<Vec<u8>> {
    let rows: Vec<_> = rows.collect();
    let datagram = |rows: &[NeighbourMessage]| {
        let last = rows.len() - 1;
        let flags = |n: usize| NLM_F_CREATE | NLM_F_REPLACE | if n == last { NLM_F_ACK } else { 0 };
        let message = |(n, row): (usize, &NeighbourMessage)| {
            bytes(RouteNetlinkMessage::NewNeighbour(row.clone()), flags(n))
        };
        rows.iter().enumerate().flat_map(message).collect()
    };
    rows.chunks(TOGETHER).map(datagram).collect()
}

fn bytes(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

fn row(index: u32, mac: MacAddr, flags: NeighbourFlags, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = flags;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    message
}

fn own(vxlan: u32, mac: MacAddr, vtep: IpAddr) -> NeighbourMessage {
    let mut message = row(vxlan, mac, NeighbourFlags::Own, NeighbourState::Permanent);
    message.attributes.push(NeighbourAttribute::Destination(address(vtep)));
    message
}

fn of_bridge(vxlan: u32, mac: MacAddr) -> NeighbourMessage {
    row(vxlan, mac, NeighbourFlags::Controller | NeighbourFlags::Sticky, NeighbourState::Noarp)
}

fn neighbour(bridge: u32, ip: IpAddr, mac: MacAddr) -> NeighbourMessage {
    let mut message = row(bridge, mac, NeighbourFlags::empty(), NeighbourState::Permanent);
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.push(NeighbourAttribute::Destination(address(ip)));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message
}

fn address(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}
