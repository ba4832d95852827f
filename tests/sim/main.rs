//! The whole control plane of a cluster in one process: everything of the daemons is real but the kernel, the
//! engine and the store, which are modelled together with all that can go wrong with them. Time is virtual,
//! and every run follows from its seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a helper that fails is a test that fails"
)]

mod checks;
mod crash_points;
mod deck;
mod effects;
mod engine;
mod engine_api;
mod engine_calls;
mod engine_networks;
mod faults;
mod host;
mod journal;
mod kernel;
mod link;
mod luck;
mod operations;
mod parts;
mod promises;
mod reach;
mod seeds;
mod store;
mod views;
mod world;
