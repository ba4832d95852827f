//! The way to Docker's resolver.
//!
//! A few sockets carry all queries of a sandbox, each under an id of its own. Each socket is a connection
//! to the kernel's address translation, which remembers the port that Docker's resolver had: a socket
//! that is refused or gets no answer is thrown away.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpStream, UdpSocket},
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::dataplane::{
    interception::{RESOLVER, tcp_to_docker, udp_to_docker},
    namespace::Namespace,
};

/// Queries under way, as many as Docker's resolver takes.
pub(super) const AT_ONCE: usize = 1024;
/// Docker's resolver asks up to three servers, each for 4 s.
pub(super) const DEADLINE: Duration = Duration::from_secs(13);
/// Sockets to share them.
const SOCKETS: usize = 4;
/// The longest message there is.
pub(super) const LONGEST: usize = 65535;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// Too many queries are under way.
    #[error("{AT_ONCE} queries are waiting for Docker's resolver already")]
    Busy,
    /// Docker's resolver is not there.
    #[error("cannot reach Docker's resolver: {0}")]
    Unreachable(#[from] io::Error),
    /// It did not answer.
    #[error("Docker's resolver did not answer in {} s", DEADLINE.as_secs())]
    Silent,
}

/// Docker's resolver in one sandbox.
#[derive(Debug)]
pub(super) struct Upstream {
    namespace: Arc<Namespace>,
    permits: Semaphore,
    sockets: [Mutex<Option<Arc<Shared>>>; SOCKETS],
    turn: AtomicUsize,
}

impl Upstream {
    pub(super) fn new(namespace: Arc<Namespace>) -> Self {
        let sockets = std::array::from_fn(|_| Mutex::default());
        Self { namespace, permits: Semaphore::new(AT_ONCE), sockets, turn: AtomicUsize::new(0) }
    }

    /// Leave to have one more query under way.
    pub(super) fn permit(&self) -> Result<SemaphorePermit<'_>, Unanswered> {
        self.permits.try_acquire().map_err(|_| Unanswered::Busy)
    }

    /// Passes a query on over UDP and answers what comes back, unchanged.
    pub(super) async fn ask(&self, query: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let _permit = self.permit()?;
        let place = self.turn.fetch_add(1, Ordering::Relaxed) % SOCKETS;
        let mut refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        // A refusal may be about the port that Docker's resolver had before.
        for _ in 0..2 {
            let shared = self.socket(place)?;
            match timeout(DEADLINE, shared.ask(query)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => refused = error,
                Err(_) => {
                    self.discard(place, &shared);
                    return Err(Unanswered::Silent);
                }
            }
            self.discard(place, &shared);
        }
        Err(Unanswered::Unreachable(refused))
    }

    /// A connection for queries over TCP.
    pub(super) async fn connect(&self) -> Result<TcpStream, Unanswered> {
        let socket = tcp_to_docker(&self.namespace)?;
        let connected = timeout(DEADLINE, socket.connect(RESOLVER.into()));
        let stream = connected.await.map_err(|_| Unanswered::Silent)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn socket(&self, place: usize) -> io::Result<Arc<Shared>> {
        let mut slot = self.slot(place);
        if let Some(shared) = slot.as_ref().filter(|shared| !shared.is_closed()) {
            return Ok(shared.clone());
        }
        let shared = Arc::new(Shared::open(&self.namespace)?);
        *slot = Some(shared.clone());
        Ok(shared)
    }

    fn discard(&self, place: usize, shared: &Arc<Shared>) {
        let mut slot = self.slot(place);
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, shared)) {
            *slot = None;
        }
    }

    fn slot(&self, place: usize) -> std::sync::MutexGuard<'_, Option<Arc<Shared>>> {
        self.sockets[place % SOCKETS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for which id; `None` once the socket has failed.
type Waiting = Mutex<Option<HashMap<u16, oneshot::Sender<Vec<u8>>>>>;

/// A socket that many queries share.
#[derive(Debug)]
struct Shared {
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    _reader: AbortOnDropHandle<()>,
}

impl Shared {
    fn open(namespace: &Namespace) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(udp_to_docker(namespace)?)?);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader = AbortOnDropHandle::new(tokio::spawn(read(socket.clone(), waiting.clone())));
        Ok(Self { socket, waiting, _reader: reader })
    }

    fn is_closed(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn ask(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut query = query.to_vec();
        let (ticket, answer) = Ticket::draw(&self.waiting).ok_or_else(refused)?;
        let Some(id) = query.first_chunk_mut::<2>() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a query has at least an id"));
        };
        let before = std::mem::replace(id, ticket.id.to_be_bytes());
        self.socket.send(&query).await?;
        let mut answer = answer.await.map_err(|_| refused())?;
        if let Some(id) = answer.first_chunk_mut::<2>() {
            *id = before;
        }
        Ok(answer)
    }
}

/// A place in the list of those who wait; given back however the waiting ends.
struct Ticket<'a> {
    waiting: &'a Waiting,
    id: u16,
}

impl<'a> Ticket<'a> {
    fn draw(waiting: &'a Waiting) -> Option<(Self, oneshot::Receiver<Vec<u8>>)> {
        let (sender, receiver) = oneshot::channel();
        let mut list = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let list = list.as_mut()?;
        // At most AT_ONCE of 65,536 are taken: the first draw nearly always fits.
        let id = std::iter::repeat_with(rand::random::<u16>).find(|id| !list.contains_key(id))?;
        list.insert(id, sender);
        Some((Self { waiting, id }, receiver))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(list) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            list.remove(&self.id);
        }
    }
}

/// Hands answers out until the socket fails; those who still wait then are told.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = Vec::with_capacity(LONGEST);
    while socket.recv_buf(&mut buffer).await.is_ok() {
        let id = buffer.first_chunk::<2>().map(|id| u16::from_be_bytes(*id));
        let mut list = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = id.and_then(|id| list.as_mut()?.remove(&id));
        drop(list);
        // Who no longer waits has asked again, or given up.
        let _ = sender.map(|sender| sender.send(buffer.clone()));
        buffer.clear();
    }
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
