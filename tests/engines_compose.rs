//! Compose files as people have them: one project on several hosts is one project.

#[path = "engines/compose.rs"]
mod compose;

#[path = "engines/kit.rs"]
mod kit;

use netns_harness::{EngineVersion, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

#[test]
fn a_project_of_compose_v1_and_v2() {
    if kit::allowed() {
        let lab = kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd);
        compose::whole_life(&lab, [1, 2], 5, false);
        // Compose v1 compares more than it has been told where a file says something of IPAM.
        compose::whole_life(&lab, [2, 1], 2, false);
        kit::assert_clean(&lab);
    }
}

#[test]
fn a_project_of_compose_v2_on_old_and_new_engines() {
    if kit::allowed() {
        let lab = kit::lab(&[V26_1, V28_5], StoreKind::Etcd);
        compose::whole_life(&lab, [1, 2], 5, false);
        compose::whole_life(&lab, [2, 1], 2, true);
        kit::assert_clean(&lab);
    }
}
