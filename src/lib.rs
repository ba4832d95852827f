//! One VXLAN network for the containers of several plain Docker hosts.
//!
//! The crate is read from the inside out. `model`, `plan` and `ipam` are pure: no async, no I/O, no
//! clock. `store`, `dataplane` and `engine` are the three edges (cluster store, kernel, Docker API).
//! `driver` and `reconcile` join them, `http` is Docker's way in, `daemon` wires it all together.

pub mod dataplane;
pub mod engine;
pub mod model;
pub mod plan;
pub mod store;
