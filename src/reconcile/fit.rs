//! Has the links inside of running containers follow the MTU of their network.
//!
//! A bridge drops what is larger than its MTU without a word, so a container that goes on with a larger one
//! than its network has would lose all large packets.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tracing::{info, warn};

use super::worker::Worker;
use crate::{
    dataplane::{Dataplane, DataplaneError},
    local::LocalEndpoint,
    model::EndpointId,
    plan::Overlay,
    watched::Watched,
};

/// Below this the kernel takes IPv6 off a link, with all its addresses (RFC 8200, section 5).
const LEAST_OF_IPV6: u32 = 1280;

impl<D: Dataplane> Worker<D> {
    /// Changes those that are known to differ; where that has failed before, only if this is a `look`. Answers
    /// whether some link is still on its way into its container.
    pub(super) async fn fit(&self, overlay: &Overlay, look: bool) -> bool {
        let ports = overlay.segments.values().flat_map(|segment| &segment.ports);
        let ports: BTreeMap<&EndpointId, u32> = ports.map(|(id, port)| (id, port.mtu)).collect();
        let differs = |endpoint: &&LocalEndpoint| {
            ports.get(&endpoint.id).is_some_and(|mtu| *mtu != 0 && *mtu != endpoint.mtu)
        };
        let late: Vec<_> = self.local.read(|data| data.connected().filter(differs).cloned().collect());
        let told = self.applied.now().unfit.clone();
        let mut unfit = BTreeMap::new();
        let mut on_its_way = false;
        for endpoint in late {
            let Some(&mtu) = ports.get(&endpoint.id) else { continue };
            if let Some(complaint) = told.get(&endpoint.id).filter(|_| !look) {
                unfit.insert(endpoint.id, complaint.clone());
                continue;
            }
            match self.fit_one(&endpoint, mtu).await {
                Ok(true) => self.note(&endpoint, mtu),
                Ok(false) => on_its_way |= endpoint.sandbox.is_some_and(|path| Path::new(&path).exists()),
                Err(error) => {
                    let complaint = error.to_string();
                    if told.get(&endpoint.id) != Some(&complaint) {
                        warn!(%error, container = endpoint.container, "a container keeps another MTU than its network has");
                    }
                    unfit.insert(endpoint.id, complaint);
                }
            }
        }
        if told != unfit {
            self.applied.send_modify(|applied| Arc::make_mut(applied).unfit = unfit);
        }
        on_its_way
    }

    async fn fit_one(&self, endpoint: &LocalEndpoint, mtu: u32) -> Result<bool, DataplaneError> {
        // Whoever waits outside is fitted together with its port.
        let Some(sandbox) = endpoint.sandbox.as_deref().filter(|path| !path.is_empty()) else {
            return Ok(true);
        };
        if !Path::new(sandbox).exists() {
            return Ok(false);
        }
        if mtu < LEAST_OF_IPV6 && endpoint.addresses.iter().any(std::net::IpAddr::is_ipv6) {
            return Err(DataplaneError::Refused {
                what: format!("MTU {mtu} of endpoint {} in its container", endpoint.id.short()),
                detail: format!("it has an IPv6 address, which needs {LEAST_OF_IPV6} bytes"),
            });
        }
        self.dataplane.fit(&endpoint.id, Path::new(sandbox), mtu).await
    }

    fn note(&self, endpoint: &LocalEndpoint, mtu: u32) {
        if let Err(error) = self.local.update_endpoint(&endpoint.id, |endpoint| endpoint.mtu = mtu) {
            warn!(%error, "cannot remember the MTU of a container");
        }
        if endpoint.sandbox.is_some() {
            info!(
                container = endpoint.container,
                from = endpoint.mtu,
                to = mtu,
                "a container follows the MTU of its network"
            );
        }
    }
}
