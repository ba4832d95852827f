//! Requests to the kernel over route netlink, from inside one network namespace.
//!
//! There is one writer, so one request is under way at a time: the connection is taken out while it is
//! used and put back only after a complete answer. A request that ends early for any reason (deadline,
//! overrun, a dropped future) thereby drops the connection, and the next request opens a new one.

use std::{io, sync::Arc, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::{io::unix::AsyncFd, sync::Mutex, time::timeout};

use super::error::Failure;
use crate::dataplane::{namespace::Namespace, raw::register};

/// How long the kernel may take for one request or one part of a dump.
const DEADLINE: Duration = Duration::from_secs(5);
/// Messages in one datagram: more are slower for new FDB entries, and the answers of a few hundred that
/// fail no longer fit into the receive buffer.
const BATCH: usize = 64;
/// The kernel fills parts of a dump up to 32 KiB.
const RECEIVE: usize = 64 * 1024;
/// Bytes of answers that may wait.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// A message to the kernel with its own flags, such as `NLM_F_CREATE`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

impl Request {
    pub(crate) fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { message, flags }
    }
}

/// The way to the kernel of one namespace.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(super) namespace: Arc<Namespace>,
    pub(super) connection: Mutex<Option<Connection>>,
}

impl Channel {
    pub(crate) fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, connection: Mutex::new(None) }
    }

    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Changes one thing.
    pub(crate) async fn call(&self, request: Request) -> Result<(), Failure> {
        self.batch(vec![request]).await.pop().unwrap_or(Err(Failure::Silent))
    }

    /// Changes many things, in order, [`BATCH`] in one datagram, and answers one result for each. A
    /// request that fails does not stop those behind it.
    pub(crate) async fn batch(&self, requests: Vec<Request>) -> Vec<Result<(), Failure>> {
        let mut results = Vec::with_capacity(requests.len());
        let mut slot = self.connection.lock().await;
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let part: Vec<_> = requests.by_ref().take(BATCH).collect();
            let length = part.len();
            match with_connection(&mut slot, &self.namespace, async |connection| connection.batch(part).await)
                .await
            {
                Ok(part) => results.extend(part),
                Err(failure) => results.extend(std::iter::repeat_n(Err(failure), length)),
            }
        }
        results
    }

    /// Reads one thing.
    pub(crate) async fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Failure> {
        let mut slot = self.connection.lock().await;
        with_connection(&mut slot, &self.namespace, async |connection| connection.get(message).await).await?
    }
}

/// Outer failure: the connection is lost. What the kernel refused is inside of `T`.
pub(super) async fn with_connection<T>(
    slot: &mut Option<Connection>,
    namespace: &Namespace,
    work: impl AsyncFnOnce(&mut Connection) -> io::Result<T>,
) -> Result<T, Failure> {
    let mut connection = match slot.take() {
        Some(connection) => connection,
        None => Connection::open(namespace).map_err(|error| Failure::from_io(&error))?,
    };
    let answer = work(&mut connection).await.map_err(|error| Failure::from_io(&error))?;
    *slot = Some(connection);
    Ok(answer)
}

/// A route netlink socket inside `namespace`, not blocking, with extended acknowledgements.
pub(crate) fn open_socket(namespace: &Namespace, groups: &'static [u32]) -> io::Result<AsyncFd<Socket>> {
    let socket = namespace.run(|| {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok::<_, io::Error>(socket)
    })??;
    socket.set_non_blocking(true)?;
    socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    socket.set_netlink_get_strict_chk(true)?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    register(socket)
}

/// Waits for the next datagram; `buffer` then holds it.
pub(crate) async fn receive(socket: &AsyncFd<Socket>, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut ready = socket.readable().await?;
        buffer.clear();
        buffer.reserve(RECEIVE);
        if let Ok(received) = ready.try_io(|socket| socket.get_ref().recv_from(buffer, 0)) {
            return received.map(|_| ());
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<Socket>,
    /// Of the last request.
    pub(super) sequence: u32,
    /// The last datagram.
    pub(super) buffer: Vec<u8>,
}

impl Connection {
    fn open(namespace: &Namespace) -> io::Result<Self> {
        Ok(Self { socket: open_socket(namespace, &[])?, sequence: 0, buffer: Vec::new() })
    }

    async fn batch(&mut self, requests: Vec<Request>) -> io::Result<Vec<Result<(), Failure>>> {
        let count = requests.len();
        let mut results = vec![Ok(()); count];
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for (place, Request { message, flags }) in requests.into_iter().enumerate() {
            // Refusals are always told; that all is done, only the last one needs to say.
            let ack = if place + 1 == count { NLM_F_ACK } else { 0 };
            self.write(message, flags | ack, &mut datagram);
        }
        self.send(&datagram).await?;
        loop {
            for (header, payload) in self.messages().await? {
                let place = header.sequence_number.wrapping_sub(first) as usize;
                if let (Some(result), NetlinkPayload::Error(error)) = (results.get_mut(place), payload) {
                    if error.code.is_some() {
                        *result = Err(Failure::from_message(&error));
                    }
                    if place + 1 == count {
                        return Ok(results);
                    }
                }
            }
        }
    }

    async fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> io::Result<Result<Option<RouteNetlinkMessage>, Failure>> {
        let mut datagram = Vec::new();
        self.write(message, NLM_F_ACK, &mut datagram);
        self.send(&datagram).await?;
        let mut found = None;
        loop {
            for (header, payload) in self.messages().await? {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => found = Some(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Ok(Err(Failure::from_message(&error)));
                    }
                    NetlinkPayload::Error(_) => return Ok(Ok(found)),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn write(&mut self, message: RouteNetlinkMessage, flags: u16, datagram: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut datagram[start..]);
    }

    pub(super) async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        let sending = async {
            loop {
                let mut ready = self.socket.writable().await?;
                if let Ok(sent) = ready.try_io(|socket| socket.get_ref().send_to(datagram, &kernel, 0)) {
                    return sent.map(|_| ());
                }
            }
        };
        timeout(DEADLINE, sending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn messages(&mut self) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)>> {
        self.receive().await?;
        Ok(messages(&self.buffer))
    }

    pub(super) async fn receive(&mut self) -> io::Result<()> {
        let received = timeout(DEADLINE, receive(&self.socket, &mut self.buffer));
        received.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// The messages of a datagram. One that this release cannot read, from a newer kernel, is passed over.
pub(crate) fn messages(datagram: &[u8]) -> Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)> {
    let parsed = frames(datagram).map(|frame| NetlinkMessage::deserialize(frame.into_inner()));
    let understood = parsed.filter_map(|message| {
        message.inspect_err(|error| tracing::debug!(%error, "netlink message not understood")).ok()
    });
    understood.map(NetlinkMessage::into_parts).collect()
}

/// The messages of a datagram, of which only the headers are read; up to one that is not whole.
pub(super) fn frames(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(rest).ok()?.length() as usize;
        let (frame, behind) = rest.split_at_checked(length)?;
        // The next one begins at a multiple of four.
        rest = behind.get(length.next_multiple_of(4) - length..).unwrap_or_default();
        Some(NetlinkBuffer::new(frame))
    })
}
