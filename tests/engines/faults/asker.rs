//! Questions for names as a container's programs ask them: a socket for each, and again after a second.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use netns_harness::Host;
use rs_overlay::dataplane::namespace::Namespace;

/// How long one try waits, and how many there are.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: usize = 5;

/// A container's view of the names.
pub(crate) struct Sandbox {
    namespace: Namespace,
}

impl Sandbox {
    pub(crate) fn of(host: &Host, container: &str) -> Self {
        Self { namespace: Namespace::open(&host.container_namespace(container).unwrap()).unwrap() }
    }

    /// The IPv4 addresses of a name, and how many tries that took; nobody has it: none.
    pub(crate) fn ask(&self, name: &str) -> io::Result<(BTreeSet<IpAddr>, usize)> {
        let mut last = io::Error::other("not asked");
        for tries in 1..=TRIES {
            match self.ask_once(name) {
                Ok(answer) => return Ok((answer, tries)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask_once(&self, name: &str) -> io::Result<BTreeSet<IpAddr>> {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let socket = self.namespace.run(|| UdpSocket::bind(("0.0.0.0", 0)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(SocketAddr::from(([127, 0, 0, 11], 53)))?;
        socket.send(&message.to_vec().unwrap())?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        let answer = Message::from_vec(&buffer[..length]).map_err(io::Error::other)?;
        let addresses = answer.answers.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            _ => None,
        });
        Ok(addresses.collect())
    }
}

/// Asks for one name all the time; what it is must never change.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    found: Arc<Mutex<Found>>,
}

/// What came of the questions so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) asked: usize,
    /// Questions that needed more than one try, as those do that are under way when the daemon ends.
    pub(crate) repeated: usize,
    pub(crate) slowest: Duration,
    pub(crate) wrong: Vec<String>,
}

impl Watch {
    pub(crate) fn start(sandbox: Sandbox, name: &str, address: IpAddr) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Found::default())));
        let thread = Some(thread::spawn({
            let (stop, found, name) = (Arc::clone(&stop), Arc::clone(&found), name.to_owned());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let answer = sandbox.ask(&name);
                    note(&mut found.lock().unwrap(), &name, address, answer, started.elapsed());
                    thread::sleep(Duration::from_millis(30));
                }
            }
        }));
        Self { stop, thread, found }
    }

    /// All so far.
    pub(crate) fn found(&self) -> Found {
        self.found.lock().unwrap().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note(
    found: &mut Found,
    name: &str,
    address: IpAddr,
    answer: io::Result<(BTreeSet<IpAddr>, usize)>,
    took: Duration,
) {
    found.asked += 1;
    found.slowest = found.slowest.max(took);
    match answer {
        Ok((addresses, tries)) => {
            found.repeated += usize::from(tries > 1);
            if addresses != BTreeSet::from([address]) {
                found.wrong.push(format!("{name} is {address}, and the answer was {addresses:?}"));
            }
        }
        Err(error) => found.wrong.push(format!("no answer to {name} in {TRIES} tries: {error}")),
    }
}
