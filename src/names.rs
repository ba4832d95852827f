//! Names of containers: an index of all names of the cluster, and the answers that it gives. Pure.
//!
//! It behaves as Docker's own resolver does where that one knows all holders of a name: a container is
//! found by its name, its aliases and the first 12 digits of its id, alone or with `.network` behind it,
//! by those only who share the network.

mod index;
mod life;
mod lookup;
mod reverse;
mod zone;

pub use life::{LIFE, life};
pub use lookup::{Answer, Evidence, Kind, could_come, explain, lookup};
pub use reverse::question as reverse_question;
pub use zone::Zone;
