//! Asks the engine for containers, several at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::task::{Id, JoinSet};
use tracing::info;

use super::Unfinished;
use crate::{
    clock,
    engine::{
        EngineApi,
        names::{ContainerNames, names_in},
    },
    local::{Local, LocalEndpoint},
    model::EndpointId,
};

/// Containers that are asked for at once.
const AT_ONCE: usize = 16;

/// Which container's names are wanted, for which endpoint.
pub(super) struct Ask {
    pub(super) engine: Arc<dyn EngineApi>,
    pub(super) local: Arc<Local>,
    /// Docker's id.
    pub(super) network: String,
    pub(super) endpoint: EndpointId,
    pub(super) container: String,
}

/// The questions under way.
#[derive(Default)]
pub(super) struct Asking {
    tasks: JoinSet<Result<(), Unfinished>>,
    about: BTreeMap<Id, EndpointId>,
    left_out: bool,
}

impl Asking {
    /// Before a look at all endpoints.
    pub(super) fn begin(&mut self) {
        self.left_out = false;
    }

    /// Asks, unless there is no room, or the same is being asked: what comes back may then be older than
    /// the reason to ask again.
    pub(super) fn ask(&mut self, ask: Ask) {
        if self.about.len() >= AT_ONCE || self.about.values().any(|endpoint| *endpoint == ask.endpoint) {
            self.left_out = true;
            return;
        }
        let endpoint = ask.endpoint.clone();
        let id = self.tasks.spawn(ask.learn()).id();
        self.about.insert(id, endpoint);
    }

    /// Whether something was not asked since the last look began.
    pub(super) fn left_out(&self) -> bool {
        self.left_out
    }

    /// The next question's end; never comes while there is none. Cancel safe.
    pub(super) async fn answer(&mut self) -> Option<Result<(), Unfinished>> {
        if self.tasks.is_empty() {
            std::future::pending::<()>().await;
        }
        match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => {
                self.about.remove(&id);
                Some(result)
            }
            // It has been ended, or has failed in a way that the log tells.
            Err(error) => {
                self.about.remove(&error.id());
                Some(Ok(()))
            }
        }
    }

    /// Ends all questions.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Ask {
    async fn learn(self) -> Result<(), Unfinished> {
        let Some(container) = self.engine.container(&self.container).await? else { return Ok(()) };
        if let Some(names) = names_in(&container, &self.network) {
            let now = clock::unix_seconds();
            let attached = container.networks.get(&self.network).and_then(|place| place.endpoint.as_deref());
            let current = attached == Some(self.endpoint.as_str());
            self.local.update_endpoint(&self.endpoint, |e| name(e, container.id, names, now))?;
            if current && self.local.remove_former(&self.endpoint)? > 0 {
                info!(endpoint = self.endpoint.short(), "forgetting what a crash has left of a container");
            }
        }
        Ok(())
    }
}

/// Gives an endpoint its names. The first ones count as its own since its creation, those that come later
/// since `now`.
fn name(endpoint: &mut LocalEndpoint, container: String, names: ContainerNames, now: u64) {
    let lower = |all: &mut dyn Iterator<Item = &String>| -> BTreeSet<String> {
        all.map(|name| name.to_ascii_lowercase()).collect()
    };
    let before = lower(&mut endpoint.container.iter().chain(&endpoint.aliases));
    let after = lower(&mut std::iter::once(&names.name).chain(&names.aliases));
    endpoint.named_at.retain(|name, _| after.contains(name));
    if endpoint.container_id.is_some() {
        let new = after.into_iter().filter(|name| !before.contains(name));
        endpoint.named_at.extend(new.map(|name| (name, now)));
    }
    endpoint.container = Some(names.name);
    endpoint.container_id = Some(container);
    endpoint.aliases = names.aliases;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(endpoint: &mut LocalEndpoint, words: &[&str], now: u64) -> Vec<(String, u64)> {
        let aliases = words[1..].iter().map(|&word| word.to_owned()).collect();
        name(endpoint, "0123".into(), ContainerNames { name: words[0].into(), aliases }, now);
        endpoint.named_at.clone().into_iter().collect()
    }

    #[test]
    fn names_that_come_later_have_times_of_their_own() {
        let mut endpoint: LocalEndpoint = serde_json::from_value(json!({
            "id": "e", "network": "n", "docker_network": "d", "mac": "02:42:0a:09:00:02", "addresses": [],
            "mtu": 1450, "created_at": 1, "boot_id": "b",
        }))
        .unwrap();
        assert_eq!(named(&mut endpoint, &["web1", "web"], 5), []);
        assert_eq!(named(&mut endpoint, &["Shop1", "web"], 7), [("shop1".into(), 7)]);
        assert_eq!(named(&mut endpoint, &["Shop1", "web"], 8), [("shop1".into(), 7)]);
        assert_eq!(named(&mut endpoint, &["shop1", "late"], 9), [("late".into(), 9), ("shop1".into(), 7)]);
        assert_eq!(named(&mut endpoint, &["web1", "late"], 10), [("late".into(), 9), ("web1".into(), 10)]);
    }
}
