//! Queries over UDP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet};
use tracing::debug;

use super::{
    answer::{Decision, Way, decide, failure},
    interceptor::Names,
    lifetimes::shorten,
    upstream::{AT_ONCE, LONGEST, Unanswered, Upstream},
};

/// Pause after an error that is not about one datagram.
const PAUSE: Duration = Duration::from_millis(10);

/// Answers until it is dropped, or until somebody else has closed the socket (`SOCK_DESTROY`, as `ss -K` does).
pub(super) async fn serve(socket: UdpSocket, names: Names, upstream: Arc<Upstream>) {
    let place = socket.local_addr().ok();
    let socket = Arc::new(socket);
    let mut forwarded = JoinSet::new();
    // Only as much of it as datagrams fill ever takes memory.
    let mut buffer = Vec::with_capacity(LONGEST);
    loop {
        buffer.clear();
        let client = match socket.recv_buf_from(&mut buffer).await {
            Ok((_, client)) => client,
            Err(error) => {
                debug!(%error, "a sandbox's DNS socket is in trouble");
                // A socket that was closed from outside has lost its port.
                if socket.local_addr().ok() != place {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while forwarded.try_join_next().is_some() {}
        match decide(&buffer, &names, Way::Udp, rand::random()) {
            Decision::Reply(answer) => send(&socket, &answer, client),
            Decision::Forward { .. } if forwarded.len() >= AT_ONCE => {
                let _ = failure(&buffer, true).map(|answer| send(&socket, &answer, client));
            }
            Decision::Forward { keep } => {
                forwarded.spawn(forward(buffer.clone(), client, keep, socket.clone(), upstream.clone()));
            }
        }
    }
}

async fn forward(
    query: Vec<u8>,
    client: SocketAddr,
    keep: Option<u32>,
    socket: Arc<UdpSocket>,
    upstream: Arc<Upstream>,
) {
    match upstream.ask(&query).await {
        Ok(mut answer) => {
            if let Some(seconds) = keep {
                shorten(&mut answer, seconds);
            }
            send(&socket, &answer, client);
        }
        Err(error) => {
            debug!(%error, "a query stays unanswered");
            if let Some(answer) = failure(&query, matches!(error, Unanswered::Busy)) {
                send(&socket, &answer, client);
            }
        }
    }
}

/// What the kernel has no room for is lost, as anything on UDP may be.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, client) {
        debug!(%error, %client, "a DNS answer is lost");
    }
}
