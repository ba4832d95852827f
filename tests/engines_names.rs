//! Names of containers on all hosts, asked from inside containers of real engines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/dns.rs"]
mod dns;

#[path = "engines/compared.rs"]
mod compared;

#[path = "engines/names.rs"]
mod names;

use netns_harness::{EngineVersion, Lab, StoreKind};

use EngineVersion::{V20_10_24, V28_5};

fn lab(engines: &[EngineVersion]) -> Lab {
    let outside = [("outside.example", "198.51.100.7".parse().unwrap())];
    kit::builder(engines, StoreKind::Etcd).resolver(&outside).build().unwrap()
}

#[test]
fn answered_and_followed_across_hosts() {
    if kit::allowed() {
        let lab = lab(&[V20_10_24, V28_5]);
        names::answered(&lab);
        names::apart(&lab);
        names::looked_up(&lab);
        names::followed(&lab);
        names::at_once(&lab);
        names::without_the_daemon(&lab);
        names::end(&lab);
        kit::assert_clean(&lab);
    }
}

#[test]
fn as_on_a_bridge_of_20_10() {
    if kit::allowed() {
        compared::on(&lab(&[V20_10_24]));
    }
}

#[test]
fn as_on_a_bridge_of_28_5() {
    if kit::allowed() {
        compared::on(&lab(&[V28_5]));
    }
}
