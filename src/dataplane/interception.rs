//! Takes the DNS queries of one container: sockets inside its sandbox, and the rules that lead to them.
//!
//! Docker's resolver is at 127.0.0.11, on ports of its own choice to which rules of Docker's translate
//! port 53. Our rules come before connection tracking and rewrite the port statelessly in both directions,
//! so that Docker's never see those packets and nothing remembers them. The table belongs to a netlink
//! socket (`NFT_TABLE_F_OWNER`, Linux 5.12): whatever ends this process takes the rules away, and Docker
//! answers again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use tokio::net::TcpSocket;

use super::{
    namespace::Namespace,
    nftables::{Field, Rule, Transport, owned_table, transaction},
};

/// Where containers send their queries.
pub const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);
/// The mark of packets that our rules leave to Docker's.
const MARK: u32 = 0x7273_6f76;
/// Name of the table.
const TABLE: &str = "rs_overlay_dns";
/// Bytes that may wait in a UDP socket: a thousand queries at once, each counted with its overhead.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Why a sandbox's queries cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum InterceptionError {
    /// The kernel cannot tie rules to a process, and rules that outlive us would take a container's DNS
    /// away. Names of other hosts are then not answered.
    #[error(
        "this kernel cannot tie packet filter rules to a process ({0}); names of other hosts are not answered in containers: it takes Linux 5.12 with NF_TABLES, NF_TABLES_IPV4 and NFT_CT"
    )]
    Unsupported(Errno),
    /// Somebody else's rules are there.
    #[error(
        "table {TABLE} in the sandbox belongs to another process ({0}); is another rs-overlay daemon running?"
    )]
    Held(Errno),
    /// An operation failed.
    #[error("cannot {what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Sockets and rules in one sandbox.
#[derive(Debug)]
pub struct Interception {
    /// Receives queries; does not block.
    pub udp: UdpSocket,
    /// Accepts connections; does not block.
    pub tcp: TcpListener,
    /// The rules, for as long as it is held.
    pub rules: Rules,
}

/// The socket that the rules belong to.
#[derive(Debug)]
pub struct Rules(#[expect(dead_code, reason = "held for what happens when it is closed")] OwnedFd);

impl Interception {
    /// Whether this kernel has what it takes: makes rules in a namespace that nobody uses. Takes some
    /// milliseconds.
    pub fn try_out() -> Result<(), InterceptionError> {
        let failed = |source| InterceptionError::Failed { what: "make a network namespace", source };
        Namespace::run_in_new(|| Rules::make(1, 1).map(drop)).map_err(failed)?
    }

    /// Takes the queries of the sandbox from now on. Takes about 1 ms.
    pub fn open(sandbox: &Namespace) -> Result<Self, InterceptionError> {
        let inside = sandbox.run(|| {
            let here = (*RESOLVER.ip(), 0);
            let failed = |what| move |source| InterceptionError::Failed { what, source };
            // In a namespace whose loopback has never been up the kernel takes 127.0.0.11 for a broadcast
            // address: it can be bound, but answers would leave from 127.0.0.1.
            let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|probe| probe.connect(RESOLVER));
            probe.map_err(failed("reach 127.0.0.11"))?;
            let udp = UdpSocket::bind(here).map_err(failed("open a UDP socket on 127.0.0.11"))?;
            widen(&udp);
            let tcp = TcpListener::bind(here).map_err(failed("listen for TCP on 127.0.0.11"))?;
            let ports = udp.local_addr().and_then(|u| Ok((u.port(), tcp.local_addr()?.port())));
            let (udp_port, tcp_port) = ports.map_err(failed("read a socket's port"))?;
            udp.set_nonblocking(true).map_err(failed("set up a UDP socket"))?;
            tcp.set_nonblocking(true).map_err(failed("set up a TCP socket"))?;
            Ok(Self { udp, tcp, rules: Rules::make(udp_port, tcp_port)? })
        });
        inside.map_err(|source| InterceptionError::Failed { what: "enter the sandbox", source })?
    }
}

impl Rules {
    fn make(udp: u16, tcp: u16) -> Result<Self, InterceptionError> {
        let failed = |errno: Errno| InterceptionError::Failed {
            what: "open a netlink socket",
            source: io::Error::from(errno),
        };
        let owner = transaction::open().map_err(|errno| match errno {
            Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => InterceptionError::Unsupported(errno),
            errno => failed(errno),
        })?;
        transaction::commit(&owner, owned_table(TABLE, rules(udp, tcp))).map_err(failed)?.map_err(refusal)?;
        Ok(Self(owner))
    }
}

fn refusal(errno: Errno) -> InterceptionError {
    match errno {
        Errno::EPERM | Errno::EEXIST => InterceptionError::Held(errno),
        // An unknown flag; no such family, table type or expression.
        Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT => InterceptionError::Unsupported(errno),
        errno => {
            InterceptionError::Failed { what: "add rules to the sandbox", source: io::Error::from(errno) }
        }
    }
}

/// To 127.0.0.11:53 → our ports, and the answers back; both untracked, since an answer that is tracked
/// would open a connection of its own.
fn rules(udp: u16, tcp: u16) -> Vec<Rule> {
    let there = |transport, port| {
        Rule::default()
            .address(Field::DestinationAddress, *RESOLVER.ip())
            .transport(transport)
            .port(Field::DestinationPort, RESOLVER.port())
            .not_marked(MARK)
            .untracked()
            .set_port(transport, Field::DestinationPort, port)
    };
    let back = |transport, port| {
        Rule::default()
            .address(Field::SourceAddress, *RESOLVER.ip())
            .transport(transport)
            .port(Field::SourcePort, port)
            .untracked()
            .set_port(transport, Field::SourcePort, RESOLVER.port())
    };
    let ways = [(Transport::Udp, udp), (Transport::Tcp, tcp)].into_iter();
    let ways = ways.flat_map(|(transport, port)| [there(transport, port), back(transport, port)]);
    // All that is for others, which is nearly everything, meets one rule and not four.
    std::iter::once(Rule::default().leaves().passed()).chain(ways).collect()
}

/// A UDP socket inside the sandbox to Docker's own resolver; does not block.
pub fn udp_to_docker(sandbox: &Namespace) -> io::Result<UdpSocket> {
    sandbox.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        mark(&socket)?;
        widen(&socket);
        socket.connect(RESOLVER)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?
}

/// A TCP socket inside the sandbox, to be connected to Docker's own resolver.
pub fn tcp_to_docker(sandbox: &Namespace) -> io::Result<TcpSocket> {
    sandbox.run(|| {
        let socket = TcpSocket::new_v4()?;
        mark(&socket)?;
        Ok(socket)
    })?
}

fn mark(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Mark, &MARK)?)
}

/// A smaller buffer only loses queries sooner under a burst, and their senders ask again.
fn widen(socket: &impl AsFd) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER) {
        tracing::debug!(%error, "a DNS socket keeps its small receive buffer");
    }
}
