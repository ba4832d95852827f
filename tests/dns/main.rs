//! DNS in real sandboxes: network namespaces with a stand-in for Docker's resolver, and rules as Docker
//! writes them.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test may fail")]

#[path = "../common/lab.rs"]
mod lab;

mod answers;
mod client;
mod lifecycle;
mod managed;
mod resolver;
mod scene;
