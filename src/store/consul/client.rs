//! The few endpoints of Consul's HTTP API that a store needs.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, Url, header::HeaderMap};

use super::operation::{Operation, Rollback, base64_decode};
use crate::store::{
    Entry, Revision, StoreError, address::Address, prefix::Prefix, remote::chain, timeouts::Timeouts,
};

/// Consul refuses sessions with a shorter life, and keeps each for up to twice as long as it says.
const LEAST_TTL: Duration = Duration::from_secs(10);

/// Consul's longest session life.
const MOST_TTL: Duration = Duration::from_hours(24);

/// An agent, by way of HTTP.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    timeouts: Timeouts,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Certainly without effect: no connection, or no leader.
    NotSent(String),
    /// Its answer is not known.
    Lost(String),
    /// Consul said no.
    Refused(String),
}

/// All entries at one index.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) index: u64,
}

/// What a blocking query waits for: an index that is not this one, for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) index: u64,
    pub(super) at_most: Duration,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    key: String,
    #[serde(default)]
    value: Option<String>,
    modify_index: u64,
}

#[derive(serde::Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
}

impl Failed {
    /// As the error of a call that changes nothing.
    pub(super) fn of_read(self, address: &Address) -> StoreError {
        match self {
            Self::NotSent(detail) | Self::Lost(detail) => address.unavailable(detail),
            Self::Refused(detail) => address.refused(detail),
        }
    }

    /// As the error of a call that may have changed something.
    pub(super) fn of_change(self, address: &Address) -> StoreError {
        match self {
            Self::NotSent(detail) => address.unavailable(detail),
            Self::Lost(detail) => address.unknown(detail),
            Self::Refused(detail) => address.refused(detail),
        }
    }

    pub(super) fn detail(&self) -> &str {
        match self {
            Self::NotSent(detail) | Self::Lost(detail) | Self::Refused(detail) => detail,
        }
    }
}

