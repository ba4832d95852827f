//! Connections of this process whose own address has left the host.
//!
//! Nothing arrives on them any more, and the kernel does not say so: what was sent is tried again for a
//! quarter of an hour. A store's client would wait for its deadlines and pings meanwhile.

use std::{collections::BTreeSet, fs, net::IpAddr, os::fd::RawFd};

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};

/// Shuts down all TCP connections of this process that come from one of the addresses `gone`, and answers how
/// many there were. Whoever uses one finds it closed and makes a new one.
pub fn close_from(gone: &BTreeSet<IpAddr>) -> usize {
    if gone.is_empty() {
        return 0;
    }
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return 0 };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.into_iter().filter(|fd| close(*fd, gone)).count()
}

fn close(fd: RawFd, gone: &BTreeSet<IpAddr>) -> bool {
    // Anything else than a connected socket has no peer, and what has been closed meanwhile neither.
    let connected = getpeername::<SockaddrStorage>(fd).is_ok();
    let from = getsockname::<SockaddrStorage>(fd).ok().filter(|_| connected).and_then(|own| address(&own));
    from.is_some_and(|ip| gone.contains(&ip)) && shutdown(fd, Shutdown::Both).is_ok()
}

fn address(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
    v4.or_else(|| socket.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()).to_canonical()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{Ipv4Addr, TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    /// A connection from the first of these addresses, and its other end.
    fn connect(from: [u8; 4], to: [u8; 4]) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::from(to), 0)).unwrap();
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::empty(),
            None,
        )
        .unwrap();
        let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let own = nix::sys::socket::SockaddrIn::new(from[0], from[1], from[2], from[3], 0);
        nix::sys::socket::bind(raw, &own).unwrap();
        let std::net::SocketAddr::V4(there) = listener.local_addr().unwrap() else { panic!("IPv4") };
        nix::sys::socket::connect(raw, &nix::sys::socket::SockaddrIn::from(there)).unwrap();
        (TcpStream::from(socket), listener.accept().unwrap().0)
    }

    #[test]
    fn only_connections_from_an_address_that_is_gone_are_closed() {
        let (mut lost, _other) = connect([127, 9, 8, 7], [127, 0, 0, 1]);
        let (mut kept, _peer) = connect([127, 9, 8, 6], [127, 0, 0, 1]);
        assert_eq!(close_from(&BTreeSet::new()), 0);
        assert_eq!(close_from(&BTreeSet::from([IpAddr::from([127, 9, 8, 7])])), 1);
        assert_eq!(lost.read(&mut [0]).unwrap(), 0, "the reader is told that it is over");
        kept.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(kept.read(&mut [0]).is_err(), "nothing has come, and it is open");
    }
}
