//! Nothing new is claimed in a store that the hosts are filling again: what is not there yet may be in use.

use std::time::Duration;

use tokio::time::Instant;

use super::{Driver, DriverError};
use crate::{store::gate::Footing, watched::Followed};

/// How long a call waits for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits for a look at the store.
const LOOK: Duration = Duration::from_millis(500);

impl Driver {
    /// Waits until the store has what all hosts know, as long as a call may. What else is the matter with
    /// the store, the claim itself finds out.
    pub(super) async fn settled(&self) -> Result<(), DriverError> {
        let Some(mut footing) = self.footing.clone() else { return Ok(()) };
        let begun = Instant::now();
        let end = begun + PATIENCE;
        loop {
            let until = match footing.catch_up() {
                Footing::Sure { settles: None, .. } | Footing::Foreign(_) | Footing::Away { .. } => {
                    return Ok(());
                }
                Footing::Sure { settles: Some(until), .. } => until,
                // A look takes a moment, unless the store does not answer.
                Footing::Unsure => begun + LOOK,
                Footing::Refilling => Instant::now() + PATIENCE,
            };
            let now = Instant::now();
            if until <= now {
                return Ok(());
            }
            if now >= end {
                let seconds = until.duration_since(now).as_secs() + 1;
                return Err(DriverError::Refilling { seconds });
            }
            // A timeout and a change both mean to look again.
            let _ = tokio::time::timeout_at(end.min(until), footing.changed()).await;
        }
    }
}
