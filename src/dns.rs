//! DNS in containers: names of the cluster are answered inside each sandbox, all else is Docker's.
//!
//! A sandbox of ours has one [`Interceptor`]: it receives what the container asks 127.0.0.11, answers what
//! the zone knows, and passes the rest on to Docker's resolver as it came. When it ends, by whatever
//! cause, Docker's resolver is asked directly again.

mod answer;
mod interceptor;
mod lifetimes;
pub mod manager;
mod place;
mod sandboxes;
mod tcp;
mod udp;
mod upstream;
mod wire;

pub use interceptor::{Interceptor, Names};
