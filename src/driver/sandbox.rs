//! A container's network namespace: `Join` and `Leave`. Both are answered from what this host knows.

use std::time::Duration;

use super::{Driver, DriverError};
use crate::{dataplane::names, model::EndpointId};

/// How long `Join` waits for the kernel. Normally the link has been there since `CreateEndpoint`.
const LINK_READY: Duration = Duration::from_secs(8);

impl Driver {
    /// Notes the sandbox, waits for the endpoint's link and answers its name in the host's namespace.
    pub async fn join(&self, id: &EndpointId, sandbox: &str) -> Result<String, DriverError> {
        let found = self.local.read(|data| data.endpoints.get(id).map(|e| e.network.clone()));
        let network = found.ok_or_else(|| DriverError::UnknownEndpoint(id.clone()))?;
        self.local.update_endpoint(id, |endpoint| endpoint.sandbox = Some(sandbox.to_owned()))?;
        let mut applied = self.applied.clone();
        let ready = tokio::time::timeout(LINK_READY, applied.wait_for(|applied| applied.has_port(id))).await;
        if !matches!(ready, Ok(Ok(_))) {
            let detail = self.applied.borrow().complaint_of(&network);
            return Err(DriverError::NotReady { endpoint: id.clone(), detail });
        }
        Ok(names::container_link(id))
    }

    /// The container is leaving. The engine still has the link inside and moves it back afterwards; it is
    /// deleted with the endpoint.
    pub fn leave(&self, id: &EndpointId) -> Result<(), DriverError> {
        self.local.update_endpoint(id, |endpoint| endpoint.sandbox = None)?;
        Ok(())
    }
}
