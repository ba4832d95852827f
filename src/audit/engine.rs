//! The engine's networks and endpoints against this host's own state.

use std::collections::{BTreeMap, BTreeSet};

use super::{Area, Own, row};
use crate::{
    admin::DifferenceRow,
    model::{EndpointId, NetworkId},
};

/// What the engine lists of our driver.
#[derive(Debug, Clone, Default)]
pub struct EngineView {
    /// Names of networks by Docker's id.
    pub networks: BTreeMap<String, String>,
    /// Names of containers by endpoint.
    pub endpoints: BTreeMap<String, String>,
    /// Those of them that may be on other hosts: engines that share a network list all of it, and of what is
    /// elsewhere they do not know the container.
    pub elsewhere: BTreeSet<String>,
}

/// All differences.
pub fn compare_engine(engine: &EngineView, own: &Own) -> Vec<DifferenceRow> {
    let mut rows = Vec::new();
    let known: BTreeSet<&str> = own.networks.keys().map(NetworkId::as_str).collect();
    for (id, name) in engine.networks.iter().filter(|(id, _)| !known.contains(id.as_str())) {
        let object = format!("Docker network {name} ({})", id.get(..12).unwrap_or(id));
        rows.push(row(Area::Engine, object, "a network of the cluster", "unknown here"));
    }
    for (id, here) in own.networks.iter().filter(|(id, _)| !engine.networks.contains_key(id.as_str())) {
        let object = format!("Docker network {} ({})", here.network.title(), id.short());
        rows.push(row(Area::Engine, object, "there", "missing in the engine"));
    }
    let known: BTreeSet<&str> = own.endpoints.keys().map(EndpointId::as_str).collect();
    let unknown = |id: &String| !known.contains(id.as_str()) && !engine.elsewhere.contains(id);
    for (id, name) in engine.endpoints.iter().filter(|(id, _)| unknown(id)) {
        let object = format!("container {name}, endpoint {}", id.get(..12).unwrap_or(id));
        rows.push(row(Area::Engine, object, "known", "unknown here: start the container again"));
    }
    for (id, endpoint) in &own.endpoints {
        if !endpoint.alive && !engine.endpoints.contains_key(id.as_str()) {
            let object = format!("endpoint {} ({})", id.short(), endpoint.record.title());
            rows.push(row(Area::Engine, object, "none: its container is gone", "kept; it is collected soon"));
        }
    }
    rows
}
