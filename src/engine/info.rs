//! How the engine runs, from `GET /info`: read as it comes, since the types of today's clients no longer
//! have the fields of engines that could have a cluster store.

use std::time::Duration;

use serde::Deserialize;

use super::{EngineError, connection::Connection};
use crate::{http_client, model::EngineMode};

const WHAT: &str = "asking how it runs";

/// The fields that matter, by the names that engines of all versions use.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    /// Up to 20.10.
    #[serde(rename = "ClusterStore")]
    cluster_store: String,
    /// Up to 20.10.
    #[serde(rename = "ClusterAdvertise")]
    cluster_advertise: String,
    /// Absent in engines without swarm mode.
    #[serde(rename = "Swarm")]
    swarm: Swarm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Swarm {
    /// `inactive`, `pending`, `active`, `error` or `locked`.
    #[serde(rename = "LocalNodeState")]
    state: String,
    #[serde(rename = "ControlAvailable")]
    manager: bool,
}

/// Asks the engine behind `connection`, without agreeing on an API version: every version has this path.
pub(super) async fn mode(connection: &Connection, deadline: Duration) -> Result<EngineMode, EngineError> {
    let failed = |error: &reqwest::Error| {
        if error.is_timeout() {
            EngineError::Timeout { what: WHAT.to_owned() }
        } else {
            EngineError::Unreachable { host: connection.host(), detail: http_client::root_cause(error) }
        }
    };
    let client = http_client::builder()
        .timeout(deadline)
        .unix_socket(connection.socket())
        .build()
        .map_err(|error| failed(&error))?;
    let answer = client.get("http://docker/info").send().await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| failed(&error))?;
    if !status.is_success() {
        let detail = String::from_utf8_lossy(&body).trim().to_owned();
        return Err(EngineError::Refused { what: WHAT.to_owned(), detail: format!("{status}: {detail}") });
    }
    let info: Info = serde_json::from_slice(&body)
        .map_err(|error| EngineError::Malformed { what: WHAT.to_owned(), detail: error.to_string() })?;
    Ok(mode_of(info))
}

fn mode_of(info: Info) -> EngineMode {
    // An engine has one or the other: swarm mode is refused to one with a cluster store.
    if !matches!(info.swarm.state.as_str(), "" | "inactive") {
        return EngineMode::Swarm { state: info.swarm.state, manager: info.swarm.manager };
    }
    if info.cluster_store.is_empty() {
        EngineMode::Plain
    } else {
        EngineMode::Classic { store: info.cluster_store, advertise: info.cluster_advertise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> EngineMode {
        mode_of(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn each_mode_is_told_apart() {
        assert_eq!(of("{}"), EngineMode::Plain);
        assert_eq!(
            of(r#"{"Swarm":{"LocalNodeState":"inactive","ControlAvailable":false}}"#),
            EngineMode::Plain
        );
        assert_eq!(
            of(
                r#"{"ClusterStore":"etcd://h:2379/e","ClusterAdvertise":"192.0.2.1:2376","Swarm":{"LocalNodeState":"inactive"}}"#
            ),
            EngineMode::Classic { store: "etcd://h:2379/e".into(), advertise: "192.0.2.1:2376".into() }
        );
        assert_eq!(
            of(
                r#"{"Swarm":{"NodeID":"x","LocalNodeState":"active","ControlAvailable":true,"RemoteManagers":null}}"#
            ),
            EngineMode::Swarm { state: "active".into(), manager: true }
        );
        assert_eq!(
            of(r#"{"Swarm":{"LocalNodeState":"pending"}}"#),
            EngineMode::Swarm { state: "pending".into(), manager: false }
        );
    }
}
