//! One VXLAN network for the containers of several plain Docker hosts.
//!
//! The crate is read from the inside out. `model`, `plan` and `ipam` are pure: no async, no I/O, no
//! clock. `store`, `dataplane` and `engine` are the three edges (cluster store, kernel, Docker API).
//! `driver` and `reconcile` join them, `http` is Docker's way in, `daemon` wires it all together.

pub mod backoff;
pub mod clock;
pub mod dataplane;
pub mod driver;
pub mod ipam;
pub mod local;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod store;
pub mod wire;
