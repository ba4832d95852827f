//! The way to the engine's socket, and the API version that is spoken there.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bollard::{API_DEFAULT_VERSION, Docker, body_full, errors::Error};

use super::EngineError;
use crate::http_client;

/// Seconds after which bollard gives up on the head of an answer. Only a fence behind the deadlines of
/// the callers, so longer than any of them.
const LAST_RESORT: u64 = 120;

/// An engine API version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(u16, u16);

impl ApiVersion {
    /// The newest that is spoken here. Engines from 29 on take nothing older unless told to, and it is
    /// the newest whose answers are known to keep their shape from engine 25 to today.
    pub(super) const NEWEST: Self = Self(1, 44);

    /// From this one on a network's name is unique without `CheckDuplicate` in the request.
    pub(super) const UNIQUE_NAMES: Self = Self(1, 44);

    /// From this one on a network may be without IPv4. Spoken only to create one.
    pub(super) const WITHOUT_IPV4: Self = Self(1, 48);
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
        parts.ok_or_else(|| format!("{text:?} is no API version"))
    }
}

/// An engine whose API version is agreed on.
#[derive(Debug, Clone)]
pub(super) struct Session {
    docker: Docker,
    /// The version spoken.
    pub(super) api: ApiVersion,
    /// The newest that the engine has.
    pub(super) newest: ApiVersion,
}

impl Session {
    /// A client that speaks the agreed version.
    pub(super) fn client(&self) -> Docker {
        speaking(&self.docker, Some(self.api), None)
    }

    /// A client that speaks `api`, which the engine must have.
    pub(super) fn client_at(&self, api: ApiVersion) -> Docker {
        speaking(&self.docker, Some(api), None)
    }

    /// The same as [`Self::client`], and whatever it sends has `body`: for fields that bollard's types no longer know.
    pub(super) fn client_sending(&self, body: String) -> Docker {
        speaking(&self.docker, Some(self.api), Some(body))
    }
}

/// The socket of an engine, and the session while one is open.
#[derive(Debug)]
pub(super) struct Connection {
    socket: PathBuf,
    session: Mutex<Option<Session>>,
}

impl Connection {
    /// Opens nothing yet.
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), session: Mutex::new(None) }
    }

    /// The socket's path.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket's path, for people.
    pub(super) fn host(&self) -> String {
        self.socket.display().to_string()
    }

    /// The open session, or a new one. Has no deadline of its own.
    pub(super) async fn session(&self) -> Result<Session, EngineError> {
        if let Some(session) = self.slot().clone() {
            return Ok(session);
        }
        self.renew().await
    }

    /// A new session: the engine may be another one than before. Has no deadline of its own.
    pub(super) async fn renew(&self) -> Result<Session, EngineError> {
        let what = "asking for its version";
        let path = self.socket.to_str().ok_or_else(|| EngineError::Unreachable {
            host: self.host(),
            detail: "the path of the socket is not UTF-8".to_owned(),
        })?;
        let docker = Docker::connect_with_unix(path, LAST_RESORT, API_DEFAULT_VERSION)
            .map_err(|error| self.failure(what, error))?;
        let answer = speaking(&docker, None, None).version().await;
        let answer = answer.map_err(|error| self.failure(what, error))?;
        let malformed = |detail| EngineError::Malformed { what: what.to_owned(), detail };
        let newest: ApiVersion =
            answer.api_version.as_deref().unwrap_or_default().parse().map_err(malformed)?;
        let api = newest.min(ApiVersion::NEWEST);
        if let Some(oldest) = answer.min_api_version.and_then(|text| text.parse::<ApiVersion>().ok())
            && api < oldest
        {
            return Err(EngineError::Refused {
                what: what.to_owned(),
                detail: format!(
                    "it speaks API {oldest} to {newest}, rs-overlay at most {}; see `min-api-version` in daemon.json",
                    ApiVersion::NEWEST
                ),
            });
        }
        let session = Session { docker, api, newest };
        *self.slot() = Some(session.clone());
        Ok(session)
    }

    /// Makes the next call agree on a version again.
    pub(super) fn forget(&self) {
        *self.slot() = None;
    }

    /// What a failed call of bollard means.
    pub(super) fn failure(&self, what: &str, error: Error) -> EngineError {
        let what = what.to_owned();
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => {
                EngineError::NotFound { what, detail: tidy(&message) }
            }
            Error::DockerResponseServerError { message, .. } => {
                EngineError::Refused { what, detail: tidy(&message) }
            }
            Error::SocketNotFoundError(_) => {
                EngineError::Unreachable { host: self.host(), detail: "no such socket".to_owned() }
            }
            Error::RequestTimeoutError => EngineError::Timeout { what },
            Error::IOError { .. } | Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } => {
                EngineError::Unreachable { host: self.host(), detail: http_client::root_cause(&error) }
            }
            error => EngineError::Malformed { what, detail: http_client::root_cause(&error) },
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the engine refused the API version itself; nothing was done then.
pub(super) fn refuses_version(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 400, message }
        if message.trim_start().starts_with("client version "))
}

/// A client that puts `api` in front of each path and sends `body` where one is given. bollard 0.21 has
/// a version of its own but loses it when it joins the path, so that an engine would answer in the
/// newest version it has.
fn speaking(docker: &Docker, api: Option<ApiVersion>, body: Option<String>) -> Docker {
    docker.clone().with_request_modifier(move |mut request| {
        let uri = request.uri();
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let scheme = uri.scheme_str().unwrap_or("unix");
        let path = without_version(uri.path_and_query().map_or("/", |path| path.as_str()));
        let version = api.map_or_else(String::new, |api| format!("/v{api}"));
        if let Ok(uri) = format!("{scheme}://{host}{version}{path}").parse() {
            *request.uri_mut() = uri;
        }
        if let Some(body) = &body {
            *request.body_mut() = body_full(body.clone().into());
        }
        request
    })
}

fn without_version(path: &str) -> &str {
    let rest = path.strip_prefix("/v").and_then(|rest| rest.find('/').map(|end| rest.split_at(end)));
    match rest {
        Some((version, rest)) if version.parse::<ApiVersion>().is_ok() => rest,
        _ => path,
    }
}

fn tidy(message: &str) -> String {
    match message.trim() {
        "" => "it gives no reason".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
