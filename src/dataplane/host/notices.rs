//! Notices of changes of a host's addresses, routes and links, told as "look again".

use std::time::Duration;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteMessage, RouteProtocol},
};
use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

use super::Host;
use crate::dataplane::{
    DataplaneError,
    names::{PROTOCOL, is_container_link},
    netlink::{messages, open_socket, receive},
};

// `RTNLGRP_*` of `linux/rtnetlink.h`.
const LINK: u32 = 1;
const IPV4_ADDRESS: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV4_RULE: u32 = 8;
const IPV6_ADDRESS: u32 = 9;
const IPV6_ROUTE: u32 = 11;
const IPV6_RULE: u32 = 19;
/// Rest after lost notices: whoever makes more changes than we can read will do so for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// What changes on a host from the moment at which this was opened.
#[derive(Debug)]
pub struct Notices {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Host {
    /// Subscribes at once.
    pub fn notices(&self) -> Result<Notices, DataplaneError> {
        let groups = &[LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV4_RULE, IPV6_ADDRESS, IPV6_ROUTE, IPV6_RULE];
        let socket =
            open_socket(self.channel.namespace(), groups).map_err(|error| DataplaneError::Refused {
                what: "notices of the host's addresses and routes".into(),
                detail: error.to_string(),
            })?;
        Ok(Notices { socket, buffer: Vec::new() })
    }
}

impl Notices {
    /// Ends when something may have changed that matters to an underlay. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            match receive(&self.socket, &mut self.buffer).await {
                Ok(()) if messages(&self.buffer).iter().any(|(_, payload)| matters(payload)) => return,
                Ok(()) => {}
                // An overrun: notices are lost, so anything may have changed.
                Err(error) => {
                    tracing::debug!(%error, "notices of the host's addresses and routes lost");
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
            }
        }
    }
}

/// Containers come and go, and so do our own guard routes: neither carries a tunnel.
fn matters(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
        ) => !is_containers(link),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => !is_guard(route),
        NetlinkPayload::InnerMessage(_) => true,
        _ => false,
    }
}

fn is_containers(link: &LinkMessage) -> bool {
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if is_container_link(name)))
}

fn is_guard(route: &RouteMessage) -> bool {
    route.header.protocol == RouteProtocol::from(PROTOCOL)
}
