//! Networks with both families, networks without IPv4, and an underlay that has IPv6 alone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/dns.rs"]
mod dns;
#[path = "engines/families.rs"]
mod families;
#[path = "engines/kit.rs"]
mod kit;
#[path = "engines/quiet.rs"]
mod quiet;
#[path = "engines/six_only.rs"]
mod six_only;

use netns_harness::{EngineVersion, Family, StoreKind};

use EngineVersion::{V20_10_24, V26_1, V28_5};

fn timed(what: &str, scene: impl FnOnce()) {
    let started = std::time::Instant::now();
    scene();
    eprintln!("{what} took {:?}", started.elapsed());
}

#[test]
fn networks_of_both_families() {
    if kit::allowed() {
        let engines = [V28_5, V20_10_24, V26_1];
        let lab = kit::builder(&engines, StoreKind::Etcd).family(Family::V6).build().unwrap();
        timed("subnets_of_our_choice", || families::subnets_of_our_choice(&lab));
        timed("subnets_of_the_engine_s_choice", || families::subnets_of_the_engine_s_choice(&lab));
        timed("whole_life", || families::whole_life(&lab, 1, "engines", &[]));
        timed("whole_life", || families::whole_life(&lab, 2, "ours", &["--ipam-driver", "rs-overlay"]));
        timed("small_subnets", || families::small_subnets(&lab));
        timed("repaired", || families::repaired(&lab));
        timed("left_and_created_again", || families::left_and_created_again(&lab));
        timed("another_family_of_underlay", || families::another_family_of_underlay(&lab));
        timed("nothing_but_data", || quiet::nothing_but_data(&lab));
        kit::assert_clean(&lab);
    }
}

#[test]
fn networks_without_ipv4() {
    if kit::allowed() {
        let lab = kit::lab(&[V28_5, V28_5, V20_10_24, V26_1], StoreKind::Consul);
        for options in [&["--ipam-driver", "rs-overlay", "--subnet", "fd66::/64"][..], &[]] {
            timed("whole_life", || six_only::whole_life(&lab, options));
        }
        timed("ordered", || six_only::ordered(&lab));
        kit::assert_clean(&lab);
    }
}
