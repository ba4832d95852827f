//! The manager: sandboxes that come late, go without a word, and change their networks.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::rr::RecordType;
use rs_overlay::{
    dataplane::namespace::Namespace,
    dns::manager::{Manager, Told},
    local::{Local, LocalEndpoint, boot_id},
    model::{EndpointId, MacAddr, Underlay},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{addresses, ask},
    lab::{self, Lab, Net, allowed},
    resolver::Resolver,
    scene::{LOCAL, endpoint, snapshot, until},
};

fn local_endpoint(c: char, network: char, sandbox: &str, name: &str) -> LocalEndpoint {
    LocalEndpoint {
        id: lab::endpoint(c),
        network: lab::network(network),
        docker_network: lab::network('d'),
        mac: MacAddr::new([2, 0x42, 10, 9, 0, 77]).unwrap(),
        addresses: vec![IpAddr::from([10, 9, 0, 77])],
        claimed: vec![],
        mtu: 1450,
        sandbox: Some(sandbox.to_owned()),
        container: Some(name.to_owned()),
        container_id: None,
        aliases: vec![],
        named_at: std::collections::BTreeMap::new(),
        created_at: 1,
        boot_id: boot_id(),
        generation: 0,
        cut_off: None,
    }
}

async fn answers(net: &Net, name: &str, wanted: &[&str]) {
    let what = format!("{name} is {wanted:?}");
    until(&what, || {
        let found = addresses(net, name);
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_the_sandboxes_of_the_host() {
    if !allowed() {
        return;
    }
    let lab = Lab::new();
    let state = tempfile::tempdir().unwrap();
    let local = Arc::new(Local::open(state.path(), 1).unwrap());
    let (cluster, cluster_now) = watch::channel(Arc::new(snapshot()));
    let (_underlay, underlay) = watch::channel(Underlay::new([192, 0, 2, 1].into(), 1500));
    let (told, _) = tokio::sync::watch::channel(Told::default());
    let manager = Manager { local: local.clone(), snapshot: cluster_now, underlay, told };
    let cancel = CancellationToken::new();
    let task = tokio::spawn(manager.run(cancel.clone()));

    // The engine tells the sandbox first and makes it a moment later.
    let path = lab.pin("sandbox");
    local.put_endpoint(local_endpoint('e', 'a', path.to_str().unwrap(), "own")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let open = || {
        std::fs::write(&path, "").unwrap();
        let net = lab.at(&path);
        let docker = Resolver::start(&net, "iptables-nft", LOCAL);
        (net, docker)
    };
    let (net, docker) = open();
    answers(&net, "shop-web-1.", &["10.9.0.2"]).await;
    answers(&net, "own.", &["10.9.0.77"]).await;
    answers(&net, "db.", &[]).await;

    // Another network, a new name in the cluster, another name for an own container.
    local.put_endpoint(local_endpoint('f', 'b', path.to_str().unwrap(), "own")).unwrap();
    answers(&net, "db.", &["10.8.0.2"]).await;
    cluster.send_modify(|now| {
        let new = endpoint(9, 'b', "n2", &["late"], "10.8.0.9");
        Arc::make_mut(now).endpoints.get_mut(&new.network).unwrap().insert(new.id.clone(), new.into());
    });
    answers(&net, "late.", &["10.8.0.9"]).await;
    // Nobody keeps what still names a holder that has left; others are kept as always.
    let life = |name: &str| ask(&net, name, RecordType::A).answers[0].ttl;
    assert_eq!(life("web."), 5);
    cluster.send_modify(|now| {
        let gone = endpoint(2, 'a', "n2", &["shop-web-2", "web"], "10.9.0.3");
        Arc::make_mut(now).endpoints.get_mut(&gone.network).unwrap().remove(&gone.id);
    });
    answers(&net, "web.", &["10.9.0.2"]).await;
    assert_eq!((life("web."), life("shop-web-1.")), (0, 5));
    let renamed = |endpoint: &mut LocalEndpoint| endpoint.container = Some("renamed".to_owned());
    assert!(local.update_endpoint(&lab::endpoint('e'), renamed).unwrap());
    answers(&net, "renamed.", &["10.9.0.77"]).await;

    // An engine that crashed: the sandbox is gone and nobody said `Leave`. Another one takes its place.
    let host = lab.namespace("host");
    host.sh(&format!("ip link add outside type veth peer name inside netns {}", path.display()));
    drop((docker, net));
    Namespace::unpin(&path).unwrap();
    until("the manager lets go", || host.try_sh("ip link show outside").map_or(Ok(()), Err)).await;
    let (net, _docker) = open();
    answers(&net, "db.", &["10.8.0.2"]).await;

    // Leave.
    let leave = |id: &EndpointId| local.update_endpoint(id, |endpoint| endpoint.sandbox = None).unwrap();
    assert!(leave(&lab::endpoint('f')));
    answers(&net, "db.", &[]).await;
    answers(&net, "shop-web-1.", &["10.9.0.2"]).await;
    assert!(leave(&lab::endpoint('e')));
    answers(&net, "shop-web-1.", &[]).await;

    // The end of the daemon.
    assert!(
        local.update_endpoint(&lab::endpoint('e'), |e| e.sandbox = path.to_str().map(str::to_owned)).unwrap()
    );
    answers(&net, "shop-web-1.", &["10.9.0.2"]).await;
    cancel.cancel();
    task.await.unwrap();
    assert_eq!(addresses(&net, "shop-web-1."), Vec::<String>::new());
    assert_eq!(net.sh("nft list tables | grep rs_overlay || true"), "");
}
