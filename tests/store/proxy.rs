//! A TCP hop in front of a server that a test can cut, mend and turn to another server.

use std::net::Ipv4Addr;

use rs_overlay::watched::Followed;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The hop; it ends with its owner.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    server: u16,
    /// Port that it leads to; `None` while it is cut.
    target: watch::Sender<Option<u16>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, seen) = watch::channel(Some(server));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, seen));
        Self { port, server, target, _tasks: tasks }
    }

    /// Ends all connections; new ones are closed at once.
    pub(crate) fn cut(&self) {
        self.target.send_replace(None);
    }

    pub(crate) fn mend(&self) {
        self.target.send_replace(Some(self.server));
    }

    /// Ends all connections; new ones lead to another server.
    pub(crate) fn turn_to(&self, server: u16) {
        self.target.send_replace(Some(server));
    }
}

async fn serve(listener: TcpListener, target: watch::Receiver<Option<u16>>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut changed = target.clone();
        let server = changed.catch_up();
        if let Some(server) = server {
            connections.spawn(async move {
                let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = changed.changed() => {}
                }
            });
        }
        while connections.try_join_next().is_some() {}
    }
}
