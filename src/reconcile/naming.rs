//! Learns from the engine which container is behind each endpoint, and what it is called.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    backoff::Backoff,
    engine::{EngineApi, EngineEndpoint, EngineError, names::names_in},
    local::{Local, LocalError},
    model::EndpointId,
};

/// The longest time between two looks at the engine.
const RESYNC: Duration = Duration::from_secs(30);
/// The shortest one.
const SETTLE: Duration = Duration::from_millis(30);

/// The naming task.
pub struct Naming {
    /// The engine.
    pub engine: Arc<dyn EngineApi>,
    /// This host's endpoints.
    pub local: Arc<Local>,
    /// Name by which the engine knows our driver.
    pub driver: String,
}

#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl Naming {
    /// Runs until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut events = self.engine.events();
        let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let pause = match self.round().await {
                Ok(()) => {
                    retry.reset();
                    RESYNC
                }
                Err(error) => {
                    debug!(%error, "names not learnt yet");
                    retry.pause()
                }
            };
            // Both are cancel safe: an event only says that something is to be looked up.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = events.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn round(&self) -> Result<(), Unfinished> {
        let mut failed = None;
        for network in self.engine.networks(&self.driver).await? {
            for (endpoint, found) in &network.endpoints {
                let Ok(endpoint) = EndpointId::new(endpoint.as_str()) else { continue };
                // One container that the engine is busy with must not hide the others' names.
                if let Err(error) = self.learn(&network.id, &endpoint, found).await {
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn learn(
        &self,
        network: &str,
        endpoint: &EndpointId,
        found: &EngineEndpoint,
    ) -> Result<(), Unfinished> {
        let Some(known) = self.local.read(|data| data.endpoints.get(endpoint).cloned()) else {
            return Ok(());
        };
        let Some(id) = &found.container else {
            // Engines from 28 on show the name before they show the container.
            if known.container.is_none() && !found.name.is_empty() {
                self.local.update_endpoint(endpoint, |e| e.container = Some(found.name.clone()))?;
            }
            return Ok(());
        };
        if known.container_id.as_ref() == Some(id) && known.container.as_ref() == Some(&found.name) {
            return Ok(());
        }
        let Some(container) = self.engine.container(id).await? else { return Ok(()) };
        if let Some(names) = names_in(&container, network) {
            self.local.update_endpoint(endpoint, |e| {
                e.container = Some(names.name);
                e.container_id = Some(container.id);
                e.aliases = names.aliases;
            })?;
        }
        Ok(())
    }
}
