//! Puts the link of a running container back where somebody has deleted it.
//!
//! A veth pair dies as a whole, whichever end is deleted. The port's own end is made again like all that the
//! plan wants; the other end then waits in the host's namespace, as for a container that is about to start,
//! but no engine comes for it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::worker::Worker;
use crate::{
    clock,
    dataplane::{Attachment, Dataplane},
    local::LocalData,
    model::EndpointId,
};

/// How long an end may wait after `Join` for its engine, which comes for it within the same call.
const ENGINE: Duration = Duration::from_secs(25);

/// Since when ends wait whose container has joined.
#[derive(Debug, Default)]
pub(super) struct Loose(BTreeMap<EndpointId, Instant>);

impl Loose {
    /// Which of the waiting ends no engine will come for: those of ports that were `remade` under a running
    /// container, and those that wait for too long.
    fn overdue(
        &mut self,
        waiting: &BTreeSet<EndpointId>,
        remade: &BTreeSet<EndpointId>,
        now: Instant,
    ) -> Vec<EndpointId> {
        self.0.retain(|id, _| waiting.contains(id));
        let mut overdue = Vec::new();
        for id in waiting {
            let since = *self.0.entry(id.clone()).or_insert(now);
            if remade.contains(id) || now.duration_since(since) >= ENGINE {
                // From now on at every look, should it fail.
                self.0.insert(id.clone(), now.checked_sub(ENGINE).unwrap_or(since));
                overdue.push(id.clone());
            }
        }
        overdue
    }
}

impl<D: Dataplane> Worker<D> {
    /// Gives running containers their links back.
    pub(super) async fn attach_loose(&self, loose: &mut Loose, remade: &BTreeSet<EndpointId>) {
        if self.local.read(|data| data.endpoints.values().all(|e| e.sandbox.is_none())) {
            return;
        }
        let waiting = match self.dataplane.waiting().await {
            Ok(waiting) => waiting,
            Err(error) => {
                warn!(%error, "cannot see which containers have lost their link");
                return;
            }
        };
        let joined: BTreeMap<_, _> = self
            .local
            .read(|data| waiting.iter().filter_map(|id| Some((id.clone(), attachment(data, id)?))).collect());
        let ids = joined.keys().cloned().collect();
        let mut complaints = BTreeMap::new();
        for id in loose.overdue(&ids, remade, Instant::now()) {
            let Some(attachment) = joined.get(&id) else { continue };
            match self.dataplane.attach(attachment).await {
                Ok(name) => {
                    info!(endpoint = id.short(), link = name, "a container had lost its link, which is back");
                    let step = format!("link {name} of endpoint {} put back into its container", id.short());
                    self.applied.send_modify(|applied| {
                        let applied = std::sync::Arc::make_mut(applied);
                        applied.count_repair("container's link", step, clock::unix_seconds());
                    });
                }
                Err(error) => {
                    warn!(endpoint = id.short(), %error, "a container has lost its link, which cannot be put back");
                    complaints.insert(id, error.to_string());
                }
            }
        }
        self.applied.send_if_modified(|applied| {
            let changed = applied.loose != complaints;
            if changed {
                std::sync::Arc::make_mut(applied).loose = complaints;
            }
            changed
        });
    }
}

/// What a container's link needs, where its container has joined and its sandbox is still there.
fn attachment(data: &LocalData, id: &EndpointId) -> Option<Attachment> {
    let endpoint = data.endpoints.get(id)?;
    let sandbox = PathBuf::from(endpoint.sandbox.as_deref().filter(|path| !path.is_empty())?);
    if !sandbox.exists() {
        return None;
    }
    let network = &data.bindings.get(&endpoint.docker_network)?.network;
    let addresses = endpoint.addresses.iter().filter_map(|ip| {
        let subnet = network.subnet_of(*ip)?;
        IpNet::new(*ip, subnet.cidr.prefix_len()).ok()
    });
    Some(Attachment { endpoint: id.clone(), sandbox, addresses: addresses.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_waited_for_unless_the_port_was_made_again() {
        let ids = |ids: &[&str]| ids.iter().map(|id| EndpointId::new(*id).unwrap()).collect::<BTreeSet<_>>();
        let (both, none, start) = (ids(&["a", "b"]), ids(&[]), Instant::now());
        let mut loose = Loose::default();
        assert_eq!(loose.overdue(&both, &ids(&["b"]), start), [EndpointId::new("b").unwrap()]);
        // The one that could not be put back is tried again, the other one waits for its engine.
        assert_eq!(loose.overdue(&both, &none, start + ENGINE / 2), [EndpointId::new("b").unwrap()]);
        assert_eq!(loose.overdue(&both, &none, start + ENGINE).len(), 2);
        assert!(loose.overdue(&none, &none, start + ENGINE).is_empty());
        assert!(loose.overdue(&ids(&["a"]), &none, start + ENGINE * 2).is_empty(), "it begins anew");
    }
}
