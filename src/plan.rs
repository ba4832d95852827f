//! Decisions about the kernel: what should be there, and the steps from what is to what should be.

mod desired;
mod diff;
mod inherited;
mod moved;
mod op;
mod overlay;
mod planner;
mod repair;

pub use desired::{LocalPort, Situation, carried_by_all, desired, effective_mtu, inner_mtu, vxlan_overhead};
pub use diff::{apply, diff};
pub use inherited::inherit;
pub use moved::Spoken;
pub use op::Op;
pub use overlay::{Overlay, Port, Segment, Sources, Vxlan};
pub use planner::Planner;
pub use repair::{repaired_thing, repairs};