impl Client {
    pub(super) fn new(
        http: reqwest::Client,
        base: &str,
        token: Option<String>,
        timeouts: Timeouts,
    ) -> Result<Self, String> {
        let base = Url::parse(base).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = reqwest::header::HeaderValue::from_str(&token)
                .map_err(|_| "the token has characters that no HTTP header may have".to_owned())?;
            value.set_sensitive(true);
            headers.insert("X-Consul-Token", value);
        }
        Ok(Self { http, base, headers, timeouts })
    }

    /// Lists what begins with `keys`; with `wait`, as soon as that has changed.
    pub(super) async fn list(
        &self,
        prefix: &Prefix,
        keys: &str,
        wait: Option<Wait>,
    ) -> Result<Listing, Failed> {
        let mut url = self.url(&["v1", "kv"]);
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(prefix.add(keys).split('/'));
        }
        let mut deadline = self.timeouts.call;
        url.query_pairs_mut().append_key_only("recurse").append_key_only("consistent");
        if let Some(wait) = wait {
            let pair = |seconds: u128| format!("{seconds}ms");
            url.query_pairs_mut()
                .append_pair("index", &wait.index.to_string())
                .append_pair("wait", &pair(wait.at_most.as_millis()));
            // Consul adds up to a sixteenth, so that not all queries end at once.
            deadline += wait.at_most + wait.at_most / 16;
        }
        let (status, headers, body) = self.send(self.http.request(Method::GET, url), deadline).await?;
        let index = headers.get("X-Consul-Index").and_then(|index| index.to_str().ok()?.parse().ok());
        // Consul's own advice: an index of 0 would make the next query return at once.
        let index = index.unwrap_or(0);
        let rows: Vec<Row> = match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| Failed::Lost(format!("its answer was not understood: {error}")))?,
            StatusCode::NOT_FOUND => Vec::new(),
            _ => return Err(refusal(status, &body)),
        };
        let entries = rows.into_iter().filter_map(|row| entry(&row, prefix));
        Ok(Listing { entries: entries.map(|entry| (entry.key.clone(), entry)).collect(), index })
    }

    /// Commits all operations, or says why none.
    pub(super) async fn txn(&self, operations: &[Operation]) -> Result<Result<(), Rollback>, Failed> {
        let request = self.http.request(Method::PUT, self.url(&["v1", "txn"])).json(operations);
        let (status, _, body) = self.send(request, self.timeouts.call).await?;
        match status {
            StatusCode::OK => Ok(Ok(())),
            StatusCode::CONFLICT => match serde_json::from_slice(&body) {
                Ok(rollback) => Ok(Err(rollback)),
                Err(error) => Err(Failed::Lost(format!("its answer was not understood: {error}"))),
            },
            _ => Err(refusal(status, &body)),
        }
    }

    /// A session that deletes its keys when it ends, and that ends for want of renewal alone: with the
    /// usual health check it would end with every hiccup of the agent.
    pub(super) async fn create_session(&self, ttl: Duration) -> Result<String, Failed> {
        let ttl = ttl.clamp(LEAST_TTL, MOST_TTL).as_millis();
        let wanted = serde_json::json!({
            "Name": "rs-overlay",
            "TTL": format!("{ttl}ms"),
            "Behavior": "delete",
            "LockDelay": "0s",
            "Checks": [],
            "NodeChecks": [],
        });
        let request = self.http.request(Method::PUT, self.url(&["v1", "session", "create"])).json(&wanted);
        let (status, _, body) = self.send(request, self.timeouts.call).await?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        let session: Session = serde_json::from_slice(&body)
            .map_err(|error| Failed::Lost(format!("its answer was not understood: {error}")))?;
        Ok(session.id)
    }

    /// Whether there was something to renew.
    pub(super) async fn renew_session(&self, id: &str) -> Result<bool, Failed> {
        if !is_session(id) {
            return Ok(false);
        }
        let request = self.http.request(Method::PUT, self.url(&["v1", "session", "renew", id]));
        let (status, _, body) = self.send(request, self.timeouts.call).await?;
        match status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(status, &body)),
        }
    }

    /// Ends a session, if it is there.
    pub(super) async fn destroy_session(&self, id: &str) -> Result<(), Failed> {
        if !is_session(id) {
            return Ok(());
        }
        let request = self.http.request(Method::PUT, self.url(&["v1", "session", "destroy", id]));
        let (status, _, body) = self.send(request, self.timeouts.call).await?;
        if status == StatusCode::OK { Ok(()) } else { Err(refusal(status, &body)) }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        url
    }

    async fn send(
        &self,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failed> {
        let answer = async {
            let response = request.headers(self.headers.clone()).timeout(deadline).send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok((status, headers, response.bytes().await?.to_vec()))
        };
        answer.await.map_err(|error: reqwest::Error| {
            let unsent = error.is_connect() || error.is_builder();
            let detail = chain(error);
            if unsent { Failed::NotSent(detail) } else { Failed::Lost(detail) }
        })
    }
}

/// What a status other than the expected ones says about the request.
fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
    let detail = format!("{status}: {text}");
    if text.contains("No cluster leader") {
        Failed::NotSent(detail)
    } else if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        Failed::Refused(detail)
    } else {
        Failed::Lost(detail)
    }
}

fn entry(row: &Row, prefix: &Prefix) -> Option<Entry> {
    let value =
        base64_decode(row.value.as_deref().unwrap_or("")).and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(value) = value else {
        tracing::warn!(key = row.key, "a value in Consul is no text; it counts as absent");
        return None;
    };
    let key = prefix.strip(&row.key)?.to_owned();
    Some(Entry { key, value, revision: Revision(row.modify_index) })
}

/// Consul answers anything but a UUID with 500; such a name cannot be alive.
pub(super) fn is_session(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_never_shown() {
        let http = crate::http_client::builder().build().unwrap();
        let token = Some("s3cret".to_owned());
        let client = Client::new(http, "http://192.0.2.1:8500", token, Timeouts::default()).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }

    #[test]
    fn statuses_are_told_apart() {
        assert!(matches!(refusal(StatusCode::FORBIDDEN, b"Permission denied"), Failed::Refused(_)));
        let server = StatusCode::INTERNAL_SERVER_ERROR;
        assert!(matches!(refusal(server, b"No cluster leader"), Failed::NotSent(_)));
        assert!(matches!(refusal(server, b"rpc error making call: EOF"), Failed::Lost(_)));
    }
}
