//! A host that swallows every packet: what never got a connection was certainly not done.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
use rs_overlay::store::{LeaseId, StoreError, Txn};
use tokio::time::Instant;

use crate::servers::opened;

/// A port that drops the first packet of new connections: its queue is full and nobody takes from it.
struct Swallower {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Swallower {
    fn new() -> Self {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let listener = TcpListener::from(fd);
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
        let mut queued = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queued.push(connection);
            assert!(queued.len() < 100, "the queue has no end");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

#[tokio::test]
async fn nothing_was_done_on_a_host_that_swallows_everything() {
    let swallower = Swallower::new();
    for kind in ["etcd", "consul"] {
        let store = opened(&format!("{kind}://{}", swallower.address), &[]).await;
        let lease =
            LeaseId(if kind == "etcd" { "7f" } else { "11111111-1111-1111-1111-111111111111" }.into());
        let start = Instant::now();
        let results = [
            store.txn(Txn::new().put("a", "1")).await.map(drop),
            store.range("a").await.map(drop),
            store.keep_alive(&lease).await,
            store.revoke(&lease).await,
        ];
        assert!(start.elapsed() < Duration::from_mins(1), "{kind}: four calls took {:?}", start.elapsed());
        for result in results {
            assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{kind}: {result:?}");
        }
    }
}
