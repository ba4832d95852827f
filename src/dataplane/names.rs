//! Names and tags of the links we make: pure, so that every part of the daemon finds the same ones.
//!
//! Linux allows a link name 15 bytes, less than an endpoint's id has. Names of ports therefore come from
//! a 64-bit hash of the id, and the full id stands in the link's alias.

use std::fmt::Write as _;

use crate::model::{EndpointId, NetworkId, Vni};

/// Route and neighbour protocol number that marks what is ours (`/etc/iproute2/rt_protos` leaves 82 free).
pub const PROTOCOL: u8 = 82;

/// Longest alias that the kernel takes, in bytes (`IFALIASZ` less its end mark).
const ALIAS_MAX: usize = 255;
const TAG: &str = "rs-overlay:1";
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 64 bits, five in each character.
const HASH_LENGTH: usize = 13;

/// Name of the container's end of a port while it waits in the host's namespace: the `SrcName` of a
/// Join answer.
pub fn container_link(endpoint: &EndpointId) -> String {
    format!("rs{}", hash(endpoint.as_str()))
}

/// Name of the other end, in our namespace.
pub fn host_link(endpoint: &EndpointId) -> String {
    format!("p{}", hash(endpoint.as_str()))
}

/// Name of a network's bridge in our namespace.
pub fn bridge_link(vni: Vni) -> String {
    format!("b{vni}")
}

/// Name of a network's VXLAN device in our namespace.
pub fn vxlan_link(vni: Vni) -> String {
    format!("x{vni}")
}

/// What a name in our namespace says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A bridge.
    Bridge(Vni),
    /// A VXLAN device.
    Vxlan(Vni),
    /// A container's port; whose, only its alias tells.
    Port,
}

/// Reads a name in our namespace; `None`: no name of ours.
pub fn parse_link(name: &str) -> Option<Named> {
    if let Some(number) = name.strip_prefix('b').and_then(vni) {
        return Some(Named::Bridge(number));
    }
    if let Some(number) = name.strip_prefix('x').and_then(vni) {
        return Some(Named::Vxlan(number));
    }
    name.strip_prefix('p').filter(|rest| is_hash(rest)).map(|_| Named::Port)
}

/// Whether a link in the host's namespace has the name of a container's end.
pub fn is_container_link(name: &str) -> bool {
    name.strip_prefix("rs").is_some_and(is_hash)
}

/// A decimal number without leading zeros or signs.
fn vni(text: &str) -> Option<Vni> {
    let number: Vni = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_LENGTH && text.bytes().all(|byte| DIGITS.contains(&byte))
}

/// FNV-1a over the whole id, then a final mix, since ids often differ in few places only.
fn hash(id: &str) -> String {
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    let digit = |place: usize| char::from(DIGITS[usize::from((hash >> (5 * place)).to_le_bytes()[0] & 31)]);
    (0..HASH_LENGTH).map(digit).collect()
}

/// What the alias of a link says: to which network, endpoint and segment it belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alias {
    /// The network.
    pub network: Option<NetworkId>,
    /// The endpoint, on both ends of a port.
    pub endpoint: Option<EndpointId>,
    /// The segment of a port, so that a port that has lost its bridge is still known.
    pub vni: Option<Vni>,
}

impl Alias {
    /// The alias of a bridge or a VXLAN device.
    pub fn of_segment(network: &NetworkId) -> Self {
        Self { network: Some(network.clone()), ..Self::default() }
    }

    /// The alias of both ends of a port.
    pub fn of_port(vni: Vni, endpoint: &EndpointId, network: Option<&NetworkId>) -> Self {
        Self { network: network.cloned(), endpoint: Some(endpoint.clone()), vni: Some(vni) }
    }

    /// As it stands on the link. A network's id that would make it too long for the kernel is left out.
    pub fn text(&self) -> String {
        let mut text = TAG.to_owned();
        if let Some(endpoint) = &self.endpoint {
            let _ = write!(text, ":ep={endpoint}");
        }
        if let Some(vni) = self.vni {
            let _ = write!(text, ":vni={vni}");
        }
        if let Some(network) = &self.network
            && text.len() + ":net=".len() + network.as_str().len() <= ALIAS_MAX
        {
            let _ = write!(text, ":net={network}");
        }
        text
    }

    /// Reads an alias; `None`: not ours. Parts of a newer release are passed over.
    pub fn parse(text: &str) -> Option<Self> {
        let mut alias = Self::default();
        for part in text.strip_prefix(TAG)?.strip_prefix(':')?.split(':') {
            match part.split_once('=')? {
                ("net", id) => alias.network = Some(NetworkId::new(id).ok()?),
                ("ep", id) => alias.endpoint = Some(EndpointId::new(id).ok()?),
                ("vni", number) => alias.vni = Some(vni(number)?),
                _ => {}
            }
        }
        Some(alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_read_back() {
        for id in ["k5cwhbyf5dqtg5ilc3oy1xtlm".to_owned(), "a".repeat(64), "z".repeat(128)] {
            let endpoint = EndpointId::new(id).unwrap();
            let (container, host) = (container_link(&endpoint), host_link(&endpoint));
            assert!(container.len() <= 15 && host.len() <= 15, "{container} {host}");
            assert!(is_container_link(&container));
            assert_eq!(parse_link(&host), Some(Named::Port));
        }
        let vni = Vni::new(Vni::MAX).unwrap();
        assert_eq!(parse_link(&bridge_link(vni)), Some(Named::Bridge(vni)));
        assert_eq!(parse_link(&vxlan_link(vni)), Some(Named::Vxlan(vni)));
        for foreign in ["", "lo", "br0", "b0", "b007", "b+7", "x16777216", "p", "pabc", "eth0", "b", "x"] {
            assert_eq!(parse_link(foreign), None, "{foreign}");
        }
        assert!(!is_container_link("rsync0"));
    }

    #[test]
    fn ids_that_differ_little_get_other_names() {
        let names: std::collections::BTreeSet<_> =
            (0..10_000).map(|n| container_link(&EndpointId::new(format!("{n:064x}")).unwrap())).collect();
        assert_eq!(names.len(), 10_000);
    }

    #[test]
    fn aliases_survive_the_way_there_and_back() {
        let network = NetworkId::new("n".repeat(64)).unwrap();
        let endpoint = EndpointId::new("e".repeat(64)).unwrap();
        let vni = Vni::new(4096).unwrap();
        for alias in [Alias::of_segment(&network), Alias::of_port(vni, &endpoint, Some(&network))] {
            assert_eq!(Alias::parse(&alias.text()), Some(alias));
        }
        let long = Alias::of_port(
            vni,
            &EndpointId::new("e".repeat(128)).unwrap(),
            Some(&NetworkId::new("n".repeat(128)).unwrap()),
        );
        assert!(long.text().len() <= ALIAS_MAX);
        assert_eq!(Alias::parse(&long.text()).and_then(|alias| alias.endpoint), long.endpoint);
        for foreign in ["", "rs-overlay", "rs-overlay:2:net=a", "uplink", "rs-overlay:1:net="] {
            assert_eq!(Alias::parse(foreign), None, "{foreign}");
        }
    }
}
