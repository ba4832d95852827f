//! Which engine each host gets, and which compose goes with it.

use anyhow::{Result, ensure};
use netns_harness::{EngineVersion, interrupt, parts};

use super::super::progress;
use super::heartbeat;

use EngineVersion::{V20_10_5, V20_10_24, V26_1, V28_5};

/// Engines of the hosts when none are named: of each row the first that can be had. The oldest comes with compose v1,
/// the newest with v2; Debian's unstable branch, where the newest is from, moves on one day.
const CHOICES: [&[EngineVersion]; 2] = [&[V20_10_24], &[V28_5, V26_1]];

/// The compose of an engine's time, as it is typed: version 1 was a program of its own.
pub(super) fn compose(engine: EngineVersion) -> &'static str {
    match engine {
        V20_10_5 | V20_10_24 => "docker-compose",
        V26_1 | V28_5 => "docker compose",
    }
}

/// The engine of each of `hosts` hosts, which take turns, after a download where one is needed. An engine that cannot
/// be had is an error if it was asked for; otherwise it is told, and another one stands in.
pub(super) fn provide(wanted: &[EngineVersion], hosts: u8) -> Result<Vec<EngineVersion>> {
    let rows: Vec<&[EngineVersion]> =
        if wanted.is_empty() { CHOICES.to_vec() } else { wanted.chunks(1).collect() };
    let mut here = Vec::new();
    for row in rows {
        for &version in row {
            match one(version) {
                Ok(()) => {
                    here.push(version);
                    break;
                }
                Err(error) if wanted.is_empty() && !interrupt::interrupted() => {
                    progress(&format!("engine {version} is left out: {error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    ensure!(!here.is_empty(), "there is no Docker engine for the demo's hosts");
    Ok(here.iter().copied().cycle().take(hosts.into()).collect())
}

fn one(version: EngineVersion) -> Result<()> {
    let what = format!("engine {version} is being downloaded, this once");
    let parts = heartbeat::telling(&what, || parts::engine(version))?;
    if compose(version) == "docker-compose" {
        return parts::installed("docker-compose", "docker-compose").map(drop);
    }
    let plugin = parts.cli_plugins.map(|plugins| plugins.join("docker-compose"));
    ensure!(plugin.is_some_and(|plugin| plugin.is_file()), "the package of engine {version} has no compose");
    Ok(())
}
