//! Choice of a VNI.

use std::collections::BTreeSet;

use crate::model::{Node, Vni};

/// The lowest free VNI that is not below `first` (the first one that is left to automatic choice, or the first
/// that swarms get), after skipping `skip` free ones (a host that has
/// lost a race skips a few, so that hosts that create at once part ways). `None` when all are taken.
pub fn choose_vni(taken: &BTreeSet<Vni>, first: u32, skip: u32) -> Option<Vni> {
    let mut free = (first..Vni::PROBE.get())
        .filter_map(|number| Vni::new(number).ok())
        .filter(|vni| !taken.contains(vni));
    let first = free.next()?;
    // `nth(0)` is the one behind the first.
    let later = skip.checked_sub(1).and_then(|n| free.nth(usize::try_from(n).ok()?));
    Some(later.unwrap_or(first))
}

/// VNIs that no network should have: on some host another program's VXLAN device has it, on the port that
/// the host uses.
pub fn foreign_vnis<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> BTreeSet<Vni> {
    let devices = nodes.into_iter().flat_map(|node| {
        node.vxlans.iter().filter(|device| device.port == node.vxlan_port).map(|device| device.vni)
    });
    devices.filter_map(|number| Vni::new(number).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lowest_free_one_or_skips() {
        let vni = |n| Vni::new(n).unwrap();
        let from_first = |n| vni(Vni::FIRST_AUTOMATIC + n);
        let taken = BTreeSet::from([from_first(0), from_first(2)]);
        let choose = |skip| choose_vni(&taken, Vni::FIRST_AUTOMATIC, skip);
        assert_eq!([choose(0), choose(1), choose(2)], [1, 3, 4].map(|n| Some(from_first(n))));
        assert_eq!(choose_vni(&taken, Vni::FIRST_IN_SWARMS, 0), Some(vni(Vni::FIRST_IN_SWARMS)));
    }

    #[test]
    fn devices_of_other_programs_count_where_they_are_in_the_way() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "id": "a", "hostname": "a", "vtep": "192.0.2.1", "vxlan_port": 4789, "underlay_mtu": 1500,
            "daemon_version": "", "scope": "local", "boot_id": "", "since": 0,
            "vxlans": [
                { "vni": 4096, "port": 4789, "dev": "flannel.1" },
                { "vni": 4097, "port": 8472, "dev": "elsewhere" },
                { "vni": 0, "port": 4789, "dev": "takes all" },
            ],
        }))
        .unwrap();
        let taken = foreign_vnis([&node]);
        assert_eq!(taken, BTreeSet::from([Vni::new(4096).unwrap()]));
        assert_eq!(
            node.holder_of(Vni::new(4096).unwrap()).map(|device| device.dev.as_str()),
            Some("flannel.1")
        );
        assert_eq!(node.holder_of(Vni::new(4097).unwrap()), None);
    }
}
