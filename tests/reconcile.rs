//! The background tasks, joined as the daemon joins them: a kernel in memory, the embedded store behind its
//! socket, and real time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod reconcile {
    pub(crate) mod host;
    mod kernel;
    mod mirror;
    mod outage;
}
