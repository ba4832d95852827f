//! `config check`: whether a daemon with these settings would do on this machine. Everything is only looked
//! at; what has to be tried out is tried in namespaces that nobody else sees.

mod host;
mod places;
mod store;

use std::{net::IpAddr, time::Duration};

use serde::Serialize;

use crate::config::DaemonConfig;

/// How long anything but the store may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// How something that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The daemon would run, but perhaps not as its user thinks.
    Warning,
    /// The daemon would not run, or not do its work.
    Problem,
}

/// What was looked at, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The setting, or what else was looked at.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// A sentence about it, which says what to do where something is to be done.
    pub told: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(subject: &'static str, told: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Ok, told: told.into() }
    }

    /// Worth a look.
    pub fn warning(subject: &'static str, told: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Warning, told: told.into() }
    }

    /// Wrong.
    pub fn problem(subject: &'static str, told: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Problem, told: told.into() }
    }
}

/// Looks at all that `config` depends on, and changes nothing. Takes some seconds at most.
pub fn check(config: &DaemonConfig) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(all(config));
    // Nothing that still waits for an answer may hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(findings)
}

async fn all(config: &DaemonConfig) -> Vec<Finding> {
    let (socket, running) = places::socket(&config.socket);
    let mut findings = places::secrets(&config.store_options);
    findings.extend(store::store(config, running).await);
    let (address, vtep) = host::advertise(config).await;
    findings.push(address);
    findings.extend(host::port(config.vxlan_port).await);
    findings.extend(host::pools(&config.default_addr_pools).await);
    findings.push(places::state_dir(&config.state_dir));
    findings.push(socket);
    findings.push(host::engine(&config.docker_host).await);
    findings.extend(
        host::kernel(
            vtep.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            config.vxlan_port,
            config.fast_path,
        )
        .await,
    );
    findings
}
