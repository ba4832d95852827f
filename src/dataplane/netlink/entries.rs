//! Many forwarding entries and neighbours at once.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use super::{
    Kernel,
    error::Failure,
    fdb::{delete_remote, gone_is_fine, set_remote},
    neighbours,
    socket::Request,
};
use crate::{
    dataplane::{
        DataplaneError,
        announce::{Announcement, announce},
        names::{bridge_link, vxlan_link},
    },
    model::{MacAddr, Vni},
    plan::Op,
};

/// Whether steps of this kind are sent many at a time.
pub(super) fn is_entry(op: &Op) -> bool {
    matches!(
        op,
        Op::SetFdb { .. } | Op::DeleteFdb { .. } | Op::SetNeighbour { .. } | Op::DeleteNeighbour { .. }
    )
}

/// Indices of the two links of a segment.
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
            let Some(vni) = segment(op) else {
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
        let mut moved = Vec::new();
        for (place, answer) in owners.into_iter().zip(self.inside.batch(requests).await) {
            let Some(op) = ops.get(place) else { continue };
            let answer = match (op, answer) {
                (Op::DeleteFdb { .. } | Op::DeleteNeighbour { .. }, answer) => gone_is_fine(answer),
                (Op::SetNeighbour { vni, ip, mac }, Err(failure))
                    if failure.errno() == Some(Errno::EEXIST) =>
                {
                    match indices.get(vni) {
                        Some(Ok(Indices { bridge: Some(bridge), .. })) => {
                            self.replace(*bridge, *ip, *mac, &mut moved).await
                        }
                        _ => Err(failure),
                    }
                }
                (_, answer) => answer,
            };
            if let (Err(failure), Some(result @ Ok(()))) = (answer, results.get_mut(place)) {
                *result = Err(failure.during(op.to_string()));
            }
        }
        if !moved.is_empty() {
            self.tell(&moved);
        }
        results
    }

    async fn indices(&self, vni: Vni) -> Result<Indices, Failure> {
        Ok(Indices {
            bridge: self.inside.link(&bridge_link(vni)).await?.map(|link| link.index),
            vxlan: self.inside.link(&vxlan_link(vni)).await?.map(|link| link.index),
        })
    }

    async fn replace(
        &self,
        bridge: u32,
        ip: IpAddr,
        mac: MacAddr,
        moved: &mut Vec<Announcement>,
    ) -> Result<(), Failure> {
        let old = self.inside.get(neighbours::lookup(bridge, ip)).await;
        self.inside.call(neighbours::set(bridge, ip, mac)).await?;
        if old.ok().flatten().as_ref().and_then(neighbours::looked_up) != Some(mac) {
            moved.push(Announcement { bridge, ip, mac });
        }
        Ok(())
    }

    /// Containers may hold the old MAC for minutes. Not being heard is no failure: they ask again then.
    fn tell(&self, moved: &[Announcement]) {
        if let Err(error) = announce(self.inside.namespace(), moved) {
            tracing::warn!(%error, addresses = moved.len(), "containers not told of changed MAC addresses");
        }
    }
}

fn segment(op: &Op) -> Option<Vni> {
    match op {
        Op::SetFdb { vni, .. }
        | Op::DeleteFdb { vni, .. }
        | Op::SetNeighbour { vni, .. }
        | Op::DeleteNeighbour { vni, .. } => Some(*vni),
        _ => None,
    }
}

fn messages(op: &Op, indices: Indices) -> Result<Vec<Request>, DataplaneError> {
    let missing = |name: String| DataplaneError::Refused {
        what: op.to_string(),
        detail: format!("link {name} is missing; the next round makes it anew"),
    };
    Ok(match (op, indices) {
        (Op::SetFdb { mac, vtep, .. }, Indices { vxlan: Some(vxlan), .. }) => {
            set_remote(vxlan, *mac, *vtep).into()
        }
        (Op::SetFdb { vni, .. }, _) => return Err(missing(vxlan_link(*vni))),
        (Op::DeleteFdb { mac, .. }, Indices { vxlan: Some(vxlan), .. }) => delete_remote(vxlan, *mac).into(),
        (Op::SetNeighbour { ip, mac, .. }, Indices { bridge: Some(bridge), .. }) => {
            // Refused where there is one already: only then can its MAC have changed.
            let mut request = neighbours::set(bridge, *ip, *mac);
            request.flags = NLM_F_CREATE | NLM_F_EXCL;
            vec![request]
        }
        (Op::SetNeighbour { vni, .. }, _) => return Err(missing(bridge_link(*vni))),
        (Op::DeleteNeighbour { ip, .. }, Indices { bridge: Some(bridge), .. }) => {
            vec![neighbours::delete(bridge, *ip)]
        }
        _ => Vec::new(),
    })
}
