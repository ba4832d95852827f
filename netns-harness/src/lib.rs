//! Several real Docker hosts on one machine, each in namespaces of its own.
//!
//! ```no_run
//! use netns_harness::{EngineVersion, Lab, StoreKind};
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::builder()
//!     .hosts(&[EngineVersion::V20_10_24, EngineVersion::V28_5])
//!     .store(StoreKind::Etcd)
//!     .daemon("target/debug/rs-overlay")
//!     .build()?;
//! lab.host(1).docker(&["run", "-d", "--name", "web", "busybox", "sleep", "3600"])?;
//! # Ok(())
//! # }
//! ```
//!
//! A host is a set of namespaces under one init process. When that process ends, the kernel ends everything the host
//! ran and drops its links and mounts: this is both what a power cut is and how a lab is taken down. The init process
//! also ends by itself when the process that built the lab dies, however it dies.

pub mod command;
mod fabric;
mod files;
mod host;
mod http;
pub mod interrupt;
mod kinds;
mod lab;
mod namespaces;
pub mod parts;
mod process;
mod resolver;
mod service;
mod shape;
mod store_server;
mod wait;

pub use command::{CommandOutput, Run};
pub use host::{Host, SwarmRole};
pub use kinds::{EngineVersion, Family, StoreKind};
pub use lab::{KEEP_LOGS_ENV, Lab, LabBuilder};
pub use nix::sys::signal::Signal;
pub use parts::CACHE_ENV;
pub use shape::DIRECTORY_ENV;
pub use store_server::StoreServer;
pub use wait::{Outcome, wait_until};
