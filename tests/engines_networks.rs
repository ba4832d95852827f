//! A network is one thing on all hosts, from its creation to its removal.

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/networks.rs"]
mod networks;

use netns_harness::{EngineVersion, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

#[test]
fn created_removed_and_joined_again() {
    if kit::allowed() {
        let lab = kit::lab(&[V20_10_24, V28_5, V26_1], StoreKind::Etcd);
        networks::ordered(&lab);
        networks::created_and_used_at_once(&lab);
        networks::left_and_joined_again(&lab);
        networks::away_and_back(&lab);
        networks::new_host(&lab);
        kit::assert_clean(&lab);
    }
}

#[test]
fn told_by_hand() {
    if kit::allowed() {
        let lab = kit::lab(&[V28_5, V26_1], StoreKind::Etcd);
        networks::by_hand(&lab);
        kit::assert_clean(&lab);
    }
}

#[test]
fn one_name_twice_at_once() {
    if kit::allowed() {
        let lab = kit::lab(&[V28_5, V20_10_24], StoreKind::Etcd);
        networks::created_twice_at_once(&lab, 10);
        kit::assert_clean(&lab);
    }
}

#[test]
fn removed_and_created_under_load() {
    if kit::allowed() {
        let lab = kit::lab(&[V26_1, V20_10_24], StoreKind::Etcd);
        networks::again_and_again(&lab, 50);
        kit::assert_clean(&lab);
    }
}
