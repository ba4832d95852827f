//! The part of a host's kernel that is ours. One type for what should be and for what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;

use crate::model::{EndpointId, MacAddr, NetworkId, Shared, Vni};

/// All of a host's kernel state that belongs to us.
///
/// Names of links are not part of it: each follows from the VNI or from the endpoint's id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// One bridge with one VXLAN device per network that has an endpoint here.
    pub segments: BTreeMap<Vni, Segment>,
    /// Routes in the host's main table that never carry a packet: they only let the engine see that a
    /// subnet is taken in the cluster, so that its own allocator passes it over.
    pub guards: Shared<BTreeSet<Ipv4Net>>,
}

impl Overlay {
    /// The segments of networks: all but the one on which hosts ask for each other.
    pub fn networks(&self) -> impl Iterator<Item = (&Vni, &Segment)> {
        self.segments.iter().filter(|(_, segment)| segment.network != NetworkId::of_probes())
    }
}

/// A network's bridge, its VXLAN device and all that hangs on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The network; kept in the alias of the bridge.
    pub network: NetworkId,
    /// The tunnel device.
    pub vxlan: Vxlan,
    /// The short way past the bridge: what comes by the tunnel for a container here is handed straight into it,
    /// and each address of `fdb` stands in the map that the programs of the ports look into.
    pub fast: bool,
    /// Containers of this host.
    pub ports: BTreeMap<EndpointId, Port>,
    /// Ethernet addresses of containers elsewhere, and the VTEP behind which each one is.
    pub fdb: Shared<BTreeMap<MacAddr, IpAddr>>,
    /// Their addresses, answered to ARP and neighbour discovery here.
    pub neighbours: Shared<BTreeMap<IpAddr, MacAddr>>,
    /// VTEPs to which frames for all are copied. The unspecified address stands for an entry that is not as we
    /// make it.
    pub flood: BTreeSet<IpAddr>,
}

/// Settings of a VXLAN device. The destination port and the local address cannot be changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vxlan {
    /// Source address of every packet it sends.
    pub local: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// Largest inner IP packet, in bytes.
    pub mtu: u32,
    /// Its bridge gives it broadcast and multicast.
    pub flood: bool,
}

impl fmt::Display for Vxlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, port, mtu, flood } = self;
        write!(f, "local {local} port {port} mtu {mtu}{}", if *flood { " flood" } else { "" })
    }
}

/// The host's end of a container's veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// The only Ethernet address that may speak through it.
    pub mac: MacAddr,
    /// MTU of both ends at their creation, in bytes; of an end that is in its container by now, only that of
    /// the bridge's end. 0 is observed where a port is there but not as it should be: adding it again repairs it in place.
    pub mtu: u32,
    /// The only addresses that it may speak from.
    pub sources: Sources,
    /// What the container sends to a known station takes the short way past the bridge.
    pub fast: bool,
}

/// The addresses from which a container may send, and for which it may answer ARP and neighbour discovery. Those of
/// the link (`fe80::/10`) and the unspecified one are anybody's: they follow from no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sources {
    /// Whatever it likes: nobody has told its addresses, or the network's option says so.
    Any,
    /// Its own.
    Only {
        /// Its IPv4 address; without one it sends no IPv4.
        v4: Option<Ipv4Addr>,
        /// Its IPv6 address; without one it sends no IPv6 but on the link.
        v6: Option<Ipv6Addr>,
    },
}

impl Sources {
    /// Those of an endpoint with these addresses, of which there is one of a family at most. One without any gets
    /// them from somebody we do not know (`--ipam-driver null`).
    pub fn of(addresses: &[IpAddr]) -> Self {
        let v4 = addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        });
        if v4.is_none() && v6.is_none() { Self::Any } else { Self::Only { v4, v6 } }
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any address"),
            Self::Only { v4: Some(v4), v6: Some(v6) } => write!(f, "{v4} and {v6}"),
            Self::Only { v4: Some(v4), v6: None } => write!(f, "{v4}"),
            Self::Only { v4: None, v6: Some(v6) } => write!(f, "{v6}"),
            Self::Only { v4: None, v6: None } => f.write_str("no address"),
        }
    }
}
