//! Sends a transaction to `nf_tables` in the network namespace of the calling thread.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{
    batch::acknowledgements,
    sets::{Answer, read},
};

/// How long the kernel may take.
const DEADLINE_SECONDS: i64 = 2;

/// A netlink socket to `nf_tables`; tables may belong to it.
pub(in crate::dataplane) fn open() -> Result<OwnedFd, Errno> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let opened = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&opened, sockopt::ReceiveTimeout, &TimeVal::seconds(DEADLINE_SECONDS))?;
    Ok(opened)
}

/// Carries out a transaction that calls for this many acknowledgements. The outer error is the socket's, the
/// inner one the kernel's refusal, after which nothing has happened.
pub(in crate::dataplane) fn commit(
    socket: &OwnedFd,
    (datagram, mut wanted): (Vec<u8>, usize),
) -> Result<Result<(), Errno>, Errno> {
    sendto(socket.as_raw_fd(), &datagram, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 8192];
    while wanted > 0 {
        let received = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        for code in acknowledgements(answer.get(..received).unwrap_or_default()) {
            if code != 0 {
                drain(socket);
                return Ok(Err(Errno::from_raw(code)));
            }
            wanted = wanted.saturating_sub(1);
        }
    }
    Ok(Ok(()))
}

/// Acknowledgements behind a refusal, all of which are there when the transaction ends, are none of the next one's.
fn drain(socket: &OwnedFd) {
    let mut rest = [0; 8192];
    while recv(socket.as_raw_fd(), &mut rest, MsgFlags::MSG_DONTWAIT).is_ok() {}
}

/// Asks a question that is answered by a list. The inner error is the kernel's refusal.
pub(in crate::dataplane) fn ask(socket: &OwnedFd, question: &[u8]) -> Result<Result<Answer, Errno>, Errno> {
    sendto(socket.as_raw_fd(), question, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut whole = Answer::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let received = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let part = read(buffer.get(..received).unwrap_or_default());
        whole.keys.extend(part.keys);
        whole.counters.extend(part.counters);
        match part.ended {
            None => {}
            Some(0) => return Ok(Ok(whole)),
            Some(code) => return Ok(Err(Errno::from_raw(code))),
        }
    }
}
