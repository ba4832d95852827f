//! Engines with a cluster store of their own: they share networks, addresses and names, and we lay the wires.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/classic.rs"]
mod classic;

use netns_harness::{
    EngineVersion::V20_10_5,
    Signal::{SIGKILL, SIGTERM},
    StoreKind,
};

#[test]
fn on_consul() {
    everything(StoreKind::Consul);
}

#[test]
fn on_etcd() {
    everything(StoreKind::Etcd);
}

fn everything(store: StoreKind) {
    if !kit::allowed() {
        return;
    }
    let lab = kit::builder(&[V20_10_5, V20_10_5], store).classic().build().unwrap();
    classic::told(&lab);
    let ours = &["--ipam-driver", "rs-overlay"][..];
    for (ipam, signals) in [(&[][..], &[SIGKILL][..]), (ours, &[SIGTERM, SIGKILL])] {
        classic::used_on_both(&lab, ipam);
        classic::daemons_end(&lab);
        classic::engine_restarts(&lab, signals);
        classic::removed_elsewhere(&lab);
    }
    classic::removed_unheard_of(&lab);
    classic::mode_changed(&lab);
    kit::assert_clean(&lab);
    classic::no_difference(&lab);
}
