//! The tables as people see them.

use super::*;
use crate::admin::{DifferenceRow, EngineStatus, GcRow, ReconcileStatus, StoreStatus, UnderlayBefore};

fn network_row(id: &str, name: Option<&str>) -> NetworkRow {
    NetworkRow {
        id: id.to_owned(),
        name: name.map(str::to_owned),
        subnets: vec!["10.0.1.0/24".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()],
        gateways: vec!["10.0.1.1".parse().unwrap()],
        vni: 4097,
        mtu_because: None,
        flood: false,
        mtu: 1450,
        hosts: vec!["a".to_owned(), "b".to_owned()],
        present: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        departed: vec!["e".to_owned()],
        missing: vec![],
        unable: vec![],
        endpoints: 7,
        internal: false,
        ipv6: true,
        attachable: true,
    }
}

fn report() -> StatusReport {
    StatusReport {
        version: "0.1.0".to_owned(),
        node: "00112233445566ff".to_owned(),
        hostname: "a".to_owned(),
        vtep: Some("192.0.2.1".parse().unwrap()),
        underlay: Some(UnderlayStatus {
            mtu: 1400,
            before: Some(UnderlayBefore { vtep: "192.0.2.9".parse().unwrap(), mtu: 1500, until: 880 }),
        }),
        data_path: Some(DataPathStatus {
            fast: true,
            because: "Linux 6.18 takes the programs".to_owned(),
            forged_macs: 0,
            forged_addresses: 3,
            trouble: None,
        }),
        scope: "local".to_owned(),
        mode: Some("plain".to_owned()),
        mode_because: "plain: the engine is in no swarm and has no cluster store of its own".to_owned(),
        store: StoreStatus {
            kind: "etcd".to_owned(),
            url: "etcd://h1:2379".to_owned(),
            connected: false,
            since: 940,
        },
        engine: EngineStatus {
            reachable: true,
            version: Some("20.10.24".to_owned()),
            driver: "rs-overlay:latest".to_owned(),
            plugin: Some("7811d36d683be9bcaa93db640c67b6db1621e62b59cf1116da041c59251aac82".to_owned()),
        },
        networks: 2,
        endpoints: 5,
        reconcile: Some(ReconcileStatus { at: 997, steps: 12, failed: 0 }),
        repairs: vec![RepairRow {
            thing: "port".to_owned(),
            count: 2,
            last_at: 990,
            last: "add port vni 4096".to_owned(),
        }],
        elsewhere: vec!["blue lives on b.".to_owned()],
        problems: vec!["The store does not answer.".to_owned(), "Host b has another UDP port.".to_owned()],
    }
}

#[test]
fn networks_are_listed_as_docker_lists_its_own() {
    let rows = [network_row(&"ab".repeat(32), Some("web")), network_row("k5cwhbyf5dqtg5ilc3oy1xtlm", None)];
    let want = "\
NETWORK ID     NAME   SUBNET                         GATEWAY    VNI    MTU    HOSTS             USED ON   REMOVED ON   ENDPOINTS   FLAGS
abababababab   web    10.0.1.0/24, 2001:db8:1::/64   10.0.1.1   4097   1450   a, b and 2 more   a, b      e            7           ipv6, attachable
k5cwhbyf5dqt   -      10.0.1.0/24, 2001:db8:1::/64   10.0.1.1   4097   1450   a, b and 2 more   a, b      e            7           ipv6, attachable";
    assert_eq!(networks(&rows), want);
    let mut six = rows[0].clone();
    six.subnets.remove(0);
    six.unable = vec!["f (too old)".to_owned()];
    assert!(networks(std::slice::from_ref(&six)).contains("   ipv6 only, attachable"));
    let shown = network(&six);
    assert!(shown.contains("Impossible on: f (too old)"), "{shown}");
    assert!(networks(&[]).starts_with("NETWORK ID   NAME"));
}

