//! A TCP connection between two containers that carries numbered bytes and checks every one.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netns_harness::Host;
use rs_overlay::dataplane::namespace::Namespace;

use super::chance::Chance;

const PORT: u16 = 7000;
/// What is sent at once, and how often: 1.6 MB/s.
const PIECE: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(10);
/// What both ends make their bytes from.
const SEED: u64 = 7;

/// The connection and the two threads that use it.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<std::io::Result<Sum>>,
    receiver: JoinHandle<std::io::Result<Sum>>,
    progress: Arc<Mutex<Progress>>,
}

/// Bytes, and a checksum over all of them (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    check: u64,
}

struct Progress {
    last: Instant,
    longest: Duration,
}

impl Stream {
    pub(crate) fn start(from: (&Host, &str), to: (&Host, &str), ip: IpAddr) -> Self {
        let server = SocketAddr::new(ip, PORT);
        let inside =
            |(host, name): (&Host, &str)| Namespace::open(&host.container_namespace(name).unwrap()).unwrap();
        let listener = inside(to).run(|| TcpListener::bind(server)).unwrap().unwrap();
        let outgoing = inside(from)
            .run(|| TcpStream::connect_timeout(&server, Duration::from_mins(1)))
            .unwrap()
            .unwrap();
        let (incoming, _) = listener.accept().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new(Progress { last: Instant::now(), longest: Duration::ZERO }));
        let sender = thread::spawn({
            let stop = Arc::clone(&stop);
            move || send(outgoing, &stop)
        });
        let receiver = thread::spawn({
            let progress = Arc::clone(&progress);
            move || receive(incoming, &progress)
        });
        Self { stop, sender, receiver, progress }
    }

    /// The longest time in which nothing arrived, since the last call.
    pub(crate) fn longest_pause(&self) -> Duration {
        let mut progress = self.progress.lock().unwrap();
        let longest = progress.longest.max(progress.last.elapsed());
        progress.longest = Duration::ZERO;
        longest
    }

    /// Ends the connection; all that was sent must have arrived.
    pub(crate) fn finish(self) -> Sum {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, received) = (self.sender.join().unwrap(), self.receiver.join().unwrap());
        let (sent, received) = (sent.unwrap(), received.unwrap());
        assert_eq!(sent, received, "what was sent and what arrived");
        sent
    }
}

struct Bytes {
    chance: Chance,
    sum: Sum,
}

impl Bytes {
    fn new() -> Self {
        Self { chance: Chance::new(SEED), sum: Sum { bytes: 0, check: 0xcbf2_9ce4_8422_2325 } }
    }

    fn piece(&mut self) -> Vec<u8> {
        (0..PIECE / 8).flat_map(|_| self.chance.next().to_be_bytes()).collect()
    }

    fn add(&mut self, bytes: &[u8]) {
        self.sum.bytes += bytes.len() as u64;
        for byte in bytes {
            self.sum.check = (self.sum.check ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> std::io::Result<Sum> {
    let mut bytes = Bytes::new();
    while !stop.load(Ordering::Relaxed) {
        let piece = bytes.piece();
        stream.write_all(&piece)?;
        bytes.add(&piece);
        thread::sleep(PAUSE);
    }
    Ok(bytes.sum)
}

fn receive(mut stream: TcpStream, progress: &Mutex<Progress>) -> std::io::Result<Sum> {
    let mut bytes = Bytes::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(bytes.sum);
        }
        bytes.add(&buffer[..length]);
        let mut progress = progress.lock().unwrap();
        progress.longest = progress.longest.max(progress.last.elapsed());
        progress.last = Instant::now();
    }
}
