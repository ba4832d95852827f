//! Stores that are emptied or set back under hosts that live.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support {
    pub(crate) mod before;
    pub(crate) mod docker;
    pub(crate) mod host;
}

mod lost_stores {
    mod conflicts;
    mod crashes;
    mod losses;
    mod scene;
}
#[allow(dead_code, clippy::print_stderr, reason = "not every part is used here")]
#[path = "store/servers.rs"]
mod servers;
