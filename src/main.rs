//! The `rs-overlay` binary.
fn main() {}
