//! Many forwarding entries and neighbours at once.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    Kernel,
    error::Failure,
    fdb::{delete_flood, delete_remote, gone_is_fine, set_flood, set_remote},
    neighbours,
    socket::Request,
};
use crate::{
    dataplane::{
        DataplaneError,
        announce::{Announcement, announce},
        names::{bridge_link, vxlan_link},
    },
    model::Vni,
    plan::Op,
};

/// Whether steps of this kind are sent many at a time.
pub(super) fn is_entry(op: &Op) -> bool {
    matches!(
        op,
        Op::SetFdb { .. }
            | Op::DeleteFdb { .. }
            | Op::SetFlood { .. }
            | Op::DeleteFlood { .. }
            | Op::SetNeighbour { .. }
            | Op::DeleteNeighbour { .. }
            | Op::Announce { .. }
    )
}

/// Indices of the two links of a segment. The probe segment has one that is both.
#[derive(Debug, Clone, Copy)]
struct Indices {
    bridge: Option<u32>,
    vxlan: Option<u32>,
}

impl Kernel {
    /// Carries out a run of entry steps. The answers stand in the order of `ops`.
    pub(super) async fn entries(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut results: Vec<Result<(), DataplaneError>> = Vec::with_capacity(ops.len());
        let mut indices: BTreeMap<Vni, Result<Indices, Failure>> = BTreeMap::new();
        let mut requests = Vec::with_capacity(2 * ops.len());
        let mut owners = Vec::with_capacity(2 * ops.len());
        for (place, op) in ops.iter().enumerate() {
            let Some(vni) = op.vni() else {
                results.push(Ok(()));
                continue;
            };
            let found = match indices.entry(vni) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(unknown) => unknown.insert(self.indices(vni).await).clone(),
            };
            match found
                .map_err(|failure| failure.during(op.to_string()))
                .and_then(|found| messages(op, found))
            {
                Ok(messages) => {
                    owners.extend(std::iter::repeat_n(place, messages.len()));
                    requests.extend(messages);
                    results.push(Ok(()));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        if let Err(error) = self.forget_stations(ops) {
            tracing::warn!(%error, "a station that is gone stays in the fast path's map until the next look");
        }
        for (place, answer) in owners.into_iter().zip(self.inside.batch(requests).await) {
            let Some(op) = ops.get(place) else { continue };
            let answer = match (op, answer) {
                (Op::DeleteFdb { .. } | Op::DeleteFlood { .. } | Op::DeleteNeighbour { .. }, answer) => {
                    gone_is_fine(answer)
                }
                (_, answer) => answer,
            };
            if let (Err(failure), Some(result @ Ok(()))) = (answer, results.get_mut(place)) {
                *result = Err(failure.during(op.to_string()));
            }
        }
        for (op, result) in ops.iter().zip(&mut results) {
            if let (Op::SetFdb { vni, mac, .. }, Ok(())) = (op, &*result) {
                let added = self.add_station(*vni, *mac);
                *result = added.map_err(|detail| DataplaneError::Refused { what: op.to_string(), detail });
            }
        }
        let news = ops.iter().filter_map(|op| match op {
            Op::Announce { vni, ip, mac } => match indices.get(vni) {
                Some(Ok(Indices { bridge: Some(bridge), .. })) => {
                    Some(Announcement { bridge: *bridge, ip: *ip, mac: *mac })
                }
                _ => None,
            },
            _ => None,
        });
        let news: Vec<_> = news.collect();
        if !news.is_empty() {
            self.tell(&news);
        }
        results
    }

    async fn indices(&self, vni: Vni) -> Result<Indices, Failure> {
        let bridge = self.inside.link(&bridge_link(vni)).await?.map(|link| link.index);
        let vxlan = self.inside.link(&vxlan_link(vni)).await?.map(|link| link.index);
        Ok(Indices { bridge: if vni == Vni::PROBE { bridge.or(vxlan) } else { bridge }, vxlan })
    }

    /// Containers may hold the old MAC for minutes. Not being heard is no failure: they ask again then.
    fn tell(&self, moved: &[Announcement]) {
        if let Err(error) = announce(self.inside.namespace(), moved) {
            tracing::warn!(%error, addresses = moved.len(), "containers not told of changed MAC addresses");
        }
    }
}

fn messages(op: &Op, indices: Indices) -> Result<Vec<Request>, DataplaneError> {
    let missing = |name: String| DataplaneError::Refused {
        what: op.to_string(),
        detail: format!("link {name} is missing; the next round makes it anew"),
    };
    Ok(match (op, indices) {
        (Op::SetFdb { mac, vtep, .. }, Indices { bridge, vxlan: Some(vxlan) }) => {
            rows(set_remote(vxlan, *mac, *vtep), bridge, vxlan)
        }
        (Op::SetFlood { vtep, .. }, Indices { vxlan: Some(vxlan), .. }) => vec![set_flood(vxlan, *vtep)],
        (Op::DeleteFlood { vtep, .. }, Indices { vxlan: Some(vxlan), .. }) => {
            vec![delete_flood(vxlan, *vtep)]
        }
        (Op::SetFdb { vni, .. } | Op::SetFlood { vni, .. }, _) => return Err(missing(vxlan_link(*vni))),
        (Op::DeleteFdb { mac, .. }, Indices { bridge, vxlan: Some(vxlan) }) => {
            rows(delete_remote(vxlan, *mac), bridge, vxlan)
        }
        (Op::SetNeighbour { ip, mac, .. }, Indices { bridge: Some(bridge), .. }) => {
            vec![neighbours::set(bridge, *ip, *mac)]
        }
        (Op::SetNeighbour { vni, .. }, _) => return Err(missing(bridge_link(*vni))),
        (Op::DeleteNeighbour { ip, .. }, Indices { bridge: Some(bridge), .. }) => {
            vec![neighbours::delete(bridge, *ip)]
        }
        _ => Vec::new(),
    })
}

/// Without a bridge there is no row of the bridge.
fn rows([own, of_bridge]: [Request; 2], bridge: Option<u32>, vxlan: u32) -> Vec<Request> {
    if bridge == Some(vxlan) { vec![own] } else { vec![own, of_bridge] }
}
