//! The calls of a real engine.

use std::{path::Path, sync::Arc, time::Duration};

use bollard::{errors::Error, query_parameters::ListContainersOptions};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future, stream};
use tokio::time::timeout;

use super::{
    EngineApi, EngineContainer, EngineError, EngineEvents, EngineFuture, EngineInfo, EngineNetwork,
    NetworkSpec, answers,
    connection::{ApiVersion, Connection, Session, refuses_version},
    events, info,
};
use crate::model::EngineMode;

/// How many inspections run side by side.
const PARALLEL: usize = 8;

/// How long an engine may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For any one call but those below.
    pub call: Duration,
    /// For the creation and the removal of a network, in which the engine calls our own driver.
    pub driver: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { call: Duration::from_secs(5), driver: Duration::from_secs(30) }
    }
}

/// An engine behind its unix socket.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    connection: Arc<Connection>,
    deadlines: Deadlines,
}

impl DockerEngine {
    /// The engine at `docker_host`, the path of its socket. Opens nothing yet.
    pub fn new(docker_host: &Path, deadlines: Deadlines) -> Self {
        Self { connection: Arc::new(Connection::new(docker_host)), deadlines }
    }

    /// Carries out `ask`, once more if the engine was replaced by one that speaks other versions.
    async fn call<T, F>(
        &self,
        what: &str,
        deadline: Duration,
        ask: impl Fn(Session) -> F + Send + Sync,
    ) -> Result<T, EngineError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let attempt = async {
            let mut result = ask(self.connection.session().await?).await;
            if result.as_ref().is_err_and(refuses_version) {
                result = ask(self.connection.renew().await?).await;
            }
            result.map_err(|error| self.connection.failure(what, error))
        };
        let result = timeout(deadline, attempt)
            .await
            .unwrap_or_else(|_| Err(EngineError::Timeout { what: what.to_owned() }));
        if matches!(result, Err(EngineError::Unreachable { .. } | EngineError::Timeout { .. })) {
            self.connection.forget();
        }
        result
    }

    async fn inspect(&self, id_or_name: &str) -> Result<Option<EngineNetwork>, EngineError> {
        let Some(segment) = path_segment(id_or_name) else { return Ok(None) };
        let what = format!("inspecting Docker network {id_or_name}");
        let answer = self.call(&what, self.deadlines.call, |session| {
            let segment = segment.clone();
            async move { session.client().inspect_network(&segment, None).await }
        });
        let Some(json) = found(answer.await)? else { return Ok(None) };
        let network = answers::network(json).map_err(|detail| EngineError::Malformed { what, detail })?;
        Ok(Some(network).filter(|network| network.id == id_or_name || network.name == id_or_name))
    }
}

