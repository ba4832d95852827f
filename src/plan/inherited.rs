//! What a daemon that has just started finds in the kernel and cannot judge yet.
//!
//! The copy of the cluster's state that it begins with may be older than the kernel: the daemon before it
//! was killed before it could write down the last change. Until the store has told, an entry that is not in
//! the copy is no less likely to be right than one that is.

use std::net::IpAddr;

use super::Overlay;
use crate::model::{MacAddr, NetworkId, Snapshot};

/// Takes into `to` what `from` has of remote containers, in the networks of which the store has not told
/// since the start.
pub fn inherit(snapshot: &Snapshot, from: &Overlay, to: &mut Overlay) {
    for (vni, segment) in &mut to.segments {
        if snapshot.listed.contains(&segment.network) || segment.network == NetworkId::of_probes() {
            continue;
        }
        let Some(found) = from.segments.get(vni).filter(|found| found.network == segment.network) else {
            continue;
        };
        let own: Vec<_> = segment.ports.values().map(|port| port.mac).collect();
        let unknown = |mac: &MacAddr| !own.contains(mac) && !segment.fdb.contains_key(mac);
        let fdb: Vec<_> = found.fdb.iter().filter(|(mac, _)| unknown(mac)).collect();
        let unknown = |ip: &IpAddr, mac: &MacAddr| !own.contains(mac) && !segment.neighbours.contains_key(ip);
        let neighbours: Vec<_> = found.neighbours.iter().filter(|(ip, mac)| unknown(ip, mac)).collect();
        if !fdb.is_empty() {
            segment.fdb.extend(fdb);
        }
        if !neighbours.is_empty() {
            segment.neighbours.extend(neighbours);
        }
        segment.flood.extend(found.flood.iter().filter(|_| segment.vxlan.flood));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::IpAddr,
    };

    use super::*;
    use crate::{
        model::{EndpointId, MacAddr, Vni},
        plan::{Port, Segment, Sources, Vxlan, diff},
    };

    fn overlay(remote: &[u8]) -> Overlay {
        let ip = |last: u8| IpAddr::from([10, 9, 0, last]);
        let mac = |last: u8| MacAddr::from_ip(ip(last));
        let port = Port { mac: mac(2), mtu: 1450, sources: Sources::Any, fast: true };
        let segment = Segment {
            network: NetworkId::new("n").unwrap(),
            vxlan: Vxlan { local: [192, 0, 2, 1].into(), port: 4789, mtu: 1450, flood: true },
            fast: true,
            ports: BTreeMap::from([(EndpointId::new("e").unwrap(), port)]),
            fdb: remote.iter().map(|last| (mac(*last), [192, 0, 2, 2].into())).collect(),
            neighbours: remote.iter().map(|last| (ip(*last), mac(*last))).collect(),
            flood: BTreeSet::from([[192, 0, 2, 2].into()]),
        };
        Overlay { segments: BTreeMap::from([(Vni::new(4096).unwrap(), segment)]), ..Overlay::default() }
    }

    #[test]
    fn what_is_not_known_yet_stays_until_the_store_has_told() {
        // Of the entries found, one is known, one is not, and one is of a container that is here now.
        let (found, known) = (overlay(&[3, 4, 2]), overlay(&[3]));
        let mut snapshot = Snapshot::default();
        let mut wanted = known.clone();
        inherit(&snapshot, &found, &mut wanted);
        assert_eq!(wanted, overlay(&[3, 4]));
        assert_eq!(diff(&found, &wanted).len(), 2);
        snapshot.listed.insert(NetworkId::new("n").unwrap());
        let mut wanted = known.clone();
        inherit(&snapshot, &found, &mut wanted);
        assert_eq!(wanted, known);
    }
}
