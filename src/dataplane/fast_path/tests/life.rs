//! Programs come and go, and others' stay.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use aya::programs::{SchedClassifier, TcAttachType};

use super::scene::{FAR, Scene, index, ip4};
use crate::dataplane::{
    fast_path::{FastPath, Side},
    namespace::Namespace,
};

/// How many programs of whomever a link has.
fn programs(namespace: &Namespace, link: &str) -> usize {
    let query = || SchedClassifier::query_tcx(link, TcAttachType::Ingress).unwrap().1.len();
    namespace.run(query).unwrap()
}

#[test]
fn programs_of_others_stay_where_they_are() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new(1, 1450);
    let mut path = scene.fast();
    let port = scene.containers[0].port;
    let mut others = FastPath::load().unwrap();
    assert!(others.find(&scene.inside, &[port]).unwrap().attached.is_empty());
    others.attach(&scene.inside, &[(port, Side::Container)]).unwrap();
    assert_eq!(programs(&scene.inside, "p1"), 2);
    path.drop_port(port).unwrap();
    assert_eq!(programs(&scene.inside, "p1"), 1);
    assert!(path.find(&scene.inside, &[port]).unwrap().attached.is_empty());
    assert!(others.find(&scene.inside, &[port]).unwrap().attached.contains_key(&port));
    path.attach(&scene.inside, &[(port, Side::Container)]).unwrap();
    assert_eq!(programs(&scene.inside, "p1"), 2);
    drop(path);
    assert_eq!((programs(&scene.inside, "p1"), programs(&scene.inside, "vx")), (1, 0));
}

/// The test is also the process that is killed, when it is given a namespace.
#[test]
fn a_process_that_is_killed_leaves_nothing_behind() {
    const PLACE: &str = "FAST_PATH_TEST_PLACE";
    const READY: &str = "attached and waiting";
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if let Ok(place) = std::env::var(PLACE) {
        let inside = Namespace::open(place.as_ref()).unwrap();
        let mut path = FastPath::load().unwrap();
        path.attach(&inside, &[(index(&inside, "p1"), Side::Container)]).unwrap();
        println!("{READY}");
        // Until the other end is closed, should nobody kill it.
        let _ = std::io::stdin().lines().count();
        return;
    }
    let scene = Scene::new(1, 1450);
    let name = concat!(module_path!(), "::a_process_that_is_killed_leaves_nothing_behind");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name.split_once("::").unwrap().1])
        .env(PLACE, format!("/proc/{}/fd/{}", std::process::id(), scene.inside.raw()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(READY)));
    assert_eq!(programs(&scene.inside, "p1"), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(programs(&scene.inside, "p1"), 0);
    assert!(scene.containers[0].pings(ip4(FAR)));
}
