//! Labs with real engines, stores and kernels. They need root and Debian's packages; without root they fail, or pass
//! unseen when `ALLOW_SKIP=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test and its helpers fail by panicking")]

mod cli;
mod daemon;
mod faults;
mod hosts;
mod still;
mod store;
mod support;
mod teardown;
