//! Rules that let a container send from its own addresses alone, wherever its frames go by the bridge.
//!
//! One table in the namespace of the bridges, which stays without the daemon. A port that is in no set passes, so a
//! port is guarded from the one transaction on that says all about it. What a port may say: Ethernet frames and ARP
//! messages from its MAC; IPv4, ARP and IPv6 from its addresses; neighbour advertisements about them. The unspecified
//! addresses and those of the link are free. What still has a VLAN tag behind the first one says nothing that could be
//! checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
};

use nix::errno::Errno;

use super::{
    namespace::Namespace,
    nftables::{
        Field, Rule, bridge_table_with_sets,
        sets::{Element, Set, change, list, list_counters},
        transaction,
    },
    quiet::PORTS,
};
use crate::{model::MacAddr, plan::Sources};

const TABLE: &str = "rs_overlay_sources";
/// Numbers of nft's own data types: an interface's name, and what comes behind it in a key.
const NAME: u32 = 41;
const fn pair(second: u32) -> u32 {
    (NAME << 6) | second
}
/// Length of a link's name in a key (`IFNAMSIZ`).
const NAME_LENGTH: usize = 16;

const GUARDED: Set = Set { name: "guarded", kind: NAME, length: 16 };
const STATIONS: Set = Set { name: "stations", kind: pair(9), length: 24 };
const SOURCES4: Set = Set { name: "sources4", kind: pair(7), length: 20 };
const SOURCES6: Set = Set { name: "sources6", kind: pair(8), length: 32 };
/// All of an honest packet in one key: nothing else is looked at then.
const HONEST4: Set = Set { name: "honest4", kind: (pair(9) << 6) | 7, length: 28 };
const HONEST6: Set = Set { name: "honest6", kind: (pair(9) << 6) | 8, length: 40 };
const SETS: [Set; 6] = [GUARDED, STATIONS, SOURCES4, SOURCES6, HONEST4, HONEST6];

const FORGED_MAC: &str = "forged_mac";
const FORGED_ADDRESS: &str = "forged_address";

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// VLAN tags (IEEE 802.1Q and 802.1ad).
const TAGS: [u16; 2] = [0x8100, 0x88a8];

/// Frames that were dropped because of who they said they were from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forged {
    /// With another Ethernet address than the port's.
    pub mac: u64,
    /// With an IP address that is not the container's.
    pub address: u64,
}

/// What the table says of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guarded {
    /// The addresses, where they are as we write them.
    pub(super) sources: Option<Sources>,
    /// The only Ethernet address, likewise.
    pub(super) mac: Option<MacAddr>,
}

/// The rules of a host, and the only writer to them.
#[derive(Debug)]
pub(super) struct SourceRules {
    /// A socket in the namespace of the bridges; none where the kernel has no rules for bridges.
    socket: Option<OwnedFd>,
    /// What the sets hold, by the name of the port.
    known: BTreeMap<String, Vec<Element>>,
}

impl SourceRules {
    /// Makes the table, or renews its rules; what a former run put into its sets goes on.
    pub(super) fn open(overlay: &Namespace) -> Result<Self, String> {
        let socket = overlay.run(transaction::open).map_err(|error| error.to_string())?;
        let socket = socket.map_err(|errno| errno.to_string())?;
        make_table(&socket).map_err(|errno| errno.to_string())?;
        let mut rules = Self { socket: Some(socket), known: BTreeMap::new() };
        rules.find().map_err(|errno| errno.to_string())?;
        Ok(rules)
    }

    /// For a kernel that takes no such rules: remembers what they would be.
    pub(super) fn imagined() -> Self {
        Self { socket: None, known: BTreeMap::new() }
    }

    /// Reads the sets: what they say of each port that is in one of them.
    pub(super) fn find(&mut self) -> Result<BTreeMap<String, Guarded>, Errno> {
        if let Some(socket) = &self.socket {
            self.known = read_sets(socket)?;
        }
        Ok(self.known.iter().map(|(port, elements)| (port.clone(), guarded(port, elements))).collect())
    }

    /// What the port may say from now on.
    pub(super) fn set(&mut self, port: &str, mac: MacAddr, sources: Sources) -> Result<(), Errno> {
        let wanted = elements(port, mac, sources);
        let result = self.exchange(port, &wanted);
        if result != Err(Errno::ENOENT) {
            return result;
        }
        // The table, or something of it, is gone.
        self.socket.iter().try_for_each(make_table)?;
        self.find()?;
        self.exchange(port, &wanted)
    }

