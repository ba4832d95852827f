//! Decisions about the kernel: what should be there, and the steps from what is to what should be.

mod diff;
mod overlay;

pub use diff::{Op, apply, diff};
pub use overlay::{Overlay, Port, Segment, Vxlan};
