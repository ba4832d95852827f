//! The data plane on the real kernel, on hosts and containers that are network namespaces.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test may fail")]

mod flood;
mod forged;
#[path = "../common/lab.rs"]
mod lab;
mod notices;
mod others;
#[path = "../common/overlays.rs"]
mod overlays;
mod probe;
mod repair;
mod scene;
mod traffic;
mod underlay;