    /// Forgets a port.
    pub(super) fn remove(&mut self, port: &str) -> Result<(), Errno> {
        match self.exchange(port, &[]) {
            Err(Errno::ENOENT) => self.find().map(drop),
            other => other,
        }
    }

    /// Forgets all ports but these.
    pub(super) fn sweep(&mut self, links: &BTreeSet<String>) -> Result<(), Errno> {
        let gone: Vec<_> = self.known.keys().filter(|port| !links.contains(*port)).cloned().collect();
        gone.iter().try_for_each(|port| self.remove(port))
    }

    /// What has been dropped since the table was made.
    pub(super) fn forged(&self) -> Result<Forged, Errno> {
        let Some(socket) = &self.socket else { return Ok(Forged::default()) };
        let answer = match transaction::ask(socket, &list_counters(TABLE))? {
            Err(Errno::ENOENT) => return Ok(Forged::default()),
            other => other?,
        };
        let count =
            |name: &str| answer.counters.iter().find(|(found, _)| found == name).map_or(0, |(_, n)| *n);
        Ok(Forged { mac: count(FORGED_MAC), address: count(FORGED_ADDRESS) })
    }

    fn exchange(&mut self, port: &str, wanted: &[Element]) -> Result<(), Errno> {
        let known = self.known.get(port).map(Vec::as_slice).unwrap_or_default();
        let less: Vec<_> = known.iter().filter(|element| !wanted.contains(element)).cloned().collect();
        let more: Vec<_> = wanted.iter().filter(|element| !known.contains(element)).cloned().collect();
        if let Some(socket) = self.socket.as_ref().filter(|_| !less.is_empty() || !more.is_empty()) {
            transaction::commit(socket, change(TABLE, &less, &more))??;
        }
        if wanted.is_empty() {
            self.known.remove(port);
        } else {
            self.known.insert(port.to_owned(), wanted.to_vec());
        }
        Ok(())
    }
}

fn make_table(socket: &OwnedFd) -> Result<(), Errno> {
    let table = bridge_table_with_sets(TABLE, &SETS, &[FORGED_MAC, FORGED_ADDRESS], rules());
    transaction::commit(socket, table)?
}

/// What the sets hold, by the name of the port; nothing where somebody has taken the table away.
fn read_sets(socket: &OwnedFd) -> Result<BTreeMap<String, Vec<Element>>, Errno> {
    let mut found: BTreeMap<String, Vec<Element>> = BTreeMap::new();
    for set in SETS {
        let answer = match transaction::ask(socket, &list(TABLE, set.name))? {
            Err(Errno::ENOENT) => return Ok(BTreeMap::new()),
            other => other?,
        };
        for key in answer.keys {
            let name = key.iter().copied().take(NAME_LENGTH).take_while(|byte| *byte != 0);
            let name = String::from_utf8_lossy(&name.collect::<Vec<_>>()).into_owned();
            found.entry(name).or_default().push((set.name, key));
        }
    }
    Ok(found)
}

fn elements(port: &str, mac: MacAddr, sources: Sources) -> Vec<Element> {
    let Sources::Only { v4, v6 } = sources else { return Vec::new() };
    let mut station = key(port, &mac.octets());
    station.resize(STATIONS.length as usize, 0);
    let honest = |ip: &[u8]| [&station, ip].concat();
    let mut elements = Vec::new();
    if let Some(ip) = v4.map(|ip| ip.octets()) {
        elements.extend([(SOURCES4.name, key(port, &ip)), (HONEST4.name, honest(&ip))]);
    }
    if let Some(ip) = v6.map(|ip| ip.octets()) {
        elements.extend([(SOURCES6.name, key(port, &ip)), (HONEST6.name, honest(&ip))]);
    }
    elements.extend([(GUARDED.name, key(port, &[])), (STATIONS.name, station)]);
    elements
}

fn key(port: &str, second: &[u8]) -> Vec<u8> {
    let mut key = port.as_bytes().to_vec();
    key.resize(NAME_LENGTH, 0);
    key.extend(second);
    key
}

