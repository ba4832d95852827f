//! Notices of changes, from both namespaces, told as "look again".

use std::{io, sync::Arc, time::Duration};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    routes::concerns_guards,
    socket::{messages, open_socket, receive},
};
use crate::dataplane::{Changed, names::is_container_link, namespace::Namespace};

// `RTNLGRP_*` of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const NEIGHBOUR: u32 = 3;
const IPV4_ROUTE: u32 = 7;
const IPV6_ADDRESS: u32 = 9;
/// Rest after lost notices.
const PAUSE: Duration = Duration::from_millis(100);

/// Subscribes at once; the future then runs until nobody listens any more.
pub(super) fn listener(
    inside: &Arc<Namespace>,
    host: &Arc<Namespace>,
    sender: Sender<Changed>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let ours = open_socket(inside, &[LINK, NEIGHBOUR, IPV6_ADDRESS])?;
    let theirs = open_socket(host, &[LINK, IPV4_ROUTE])?;
    Ok(async move {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        loop {
            let changed = tokio::select! {
                () = sender.closed() => return,
                // An error here is an overrun: notices are lost, so anything may have changed.
                received = receive(&ours, &mut first) => match received {
                    Ok(()) => true,
                    Err(error) => lost(&error).await,
                },
                received = receive(&theirs, &mut second) => match received {
                    Ok(()) => messages(&second).iter().any(|(_, payload)| concerns_us(payload)),
                    Err(error) => lost(&error).await,
                },
            };
            if changed && matches!(sender.try_send(Changed), Err(TrySendError::Closed(_))) {
                return;
            }
        }
    })
}

async fn lost(error: &io::Error) -> bool {
    tracing::debug!(%error, "netlink notices lost");
    // Whoever makes more changes than we can read will do so for a while.
    tokio::time::sleep(PAUSE).await;
    true
}

/// In the host's namespace only containers' ends and guards are ours; an engine changes much else there.
fn concerns_us(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        ) => is_containers_end(link),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => concerns_guards(route),
        _ => false,
    }
}

fn is_containers_end(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::IfName(name) => is_container_link(name),
        _ => false,
    })
}
