//! Hosts that stand still, and hosts that reach everybody but the store.

use std::thread;
use std::time::{Duration, Instant};

use netns_harness::{EngineVersion, Host, Lab, StoreKind, wait_until};

use crate::support::{LONG, Traces, can_run, reaches};

/// How often the container has told that it runs.
fn beats(host: &Host) -> usize {
    host.docker(&["logs", "beating"]).unwrap().lines().count()
}

#[test]
fn a_frozen_host_does_nothing_and_goes_on_where_it_was() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24; 2]).build().unwrap();
    let (one, two) = (lab.host(1), lab.host(2));
    let script = "while :; do echo beat; sleep 0.05; done";
    one.docker(&["run", "-d", "--name", "beating", "busybox", "sh", "-c", script]).unwrap();
    wait_until("the first beats", LONG, || beats(one) > 3).unwrap();
    thread::scope(|scope| {
        // A program that somebody has running on the host stands still with it, and is not forgotten.
        let running = scope.spawn(|| one.exec(&["sh", "-c", "sleep 1; echo done"]));
        thread::sleep(Duration::from_millis(300));
        one.freeze().unwrap();
        let ping = one.run(&["docker", "ps"]).limit(Duration::from_secs(2)).output();
        assert!(ping.is_err(), "a frozen engine answers: {ping:?}");
        assert!(reaches(two, one), "the kernel of a frozen host does not answer");
        thread::sleep(Duration::from_secs(2));
        one.thaw().unwrap();
        assert_eq!(running.join().unwrap().unwrap(), "done");
    });
    let before = beats(one);
    wait_until("a beat after the thaw", LONG, || beats(one) > before).unwrap();

    one.suspend().unwrap();
    assert!(!reaches(two, one), "a suspended host answers");
    one.resume().unwrap();
    wait_until("the way to a resumed host", LONG, || reaches(two, one)).unwrap();
    wait_until("its engine", LONG, || one.docker(&["ps"]).map(|_| true)).unwrap();

    one.freeze().unwrap();
    one.power_off().unwrap();
    one.power_on().unwrap();
    // The end of a lab must not wait for those who stand still.
    one.freeze().unwrap();
    let traces = Traces::of(&lab);
    drop(lab);
    traces.assert_none();
}

#[test]
fn a_host_is_cut_from_the_store_alone() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24; 2]).store(StoreKind::Etcd).build().unwrap();
    let (one, two) = (lab.host(1), lab.host(2));
    let asks = |host: &Host| host.exec(&["curl", "-sS", "-m", "1", "http://192.0.2.254:2379/health"]);
    asks(one).unwrap();
    for _ in 0..2 {
        one.cut_store(true).unwrap();
        assert!(asks(one).is_err(), "the store is reached");
    }
    asks(two).unwrap();
    assert!(reaches(one, two) && one.exec(&["ping", "-c1", "-W1", "192.0.2.254"]).is_ok());
    for _ in 0..2 {
        one.cut_store(false).unwrap();
        asks(one).unwrap();
    }
    let tables = one.exec(&["nft", "list", "tables"]).unwrap();
    assert!(!tables.contains("netns_harness"), "{tables}");

    let store = lab.store();
    let slowest = store.slow(Duration::from_secs(2), || {
        let ask = || {
            let started = Instant::now();
            one.exec(&["curl", "-sS", "-m", "60", "http://192.0.2.254:2379/health"]).unwrap();
            thread::sleep(Duration::from_millis(100));
            started.elapsed()
        };
        (0..3).map(|_| ask()).max()
    });
    let slowest = slowest.unwrap().unwrap();
    assert!(slowest > Duration::from_secs(1), "a slow store answers in {slowest:?} at most");
    let failed = store.flap(Duration::from_millis(500), Duration::from_millis(500), || {
        let tries = (0..30).map(|_| {
            thread::sleep(Duration::from_millis(100));
            asks(two).is_err()
        });
        tries.filter(|failed| *failed).count()
    });
    let failed = failed.unwrap();
    assert!((1..30).contains(&failed), "{failed} of 30 questions had no answer");
    asks(two).unwrap();
}

#[test]
fn an_etcd_without_space_takes_nothing_until_it_is_drained() {
    if !can_run() {
        return;
    }
    let lab = Lab::builder().hosts(&[EngineVersion::V20_10_24]).store(StoreKind::Etcd).build().unwrap();
    let (host, store) = (lab.host(1), lab.store());
    let put = || {
        let body = r#"{"key":"a2V5","value":"dmFsdWU="}"#;
        host.exec(&["curl", "-sS", "-m", "30", "-d", body, "http://192.0.2.254:2379/v3/kv/put"]).unwrap()
    };
    let read = || {
        let body = r#"{"key":"a2V5"}"#;
        host.exec(&["curl", "-sS", "-m", "30", "-d", body, "http://192.0.2.254:2379/v3/kv/range"]).unwrap()
    };
    assert!(put().contains("revision"));
    store.restart_with(&["--quota-backend-bytes", "16777216"]).unwrap();
    store.fill().unwrap();
    let refused = put();
    assert!(refused.contains("space exceeded"), "{refused}");
    assert!(read().contains("dmFsdWU="), "a full store cannot be read");
    store.drain().unwrap();
    let taken = put();
    assert!(taken.contains("revision") && !taken.contains("space exceeded"), "{taken}");
}
