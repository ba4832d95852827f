//! Guards: routes in the host's main table that show the engine that a subnet is taken.
//!
//! Docker's own allocator passes over subnets that overlap a route of the main table; newer engines look
//! only at routes of scope link. A guard has that scope and leads nowhere (`throw`: go on with the next
//! table). It also asks for a type of service that the kernel's IPv4 lookup never sees: the lookup
//! compares the bits 0x1c alone, so a route with bits above them matches no packet, and traffic to the
//! subnet goes where it went before.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use nix::errno::Errno;

use super::{
    error::Failure,
    socket::{Channel, Request},
};
use crate::dataplane::names::PROTOCOL;

/// All six DSCP bits (63, one of the code points for local use, RFC 2474).
const UNUSED_TOS: u8 = 0xfc;

impl Channel {
    /// All guards.
    pub(crate) async fn guards(&self) -> Result<BTreeSet<Ipv4Net>, Failure> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        // The kernel filters by these two; a host may have a million routes.
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = PROTOCOL.into();
        match self.dump(RouteNetlinkMessage::GetRoute(message)).await {
            Ok(rows) => Ok(rows.iter().filter_map(guard).collect()),
            // A namespace without any IPv4 route has no main table yet.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(BTreeSet::new()),
            Err(failure) => Err(failure),
        }
    }
}

fn guard(row: &RouteNetlinkMessage) -> Option<Ipv4Net> {
    let RouteNetlinkMessage::NewRoute(route) = row else { return None };
    if !is_guard(&route.header) {
        return None;
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    });
    Ipv4Net::new(destination.unwrap_or(Ipv4Addr::UNSPECIFIED), route.header.destination_prefix_length).ok()
}

fn is_guard(header: &RouteHeader) -> bool {
    header.protocol == RouteProtocol::from(PROTOCOL)
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Throw
        && header.scope == RouteScope::Link
        && header.tos == UNUSED_TOS
}

/// Whether a change of this route may concern a guard.
pub(super) fn concerns_guards(route: &RouteMessage) -> bool {
    route.header.protocol == RouteProtocol::from(PROTOCOL)
}

fn message(cidr: Ipv4Net) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = cidr.prefix_len();
    message.header.tos = UNUSED_TOS;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = PROTOCOL.into();
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Throw;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(cidr.network())));
    message
}

pub(crate) fn add_guard(cidr: Ipv4Net) -> Request {
    Request::new(RouteNetlinkMessage::NewRoute(message(cidr)), NLM_F_CREATE | NLM_F_REPLACE)
}

pub(crate) fn delete_guard(cidr: Ipv4Net) -> Request {
    Request::new(RouteNetlinkMessage::DelRoute(message(cidr)), 0)
}

/// A route that is gone already is what a deletion wants.
pub(crate) fn gone_is_fine(result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.errno() == Some(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