fn guarded(port: &str, found: &[Element]) -> Guarded {
    let of = |set: Set| {
        found.iter().filter(move |(name, _)| *name == set.name).map(|(_, key)| &key[NAME_LENGTH..])
    };
    let mac = of(STATIONS).next().and_then(|key| MacAddr::new(*key.first_chunk()?).ok());
    let v4 = of(SOURCES4).next().and_then(|key| key.first_chunk::<4>()).map(|octets| Ipv4Addr::from(*octets));
    let v6 =
        of(SOURCES6).next().and_then(|key| key.first_chunk::<16>()).map(|octets| Ipv6Addr::from(*octets));
    let sources = Sources::Only { v4, v6 };
    let whole = mac.is_some_and(|mac| {
        let mut wanted = elements(port, mac, sources);
        wanted.retain(|element| !found.contains(element));
        wanted.is_empty() && found.len() == elements(port, mac, sources).len()
    });
    Guarded { sources: whole.then_some(sources), mac: mac.filter(|_| whole) }
}

fn rules() -> Vec<Rule> {
    let forged_mac = |rule: Rule| rule.counted(FORGED_MAC).dropped();
    let forged_address = |rule: Rule| rule.counted(FORGED_ADDRESS).dropped();
    let mut rules = vec![
        Rule::default().came_not_by(PORTS).passed(),
        Rule::default().protocol(IPV4).speaker_in(Field::SourceAddress, HONEST4.name).passed(),
        // Messages of ICMPv6 may have something to say about others.
        Rule::default()
            .protocol(IPV6)
            .differs(Field::NextHeader, &[58])
            .speaker_in(Field::SourceAddress6, HONEST6.name)
            .passed(),
        Rule::default().link_not_in(GUARDED.name).passed(),
        forged_mac(Rule::default().pair_not_in(Field::SourceStation, STATIONS.name)),
        forged_mac(Rule::default().protocol(ARP).pair_not_in(Field::ArpSenderStation, STATIONS.name)),
        forged_address(
            Rule::default()
                .protocol(ARP)
                .differs(Field::ArpSenderAddress, &Ipv4Addr::UNSPECIFIED.octets())
                .pair_not_in(Field::ArpSenderAddress, SOURCES4.name),
        ),
        forged_address(
            Rule::default()
                .protocol(IPV4)
                .differs(Field::SourceAddress, &Ipv4Addr::UNSPECIFIED.octets())
                .pair_not_in(Field::SourceAddress, SOURCES4.name),
        ),
        forged_address(
            Rule::default()
                .protocol(IPV6)
                .differs(Field::SourceAddress6, &Ipv6Addr::UNSPECIFIED.octets())
                .begins_not(Field::SourceAddress6, [0xff, 0xc0], [0xfe, 0x80])
                .pair_not_in(Field::SourceAddress6, SOURCES6.name),
        ),
        // A neighbour advertisement (RFC 4861, section 4.4).
        forged_address(
            Rule::default()
                .protocol(IPV6)
                .holds(Field::NextHeader, &[58])
                .holds(Field::Icmpv6Type, &[136])
                .begins_not(Field::Icmpv6Target, [0xff, 0xc0], [0xfe, 0x80])
                .pair_not_in(Field::Icmpv6Target, SOURCES6.name),
        ),
    ];
    rules.extend(TAGS.map(|tag| forged_address(Rule::default().protocol(tag))));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_told() {
        let mac = MacAddr::from_ip([10, 9, 0, 2].into());
        let both = Sources::Only { v4: Some([10, 9, 0, 2].into()), v6: Some("fd00::2".parse().unwrap()) };
        let written = elements("p1", mac, both);
        assert_eq!(guarded("p1", &written), Guarded { sources: Some(both), mac: Some(mac) });
        for missing in 0..written.len() {
            let mut part = written.clone();
            part.remove(missing);
            assert_ne!(guarded("p1", &part).sources, Some(both));
        }
        let mut more = written.clone();
        more.push((SOURCES4.name, key("p1", &[10, 9, 0, 3])));
        assert_eq!(guarded("p1", &more), Guarded { sources: None, mac: None });
        assert!(elements("p1", mac, Sources::Any).is_empty());
        assert!(SETS.iter().all(|set| {
            written.iter().all(|(name, key)| *name != set.name || key.len() == set.length as usize)
        }));
    }
}
