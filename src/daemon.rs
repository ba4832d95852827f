//! The daemon.

use crate::config::DaemonConfig;

/// Runs the daemon until it is told to stop.
#[allow(clippy::needless_pass_by_value, reason = "the daemon owns its settings")]
pub fn run(config: DaemonConfig) -> anyhow::Result<()> {
    anyhow::bail!("the daemon of {} is not wired yet", config.hostname)
}
