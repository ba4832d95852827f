//! Whether a network of this engine is the cluster's one of its name.
//!
//! No driver call carries a name, so a network begins without one and gets it moments later. If the
//! cluster has a network of that name already, the engine's new one is replaced by it. A container that
//! began in between would stand on a half that nobody else has.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Driver, DriverError};
use crate::{
    local::Binding,
    model::{IpamMode, Mode},
    watched::Followed,
};

/// How long a container waits for its network's name, which normally takes a tenth of a second.
const NAME_TOLD: Duration = Duration::from_secs(2);

impl Driver {
    /// Waits until the network of `binding` is confirmed, and answers what it is then. One that is
    /// confirmed already, which is known here, costs nothing.
    pub(super) async fn confirmed(&self, mut binding: Binding) -> Result<Binding, DriverError> {
        let Some(mut engine) = self.engine.clone() else {
            return Ok(binding);
        };
        let docker_id = binding.docker_id.clone();
        let mut changes = self.local.changes();
        let end = Instant::now() + NAME_TOLD;
        while self.is_open(&binding) {
            let report = engine.catch_up();
            if let Some(name) = report.yielding.get(&docker_id) {
                return Err(DriverError::Replaced { network: name.clone() });
            }
            if !report.reachable {
                // Nobody can tell the name, and the host serves what it is given.
                return Ok(binding);
            }
            let news = async {
                tokio::select! {
                    biased;
                    local = changes.changed() => local.is_ok(),
                    told = engine.changed() => told.is_ok(),
                }
            };
            if tokio::time::timeout_at(end, news).await != Ok(true) {
                // A store that is away, or a busy engine, must not keep containers from starting. If the
                // cluster turns out to have another network of the name, `status` says what to do.
                warn!(
                    network = docker_id.short(),
                    "starting a container in a network whose name is not told yet"
                );
                return Ok(binding);
            }
            let now = self.local.read(|data| data.bindings.get(&docker_id).cloned());
            binding = now.ok_or_else(|| DriverError::Replaced { network: docker_id.short().to_owned() })?;
        }
        Ok(binding)
    }

    fn is_open(&self, binding: &Binding) -> bool {
        let network = &binding.network;
        if network.mode() != Mode::Plain {
            return false;
        }
        if binding.docker_id == network.id {
            network.name.is_none() && network.created_by == *self.node()
        } else {
            // Joined by its subnet; one with our IPAM takes its place.
            binding.ipam == IpamMode::Engine
        }
    }
}
