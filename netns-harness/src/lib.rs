//! Several real Docker hosts on one machine, each in namespaces of its own.

pub mod command;
pub mod interrupt;
mod kinds;
pub mod parts;

pub use command::CommandOutput;
pub use kinds::{EngineVersion, Family, StoreKind};
