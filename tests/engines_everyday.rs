//! A network's whole life, with every engine on every store in some mix.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/everyday.rs"]
mod everyday;

use netns_harness::{EngineVersion, Family, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

#[test]
fn two_hosts_on_etcd() {
    if kit::allowed() {
        everyday::whole_life(&kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd), 1450);
    }
}

#[test]
fn two_hosts_on_consul() {
    if kit::allowed() {
        everyday::whole_life(&kit::lab(&[V26_1, V20_10_24], StoreKind::Consul), 1450);
    }
}

#[test]
fn three_hosts_on_the_embedded_store() {
    if kit::allowed() {
        everyday::whole_life(&kit::lab(&[V28_5, V26_1, V20_10_24], StoreKind::Embedded), 1450);
    }
}

#[test]
fn two_hosts_on_an_ipv6_underlay() {
    if kit::allowed() {
        let lab = kit::builder(&[V28_5, V20_10_24], StoreKind::Etcd).family(Family::V6).build().unwrap();
        everyday::whole_life(&lab, 1430);
    }
}
