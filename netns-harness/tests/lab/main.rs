//! Labs with real engines, stores and kernels. They need root and Debian's packages; without root they fail, or pass
//! unseen when `ALLOW_SKIP=1`.

mod cli;
mod daemon;
mod faults;
mod hosts;
mod store;
mod support;
mod teardown;
