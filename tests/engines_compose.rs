//! Compose files as people have them: one project on several hosts is one project.

#[path = "engines/compose.rs"]
mod compose;

#[path = "engines/kit.rs"]
mod kit;

use compose::Kind;
use netns_harness::{EngineVersion, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

#[test]
fn a_project_of_compose_v1_and_v2() {
    if kit::allowed() {
        let lab = kit::lab(&[V20_10_24, V28_5], StoreKind::Etcd);
        compose::whole_life(&lab, [1, 2], 5, Kind::Plain);
        // Compose v1 compares more than it has been told where a file says something of IPAM.
        compose::whole_life(&lab, [2, 1], 2, Kind::Ipam);
        compose::whole_life(&lab, [2, 1], 1, Kind::Subnet);
        compose::whole_life(&lab, [1, 2], 1, Kind::Subnet);
        kit::assert_clean(&lab);
    }
}

#[test]
fn a_project_of_compose_v2_on_old_and_new_engines() {
    if kit::allowed() {
        let lab = kit::lab(&[V26_1, V28_5], StoreKind::Etcd);
        compose::whole_life(&lab, [1, 2], 5, Kind::Plain);
        compose::whole_life(&lab, [2, 1], 2, Kind::Six);
        kit::assert_clean(&lab);
    }
}
