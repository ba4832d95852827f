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

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use netns_harness::{EngineVersion, Family, StoreKind, wait_until};

use EngineVersion::{V20_10_24, V26_1, V28_5};

/// A program that runs the daemon with just those rights that the packaged service has.
fn with_the_rights_of_the_service(directory: &Path) -> PathBuf {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rs-overlay.service");
    let unit = fs::read_to_string(unit).unwrap();
    let kept = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let kept: Vec<_> = kept.split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect();
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set=-all,+{} --inh-caps=-all --no-new-privs {} \"$@\"\n",
        kept.join(",+"),
        env!("CARGO_BIN_EXE_rs-overlay")
    );
    let path = directory.join("rs-overlay");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What the daemon says before it has chosen.
const UNTRIED: &str = "the fast path has not been tried yet";

/// Plays a network's life twice: containers' packets go by the bridges, and by the fast path.
fn both_ways(engines: &[EngineVersion], store: StoreKind, family: Family, mtu: usize, path: &str) {
    if kit::allowed() {
        let lab = kit::builder(engines, store).family(family).daemon_args(&["--fast-path", path]);
        let lab = lab.build().unwrap();
        for host in lab.hosts() {
            // The programs are tried beside the start.
            let chosen = wait_until("the way that was asked for", kit::SOON, || {
                let status = host.exec(&[env!("CARGO_BIN_EXE_rs-overlay"), "status", "--format", "json"])?;
                let status: serde_json::Value = serde_json::from_str(&status)?;
                let path_is = &status["data_path"];
                anyhow::Ok(path_is["fast"] == (path == "on") && path_is["because"] != UNTRIED)
            });
            chosen.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
        }
        everyday::whole_life(&lab, mtu);
    }
}

#[test]
fn two_hosts_on_etcd_with_the_rights_of_the_service() {
    if kit::allowed() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = with_the_rights_of_the_service(directory.path());
        let lab = kit::builder(&[V20_10_24, V28_5], StoreKind::Etcd).daemon(daemon).build().unwrap();
        everyday::whole_life(&lab, 1450);
        for host in lab.hosts() {
            assert!(!host.daemon_log().contains("not permitted"), "{}", host.daemon_log());
        }
    }
}

#[test]
fn two_hosts_on_consul_by_the_bridge() {
    both_ways(&[V26_1, V20_10_24], StoreKind::Consul, Family::V4, 1450, "off");
}

#[test]
fn two_hosts_on_consul_by_the_fast_path() {
    both_ways(&[V26_1, V20_10_24], StoreKind::Consul, Family::V4, 1450, "on");
}

#[test]
fn three_hosts_on_the_embedded_store_by_the_bridge() {
    both_ways(&[V28_5, V26_1, V20_10_24], StoreKind::Embedded, Family::V4, 1450, "off");
}

#[test]
fn three_hosts_on_the_embedded_store_by_the_fast_path() {
    both_ways(&[V28_5, V26_1, V20_10_24], StoreKind::Embedded, Family::V4, 1450, "on");
}

#[test]
fn two_hosts_on_an_ipv6_underlay_by_the_bridge() {
    both_ways(&[V28_5, V20_10_24], StoreKind::Etcd, Family::V6, 1430, "off");
}

#[test]
fn two_hosts_on_an_ipv6_underlay_by_the_fast_path() {
    both_ways(&[V28_5, V20_10_24], StoreKind::Etcd, Family::V6, 1430, "on");
}
