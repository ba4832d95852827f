//! One VXLAN network for the containers of several plain Docker hosts.
//!
//! The crate is read from the inside out. `model`, `plan`, `ipam`, `names` and `jury` are pure: no async, no I/O,
//! no clock. `store`, `dataplane` and `engine` are the three edges (cluster store, kernel, Docker API).
//! `driver`, `reconcile` and `dns` join them, `http` is Docker's way in, `daemon` wires it all together.

pub mod admin;
pub mod audit;
pub mod backoff;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod dns;
pub mod driver;
pub mod engine;
pub mod http;
pub mod http_client;
pub mod ipam;
pub mod jury;
pub mod local;
pub mod lockfile;
pub mod member;
pub mod model;
pub mod names;
pub mod plan;
pub mod reconcile;
pub mod store;
pub mod telemetry;
pub mod watched;
pub mod wire;
