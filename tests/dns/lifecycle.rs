//! How an interceptor comes and goes.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use rs_overlay::{
    dataplane::{
        interception::{Interception, InterceptionError},
        namespace::Namespace,
    },
    dns::Interceptor,
};

use crate::{
    client::{PORT, addresses, query, tcp, udp, udp_socket},
    lab::{Lab, allowed},
    resolver::{Resolver, answer},
    scene::{LOCAL, names, sandbox, until},
};

/// Environment variable that tells a second process of this test which sandbox to serve.
const HOLD: &str = "RS_OVERLAY_TEST_SANDBOX";

struct Holder(Child);

impl Holder {
    fn start(sandbox: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::death_gives_the_queries_back_to_docker"])
            .env(HOLD, sandbox)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Run by itself as a second process, it serves a sandbox until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn death_gives_the_queries_back_to_docker() {
    if let Ok(sandbox) = std::env::var(HOLD) {
        let _ours = Interceptor::open(Path::new(&sandbox), names("a")).unwrap();
        std::future::pending::<()>().await;
    }
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    let ours = query("shop-web-1.", hickory_proto::rr::RecordType::A).to_vec().unwrap();
    // A client that keeps its port: what the kernel remembers of its queries must not lead it astray.
    let client = udp_socket(&net);
    let ask = || {
        let mut buffer = [0; 512];
        client.send_to(&ours, ("127.0.0.11", PORT)).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    for _ in 0..3 {
        assert_eq!(ask(), answer(&ours, LOCAL));
        let holder = Holder::start(&net.path());
        until("the other process serves", || match addresses(&net, "shop-web-1.").len() {
            1 => Ok(()),
            _ => Err("Docker answers".to_owned()),
        })
        .await;
        assert_ne!(ask(), answer(&ours, LOCAL));
        holder.kill();
        assert_eq!(ask(), answer(&ours, LOCAL), "at once");
        assert_eq!(udp(&net, PORT, &ours), answer(&ours, LOCAL));
        assert_eq!(tcp(&net, PORT, &[&ours]), [answer(&ours, LOCAL)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_rules_away_and_there_is_one_owner() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, _docker) = sandbox(&lab);
    Interception::try_out().unwrap();
    let ours = Interceptor::open(&net.path(), names("a")).unwrap();
    net.sh("nft flush ruleset");
    net.try_sh("nft delete table ip rs_overlay_dns").unwrap_err();
    assert_eq!(addresses(&net, "shop-web-1."), ["10.9.0.2"]);
    let second = Interceptor::open(&net.path(), names("a")).unwrap_err();
    assert!(matches!(second, InterceptionError::Held(_)), "{second}");
    ours.close().await;
    assert_eq!(net.sh("nft list tables"), "");
    let again = Interceptor::open(&net.path(), names("a")).unwrap();
    assert_eq!(addresses(&net, "shop-web-1."), ["10.9.0.2"]);
    drop(again);
    until("a dropped interceptor takes its rules with it", || match net.sh("nft list tables").as_str() {
        "" => Ok(()),
        tables => Err(tables.to_owned()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_lets_the_sandbox_die() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let host = lab.namespace("host");
    let (net, docker) = sandbox(&lab);
    host.sh(&format!("ip link add outside type veth peer name inside netns {}", net.path().display()));
    let ours = Interceptor::open(&net.path(), names("a")).unwrap();
    let path = net.path();
    assert!(ours.serves(&path).unwrap());
    drop((docker, net));
    Namespace::unpin(&path).unwrap();
    assert!(!path.exists() && ours.serves(&path).is_err());
    host.sh("ip link show outside");
    ours.close().await;
    until("the sandbox is gone with its links", || match host.try_sh("ip link show outside") {
        Ok(shown) => Err(shown),
        Err(_) => Ok(()),
    })
    .await;
}

/// A sandbox is there for a moment before its loopback is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_without_its_loopback_is_not_ready() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let path = lab.pin("sandbox");
    let bare = Namespace::pinned(&path, &Namespace::current().unwrap()).unwrap();
    let early = Interceptor::open(&path, names("a")).unwrap_err();
    let InterceptionError::Failed { source, .. } = early else { panic!("{early}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NetworkUnreachable);
    drop(bare);
    let net = lab.at(&path);
    let _ours = Interceptor::open(&path, names("a")).unwrap();
    assert_eq!(addresses(&net, "shop-web-1."), ["10.9.0.2"]);
}

/// The engine starts its resolver anew, on other ports, when a container joins another network.
#[tokio::test(flavor = "multi_thread")]
async fn docker_s_resolver_may_move() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let (net, docker) = sandbox(&lab);
    let _ours = Interceptor::open(&net.path(), names("a")).unwrap();
    let local = query("local.example.", hickory_proto::rr::RecordType::A).to_vec().unwrap();
    let ask = || (udp(&net, PORT, &local), tcp(&net, PORT, &[&local]).remove(0));
    for _ in 0..8 {
        assert_eq!(ask(), (answer(&local, LOCAL), answer(&local, LOCAL)));
    }
    drop(docker);
    let elsewhere = [172, 19, 0, 7].into();
    let _docker = Resolver::start(&net, "iptables-nft", elsewhere);
    for _ in 0..8 {
        assert_eq!(ask(), (answer(&local, elsewhere), answer(&local, elsewhere)));
    }
}
