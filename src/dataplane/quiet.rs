//! Keeps what containers ask about each other's addresses on their host.
//!
//! A bridge answers ARP and neighbour discovery for the containers that it has a neighbour for, where the
//! question is put to all stations. But a kernel that knows an address asks again after half a minute, and
//! then asks the one station that it knows, which the bridge hands on to the tunnel. These rules turn such a
//! question into one for all, so that it is answered like the first one. Who lives on the same bridge hears
//! it and answers as always.

use std::{fs, io, path::Path};

use nix::errno::Errno;

use super::{
    namespace::Namespace,
    nftables::{Field, Rule, bridge_table, transaction},
};

/// Name of the table in the overlay's namespace.
const TABLE: &str = "rs_overlay_quiet";
/// How names of the bridges' ends of containers' links begin, and no other link's in that namespace.
pub(super) const PORTS: &str = "p";
/// All stations, as ARP asks them.
const EVERYBODY: [u8; 6] = [0xff; 6];
/// All stations that have IPv6 (RFC 2464, section 7).
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Makes the rules in the namespace of the bridges, in place of those of a former run. They stay there without
/// the daemon. Takes about a millisecond, more while others change rules.
pub(super) fn keep_questions_here(overlay: &Namespace) -> Result<(), String> {
    let made = overlay.run(|| {
        let socket = transaction::open()?;
        transaction::commit(&socket, bridge_table(TABLE, rules()))?
    });
    made.map_err(|error| error.to_string())?.map_err(|errno: Errno| errno.to_string())
}

/// Where a kernel with `br_netfilter` has it that bridged packets meet filters of IP, IPv6 and ARP (since Linux 5.3 for
/// each namespace by itself). A new namespace begins with all of them on. It has no such filters, but being asked for
/// them costs a packet a tenth of its way.
const FILTERED: &str = "/proc/sys/net/bridge";
const FILTERS: [&str; 3] =
    ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"];

/// Bridged packets meet the bridges' own rules alone.
pub(super) fn keep_filters_out(overlay: &Namespace) -> io::Result<()> {
    overlay.run(|| {
        for filter in FILTERS {
            match fs::write(Path::new(FILTERED).join(filter), "0") {
                // A kernel without them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    })?
}

fn rules() -> Vec<Rule> {
    // What most packets are not is asked first.
    let to_one = |rule: Rule| rule.came_by(PORTS).for_one();
    // A request (RFC 826).
    let arp = Rule::default().holds(Field::EtherType, &[0x08, 0x06]).holds(Field::ArpOperation, &[0, 1]);
    // A neighbour solicitation (RFC 4861, section 4.3).
    let discovery = Rule::default()
        .holds(Field::EtherType, &[0x86, 0xdd])
        .holds(Field::NextHeader, &[58])
        .holds(Field::Icmpv6Type, &[135]);
    vec![to_one(arp).set_station(EVERYBODY), to_one(discovery).set_station(ALL_NODES)]
}