impl EngineApi for DockerEngine {
    fn version(&self) -> EngineFuture<'_, EngineInfo> {
        let ask = |session: Session| async move {
            let answer = session.client().version().await?;
            Ok(EngineInfo {
                version: answer.version.unwrap_or_default(),
                api_version: session.api.to_string(),
            })
        };
        async move { self.call("asking for its version", self.deadlines.call, ask).await }.boxed()
    }

    fn mode(&self) -> EngineFuture<'_, EngineMode> {
        info::mode(&self.connection, self.deadlines.call).boxed()
    }

    fn networks<'a>(&'a self, driver: &'a str) -> EngineFuture<'a, Vec<EngineNetwork>> {
        let ask = |session: Session| async move { session.client().list_networks(None).await };
        async move {
            let list = self.call("listing Docker networks", self.deadlines.call, ask).await?;
            let ids = list
                .into_iter()
                .filter_map(|network| network.id.filter(|_| is_driver(driver, network.driver.as_deref())));
            // The list says nothing about endpoints. What vanished since then is left out.
            let mut networks: Vec<EngineNetwork> = stream::iter(ids)
                .map(|id| async move { self.inspect(&id).await })
                .buffered(PARALLEL)
                .try_filter_map(future::ok)
                .try_collect()
                .await?;
            networks.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(networks)
        }
        .boxed()
    }

    fn network<'a>(&'a self, id_or_name: &'a str) -> EngineFuture<'a, Option<EngineNetwork>> {
        self.inspect(id_or_name).boxed()
    }

    fn create_network<'a>(&'a self, spec: &'a NetworkSpec) -> EngineFuture<'a, String> {
        let what = format!("creating Docker network {}", spec.name);
        let ask = move |session: Session| async move {
            let request = answers::create_request(spec);
            let client = if spec.without_ipv4 {
                if session.newest < ApiVersion::WITHOUT_IPV4 {
                    return Ok(Err(unable(spec, &session)));
                }
                session.client_at(ApiVersion::WITHOUT_IPV4)
            } else if session.api < ApiVersion::UNIQUE_NAMES {
                let mut body = serde_json::to_value(&request)?;
                body["CheckDuplicate"] = true.into();
                session.client_sending(body.to_string())
            } else {
                session.client()
            };
            Ok(match client.create_network(request).await {
                Err(Error::DockerResponseServerError { status_code: 409, message })
                    if message.contains("already exists") =>
                {
                    Err(EngineError::NameTaken { name: spec.name.clone() })
                }
                result => Ok(result?.id),
            })
        };
        async move { self.call(&what, self.deadlines.driver, ask).await? }.boxed()
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> EngineFuture<'a, ()> {
        let what = format!("removing Docker network {id}");
        let Some(segment) = path_segment(id) else { return future::ok(()).boxed() };
        let ask = move |session: Session| {
            let segment = segment.clone();
            async move {
                Ok(match session.client().remove_network(&segment).await {
                    Err(Error::DockerResponseServerError { message, .. })
                        if message.contains("active endpoints") =>
                    {
                        Err(EngineError::InUse { network: id.to_owned(), detail: message })
                    }
                    result => Ok(result?),
                })
            }
        };
        async move { found(self.call(&what, self.deadlines.driver, ask).await)?.unwrap_or(Ok(())) }.boxed()
    }

    fn container<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<EngineContainer>> {
        let what = format!("inspecting container {id}");
        let Some(segment) = path_segment(id) else { return future::ok(None).boxed() };
        let ask = move |session: Session| {
            let segment = segment.clone();
            async move { session.client().inspect_container(&segment, None).await }
        };
        async move {
            let Some(json) = found(self.call(&what, self.deadlines.call, ask).await)? else {
                return Ok(None);
            };
            answers::container(json).map(Some).map_err(|detail| EngineError::Malformed { what, detail })
        }
        .boxed()
    }

    fn containers(&self) -> EngineFuture<'_, Vec<String>> {
        let ask = |session: Session| async move {
            session.client().list_containers(None::<ListContainersOptions>).await
        };
        async move {
            let list = self.call("listing containers", self.deadlines.call, ask).await?;
            let mut ids: Vec<String> = list.into_iter().filter_map(|container| container.id).collect();
            ids.sort();
            Ok(ids)
        }
        .boxed()
    }

    fn plugin_name<'a>(&'a self, id: &'a str) -> EngineFuture<'a, String> {
        let what = format!("asking for the name of plugin {id}");
        let ask = move |session: Session| async move { session.client().inspect_plugin(id).await };
        async move { Ok(self.call(&what, self.deadlines.call, ask).await?.name) }.boxed()
    }

    fn events(&self) -> EngineEvents {
        events::follow(Arc::clone(&self.connection), self.deadlines.call)
    }
}

/// What an engine that cannot have a network without IPv4 would need.
fn unable(spec: &NetworkSpec, session: &Session) -> EngineError {
    EngineError::Unable {
        what: format!("Docker network {}", spec.name),
        detail: format!(
            "a network without IPv4 takes Docker 28 or newer (API {}), and the engine here speaks API {} at most",
            ApiVersion::WITHOUT_IPV4,
            session.newest
        ),
    }
}

/// Turns "not found" into an absent value.
fn found<T>(result: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match result {
        Err(EngineError::NotFound { .. }) => Ok(None),
        result => result.map(Some),
    }
}

/// Whether a network of driver `has` is one of ours; a managed plugin's driver has its tag behind it.
fn is_driver(wanted: &str, has: Option<&str>) -> bool {
    has.and_then(|has| has.strip_prefix(wanted)).is_some_and(|tag| tag.is_empty() || tag.starts_with(':'))
}

/// `name` as one segment of a path; `None` for what no path can carry and no object can be called.
fn path_segment(name: &str) -> Option<String> {
    // The engine tidies `//` and `/../` even where they are written in percent signs, and redirects.
    if name.split('/').any(|part| part.bytes().all(|byte| byte == b'.')) {
        return None;
    }
    Some(
        name.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests;
