//! The four calls whose safety the compiler cannot see. No other file has any.

use std::io;

use netlink_sys::Socket;
use nix::{
    libc,
    sys::socket::{LinkAddr, SockaddrLike},
};
use tokio::io::unix::AsyncFd;

/// Hands a socket that does not block to the runtime. Needs to be called from within one.
#[expect(unsafe_code, reason = "the trait bound of `AsyncFd` cannot say who owns the descriptor")]
pub(super) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, closes it only when it is dropped, and nothing here ever
    // replaces the socket inside of the `AsyncFd`.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Gives memory back to the kernel that was freed and that the allocator keeps. To load programs takes the types of the
/// whole kernel, some twenty megabytes for a moment; an idle daemon has less than that. So does reading a large table.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into C's library, which takes no pointer")]
    // SAFETY: it may be called at any time, from any thread (malloc_trim(3)), and touches only memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the allocator give back what is freed in large pieces at once, from all threads. By itself it keeps more the
/// larger the pieces were, and [`give_memory_back`] does not reach the ends of other threads' heaps.
pub(super) fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "calls into C's library, which take no pointer")]
    // SAFETY: both take numbers, and may be called at any time (mallopt(3)); what they refuse stays as it was.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
    }
}

/// Bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 1 << 20;

/// The address of a packet socket's peer: all that is behind `interface`. `protocol` is an `EtherType` in
/// host byte order.
#[expect(clippy::cast_possible_truncation, reason = "constants that fit, of types that C chose")]
#[expect(unsafe_code, reason = "nix has no safe way to make the address of a packet socket")]
pub(super) fn packet_address(interface: u32, protocol: u16) -> Option<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface.try_into().ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole, initialised `sockaddr_ll` whose family and size are right, and
    // the address is copied before the call returns.
    unsafe {
        LinkAddr::from_raw((&raw const raw).cast(), Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t))
    }
}
