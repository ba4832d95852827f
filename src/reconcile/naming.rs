//! Learns from the engine which container is behind each endpoint, and what it is called.

mod asking;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::asking::{Ask, Asking};
use crate::{
    backoff::Backoff,
    engine::{DriverName, EngineApi, EngineError, EngineEvents},
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
    pub driver: Arc<DriverName>,
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
        let mut asking = Asking::default();
        loop {
            let mut look_at = match self.round(&mut asking).await {
                Ok(()) => Instant::now() + RESYNC,
                Err(error) => {
                    debug!(%error, "names not learnt yet");
                    Instant::now() + retry.pause()
                }
            };
            loop {
                // Every arm is cancel safe: an event only says that something is to be looked up.
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return asking.end().await,
                    _ = events.next() => break,
                    Some(answered) = asking.answer() => match answered {
                        Ok(()) if asking.left_out() => break,
                        Ok(()) => retry.reset(),
                        Err(error) => {
                            debug!(%error, "a container's names are not learnt yet");
                            look_at = look_at.min(Instant::now() + retry.pause());
                        }
                    },
                    () = tokio::time::sleep_until(look_at) => break,
                }
            }
            tokio::time::sleep(SETTLE).await;
            drain(&mut events);
        }
    }

    /// Looks at all endpoints, and asks for the containers of those whose names have changed. An engine
    /// answers about a container that it is just starting when it has done so; the others do not wait for
    /// that.
    async fn round(&self, asking: &mut Asking) -> Result<(), Unfinished> {
        asking.begin();
        for network in self.engine.networks(self.driver.ask(&*self.engine).await?).await? {
            for (endpoint, found) in network.endpoints {
                let Ok(endpoint) = EndpointId::new(endpoint) else { continue };
                let Some(known) = self.local.read(|data| data.endpoints.get(&endpoint).cloned()) else {
                    continue;
                };
                let Some(container) = found.container else {
                    // Engines from 28 on show the name before they show the container.
                    if known.container.is_none() && !found.name.is_empty() {
                        self.local.update_endpoint(&endpoint, |e| e.container = Some(found.name))?;
                    }
                    continue;
                };
                if known.container_id.as_ref() != Some(&container)
                    || known.container.as_ref() != Some(&found.name)
                {
                    asking.ask(Ask {
                        engine: self.engine.clone(),
                        local: self.local.clone(),
                        network: network.id.clone(),
                        endpoint,
                        container,
                    });
                }
            }
        }
        Ok(())
    }
}

/// One look serves all events that have come by now.
fn drain(events: &mut EngineEvents) {
    while let Some(Some(_)) = events.next().now_or_never() {}
}
