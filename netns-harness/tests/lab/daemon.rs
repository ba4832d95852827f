//! How the daemon is run, shown with a stand-in that listens where the real one does and prints what it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use netns_harness::{EngineVersion, Lab, Signal, StoreKind};
use tempfile::TempDir;

use crate::support::can_run;

const STAND_IN: &str = r#"#!/usr/bin/perl
use IO::Socket::UNIX;
$| = 1;
print "told: @ARGV\n";
die "refused to start\n" if grep { $_ eq "--refuse" } @ARGV;
sub listen_on { unlink $_[0]; IO::Socket::UNIX->new(Local => $_[0], Listen => 5) or die "$_[0]: $!" }
my $plugin = listen_on("/run/docker/plugins/rs-overlay.sock");
my ($embedded) = map { m{^embedded://(.*)} ? $1 : () } @ARGV;
my $store = listen_on("$embedded.sock") if $embedded;
sleep 1 while 1;
"#;

fn stand_in() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rs-overlay");
    fs::write(&path, STAND_IN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}

#[test]
fn every_host_has_a_daemon_that_knows_the_embedded_store() {
    if !can_run() {
        return;
    }
    let (_directory, daemon) = stand_in();
    let lab = Lab::builder()
        .hosts(&[EngineVersion::V20_10_24; 2])
        .store(StoreKind::Embedded)
        .daemon(&daemon)
        .daemon_args(&["--log-format", "json"])
        .build()
        .unwrap();
    let store = lab.dir().join("store/cluster");
    let told = |url: &str| {
        format!("told: daemon --cluster-store {url} --cluster-advertise eth1 --log-format json\n")
    };
    assert_eq!(lab.host(1).daemon_log(), told(&format!("embedded://{}", store.display())));
    assert_eq!(lab.host(2).daemon_log(), told(&format!("unix://{}.sock", store.display())));
    lab.host(2).exec(&["test", "-S", &format!("{}.sock", store.display())]).unwrap();

    let host = lab.host(1);
    host.daemon_kill(Signal::SIGKILL).unwrap();
    assert!(!host.daemon_running() && lab.host(2).daemon_running());
    host.daemon_start_with(&["--cluster-advertise=192.0.2.1"]).unwrap();
    assert!(host.daemon_log().ends_with("/cluster --cluster-advertise=192.0.2.1\n"), "{}", host.daemon_log());
    host.daemon_pause(true).unwrap();
    host.daemon_kill(Signal::SIGKILL).unwrap();
    host.daemon_start().unwrap();
    host.power_off().unwrap();
    assert!(!host.daemon_running());
    host.power_on().unwrap();
    assert!(host.daemon_running());
    // A stopped process must not hold up the lab's end.
    host.daemon_pause(true).unwrap();
}

#[test]
fn a_daemon_that_ends_at_once_is_reported_with_its_log() {
    if !can_run() {
        return;
    }
    let (_directory, daemon) = stand_in();
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24]).daemon(&daemon).build().unwrap();
    lab.host(1).daemon_kill(Signal::SIGTERM).unwrap();
    let error = format!("{:#}", lab.host(1).daemon_start_with(&["--refuse"]).unwrap_err());
    assert!(error.contains("rs-overlay of host1") && error.contains("refused to start"), "{error}");
    assert!(!lab.host(1).daemon_running());
}
