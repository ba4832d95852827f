//! A container's network namespace: `Join` and `Leave`. Both are answered from what this host knows.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::{Driver, DriverError};
use crate::{clock::micros, dataplane::names, model::EndpointId, watched::Followed};

/// How long `Join` waits for the kernel. Normally the link has been there since `CreateEndpoint`.
const LINK_READY: Duration = Duration::from_secs(8);
/// How long it waits when the kernel has refused the link or its network.
const LINK_REFUSED: Duration = Duration::from_secs(2);

impl Driver {
    /// Notes the sandbox, waits for the endpoint's link and answers its name in the host's namespace.
    pub async fn join(&self, id: &EndpointId, sandbox: &str) -> Result<String, DriverError> {
        let found = self.local.read(|data| data.endpoints.get(id).map(|e| e.network.clone()));
        let network = found.ok_or_else(|| DriverError::UnknownEndpoint(id.clone()))?;
        if !self.local.update_endpoint(id, |endpoint| endpoint.sandbox = Some(sandbox.to_owned()))? {
            // A join that is repeated is a reason to look again, too.
            self.local.tell();
        }
        let mut applied = self.applied.clone();
        let start = Instant::now();
        loop {
            let complaint = {
                let applied = applied.catch_up();
                if applied.has_port(id) {
                    break;
                }
                applied.complaint_of(&network)
            };
            let limit = if complaint.is_some() { LINK_REFUSED } else { LINK_READY };
            let changed = tokio::time::timeout_at(start + limit, applied.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(DriverError::NotReady { endpoint: id.clone(), detail: complaint });
            }
        }
        debug!(endpoint = id.short(), took_us = micros(start.elapsed()), "link waited for");
        Ok(names::container_link(id))
    }

    /// The container is leaving. The engine still has the link inside and moves it back afterwards; it is
    /// deleted with the endpoint.
    pub fn leave(&self, id: &EndpointId) -> Result<(), DriverError> {
        self.local.update_endpoint(id, |endpoint| endpoint.sandbox = None)?;
        Ok(())
    }
}
