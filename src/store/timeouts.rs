//! How long the store's back ends wait.

use std::time::Duration;

use crate::backoff::Backoff;

/// Deadlines of a back end. `Default` is what the daemon uses; tests and impatient callers shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From call to answer, whatever happens in between. The engine gives a plugin 10 s and more, and a
    /// handler may need several calls.
    pub call: Duration,
    /// Until a connection is up. Shorter than `call`, so that a host that is off counts as "not sent".
    pub connect: Duration,
    /// How long a watch may hear nothing at all before its connection counts as broken.
    pub silence: Duration,
    /// First pause before a broken watch is tried again.
    pub retry_least: Duration,
    /// Longest pause before a broken watch is tried again: what was done while the store was away has to
    /// reach everybody within two seconds of its return.
    pub retry_most: Duration,
}

impl Timeouts {
    /// Pauses of a watch between two attempts.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_least, self.retry_most)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(2),
            connect: Duration::from_secs(1),
            silence: Duration::from_secs(30),
            retry_least: Duration::from_millis(100),
            retry_most: Duration::from_secs(1),
        }
    }
}
