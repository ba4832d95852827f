//! Tells containers of addresses that are behind another MAC now.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::Worker;
use crate::{
    dataplane::Dataplane,
    model::Vni,
    plan::{Op, Overlay, Spoken},
};

impl<D: Dataplane> Worker<D> {
    /// Tells containers which addresses have moved. One that is not told asks again after some time, so a
    /// failure is not worth another try.
    pub(super) async fn announce(
        &self,
        touched: &BTreeSet<Vni>,
        from: &Overlay,
        to: &Overlay,
        spoken: &mut BTreeMap<Vni, Spoken>,
    ) {
        spoken.retain(|vni, _| to.segments.contains_key(vni));
        let mut announcements = Vec::new();
        for (vni, segment) in touched.iter().filter_map(|vni| Some((*vni, to.segments.get(vni)?))) {
            let spoken = spoken.entry(vni).or_default();
            // What an earlier daemon made, or somebody changed, containers may have heard as well.
            if let Some(found) = from.segments.get(&vni) {
                spoken.hear(&found.neighbours, BTreeMap::new());
            }
            let here = self.local.read(|data| {
                let here = segment.ports.keys().filter_map(|id| data.endpoints.get(id));
                here.flat_map(|e| e.addresses.iter().map(|ip| (*ip, e.mac))).collect()
            });
            let moved = spoken.hear(&segment.neighbours, here);
            announcements.extend(moved.into_iter().map(|(ip, mac)| Op::Announce { vni, ip, mac }));
        }
        if announcements.is_empty() {
            return;
        }
        for (op, result) in announcements.iter().zip(self.dataplane.apply(&announcements).await) {
            if let Err(error) = result {
                warn!(step = %op, %error, "containers are not told");
            }
        }
    }
}
