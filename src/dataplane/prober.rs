//! Asks other hosts for a sign of life by neighbour solicitations (RFC 4861, section 7.3: neighbour
//! unreachability detection) on the probe network.
//!
//! A solicitation and not an echo request, because it brings the asker's Ethernet address along: a kernel
//! answers it even if nobody there knows the asker, and no setting keeps it from doing so.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdSocket},
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt::Ipv6Ttl,
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{DataplaneError, Prober, namespace::Namespace};
use crate::{
    model::{MacAddr, Underlay, probe_address, probe_mac},
    watched::Watched,
};

/// How often a host is asked before it counts as missing.
const TRIES: u32 = 5;
/// How long each answer may take.
const WAIT: Duration = Duration::from_millis(400);

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Where the target's address stands in either.
const TARGET: std::ops::Range<usize> = 8..24;

/// Asks from inside our namespace.
#[derive(Debug, Clone)]
pub struct NeighbourProber {
    /// The file on which our namespace is pinned.
    pub namespace: PathBuf,
    /// Where this host takes VXLAN packets.
    pub underlay: watch::Receiver<Underlay>,
}

impl Prober for NeighbourProber {
    fn answers(&self, vtep: IpAddr) -> BoxFuture<'_, Result<bool, DataplaneError>> {
        async move {
            self.ask(vtep).await.map_err(|error| DataplaneError::Refused {
                what: format!("asking for the host at {vtep} on the probe network"),
                detail: error.to_string(),
            })
        }
        .boxed()
    }
}

impl NeighbourProber {
    async fn ask(&self, vtep: IpAddr) -> io::Result<bool> {
        let own = self.underlay.see(|underlay| underlay.vtep);
        let socket = self.open(own)?;
        let target = probe_address(vtep);
        let question = solicitation(target, probe_mac(own));
        let peer = SocketAddr::V6(SocketAddrV6::new(target, 0, 0, 0));
        let mut buffer = [0; 256];
        for _ in 0..TRIES {
            socket.send_to(&question, peer).await?;
            let end = Instant::now() + WAIT;
            // A timeout is one missing answer.
            while let Ok(received) = timeout_at(end, socket.recv_from(&mut buffer)).await {
                let (length, from) = received?;
                if from.ip() == IpAddr::V6(target) && is_answer(&buffer[..length], target) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// A raw socket for `ICMPv6`, which takes and gives the same calls as a UDP socket; the port is always 0. The
    /// kernel fills in checksums.
    fn open(&self, vtep: IpAddr) -> io::Result<UdpSocket> {
        let namespace = Namespace::open(&self.namespace)?;
        let own_address = probe_address(vtep);
        let socket = namespace.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
            // Any other hop limit makes it invalid (RFC 4861, section 7.1.1).
            setsockopt(&socket.as_fd(), Ipv6Ttl, &255)?;
            let bound = SocketAddrV6::new(own_address, 0, 0, 0);
            nix::sys::socket::bind(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                &nix::sys::socket::SockaddrIn6::from(bound),
            )?;
            Ok::<_, io::Error>(socket)
        })??;
        UdpSocket::from_std(StdSocket::from(socket))
    }
}

/// RFC 4861, section 4.3, with the sender's link-layer address.
fn solicitation(target: Ipv6Addr, own: MacAddr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    // Option 1, one unit of eight bytes.
    message.extend([1, 1]);
    message.extend(own.octets());
    message
}

/// RFC 4861, section 4.4.
fn is_answer(message: &[u8], target: Ipv6Addr) -> bool {
    message.first() == Some(&ADVERTISEMENT) && message.get(TARGET) == Some(&target.octets()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_names_its_target_and_its_sender() {
        let vtep = IpAddr::from([192, 0, 2, 1]);
        let message = solicitation(probe_address(vtep), probe_mac(vtep));
        assert_eq!((message.len(), message[0], &message[24..26]), (32, 135, &[1, 1][..]));
        assert_eq!(message[26..], probe_mac(vtep).octets());
        assert!(!is_answer(&message, probe_address(vtep)));
    }

    #[test]
    fn only_an_advertisement_of_the_target_is_an_answer() {
        let target = probe_address([192, 0, 2, 1].into());
        let mut answer = solicitation(target, probe_mac([192, 0, 2, 2].into()));
        answer[0] = ADVERTISEMENT;
        assert!(is_answer(&answer, target));
        assert!(!is_answer(&answer, probe_address([192, 0, 2, 2].into())));
        for length in 0..24 {
            assert!(!is_answer(&answer[..length], target));
        }
    }
}