#[test]
fn nodes_show_when_their_daemon_began() {
    let row = NodeRow {
        id: "00112233445566ff".to_owned(),
        hostname: "a".to_owned(),
        vtep: "192.0.2.1".parse().unwrap(),
        engine: None,
        daemon: "0.1.0".to_owned(),
        scope: "local".to_owned(),
        networks: 2,
        endpoints: 5,
        since: 1_000,
        mode: Some("classic".into()),
        last_seen: 1_300,
        state: "alive".into(),
    };
    let gone = NodeRow {
        hostname: "b".to_owned(),
        engine: Some("20.10.24+dfsg1".to_owned()),
        mode: None,
        since: 0,
        last_seen: 1_000,
        state: "suspect".into(),
        ..row.clone()
    };
    let want = "\
NODE ID        HOSTNAME   STATE     MODE      VTEP        ENGINE     DAEMON   SINCE       LAST SEEN   NETS   ENDPOINTS
001122334455   a          alive     classic   192.0.2.1   -          0.1.0    5 min ago   now         2      5
001122334455   b          suspect   -         192.0.2.1   20.10.24   0.1.0    -           5 min ago   2      5";
    assert_eq!(nodes(&[row, gone], 1_300), want);
    assert!(want.lines().all(|line| line.len() <= 120));
}

#[test]
fn a_status_names_every_problem() {
    let want = "\
Daemon:         0.1.0
Node ID:        00112233445566ff
Hostname:       a
VTEP:           192.0.2.1
Underlay:       packets of 1400 bytes; 192.0.2.9 with 1500 bytes until 2 min ago
Data path:      fast path (Linux 6.18 takes the programs)
Forged frames:  0 by MAC, 3 by address, dropped
Mode:           plain: the engine is in no swarm and has no cluster store of its own
Scope:          local
Store:          etcd etcd://h1:2379, NOT connected for 60 s
Engine:         20.10.24
Driver:         rs-overlay:latest, managed plugin 7811d36d683b
Networks here:  2
Endpoints here: 5
Last reconcile: 3 s ago, 12 steps
Repairs:        2 x port, last 10 s ago: add port vni 4096
Elsewhere:      blue lives on b.
Problems:       The store does not answer.
                Host b has another UDP port.";
    assert_eq!(status(&report(), 1_000), want);
}

#[test]
fn differences_are_a_table_and_none_is_a_sentence() {
    let row = DifferenceRow {
        area: "kernel".to_owned(),
        object: "guard route 10.0.0.0/24".to_owned(),
        expected: "there".to_owned(),
        found: "missing".to_owned(),
    };
    let compared = [("endpoints".to_owned(), 2), ("records".to_owned(), 9)].into();
    let mut report = VerifyReport { differences: vec![row], unknown: vec![], compared };
    let want = "\
AREA     OBJECT                    EXPECTED   FOUND
kernel   guard route 10.0.0.0/24   there      missing
compared 2 endpoints, 9 records: 1 difference";
    assert_eq!(verify(&report), want);
    report.differences.clear();
    assert_eq!(verify(&report), "compared 2 endpoints, 9 records: no difference");
}

#[test]
fn what_was_left_behind_is_a_table() {
    let row = GcRow {
        kind: "address".to_owned(),
        object: "10.0.0.9".to_owned(),
        why: "its subnet 10.0.0.0/24 is gone".to_owned(),
        outcome: "collected".to_owned(),
        failed: false,
    };
    let want = "\
KIND      OBJECT     WHY                              OUTCOME
address   10.0.0.9   its subnet 10.0.0.0/24 is gone   collected";
    assert_eq!(gc(&GcReport { rows: vec![row], unknown: vec![] }), want);
    assert_eq!(gc(&GcReport::default()), "nothing was left behind");
}

#[test]
fn a_network_is_found_by_name_then_id_then_the_beginning_of_one_id() {
    let rows =
        [network_row("abc1", Some("web")), network_row("abd2", Some("abc1")), network_row("abe3", None)];
    let found = |text| find_network(&rows, text).map(|row| row.id.as_str()).map_err(|err| err.to_string());
    assert_eq!(found("web"), Ok("abc1"));
    assert_eq!(found("abe"), Ok("abe3"));
    assert!(found("ab").is_err_and(|message| message.contains("more than one")));
    assert!(found("").is_err_and(|message| message.contains("no network")));
    assert!(found("db").is_err_and(|message| message.contains("no network")));
}

#[test]
fn a_name_from_another_host_cannot_steer_the_terminal() {
    let shown = networks(&[network_row("abc1", Some("\u{1b}[2Jweb\n"))]);
    assert!(shown.contains("?[2Jweb?"), "{shown}");
    assert_eq!(shown.lines().count(), 2);
}

#[test]
fn clocks_that_differ_do_no_harm() {
    assert_eq!(ago(2_000, 1_000), "0 s ago");
    assert_eq!(ago(0, u64::MAX), format!("{} d ago", u64::MAX / 86_400));
}
