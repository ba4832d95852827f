//! Asks for a container from another one, tightly: its resolver for the name, and the address for an answer.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use netns_harness::{Host, interrupt};
use serde_json::Value;

use crate::stage::End;

/// How often it is asked.
const ASK: Duration = Duration::from_millis(1);
/// How often it is looked for an answer.
const LOOK: Duration = Duration::from_micros(100);
/// Longest wait for a resolver before it is asked again.
const RESOLVER: Duration = Duration::from_millis(20);
/// Longest wait for everything, a start included.
const PATIENCE: Duration = Duration::from_mins(1);
/// A UDP port where nobody listens: the container's kernel answers that, which is the answer that is waited for.
const NOBODY: u16 = 9;
/// Docker's resolver in every container (`resolvconf` of libnetwork).
const RESOLVER_AT: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);

/// Somebody in a container.
pub(super) struct Asker<'a>(End<'a>);

/// After what time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The address answers.
    pub(super) address: Duration,
    /// The resolver knows the name.
    pub(super) resolved: Duration,
    /// What the resolver has told answers.
    pub(super) name: Duration,
}

impl<'a> Asker<'a> {
    /// Whoever asks for an address that is not there yet asks again after a second; here that is a hundredth,
    /// so that it is seen when it begins to answer.
    pub(super) fn new(end: End<'a>) -> Result<Self> {
        end.namespace.run(|| fs::write("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "10"))??;
        Ok(Self(end))
    }

    /// Runs `start`, which starts container `name` on `host`, and asks for it from its return on.
    pub(super) fn watch(
        &self,
        host: &Host,
        name: &str,
        start: impl FnOnce() -> Result<Duration>,
    ) -> Result<Seen> {
        // The address may be that of one which has just ended.
        self.0.host.exec(&[
            "nsenter",
            &format!("--net={}", self.0.inside),
            "ip",
            "neigh",
            "flush",
            "dev",
            "eth0",
        ])?;
        let open = || self.0.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let sockets = [open()??, open()??, open()??];
        let (failed, address) = (AtomicBool::new(false), OnceLock::new());
        let watch = Watch(&failed);
        let [to_address, to_resolver, to_found] = &sockets;
        thread::scope(|scope| {
            let address = &address;
            scope.spawn(move || learn(host, name, address, watch));
            if let Err(error) = start() {
                failed.store(true, Ordering::SeqCst);
                return Err(error);
            }
            let begun = Instant::now();
            let answers = scope.spawn(move || -> Result<Duration> {
                let known = watch.until(|| Ok(address.get().copied()))?;
                answered(to_address, known, watch)?;
                Ok(begun.elapsed())
            });
            let asks = scope.spawn(move || -> Result<(Duration, Duration)> {
                let ip = resolved(to_resolver, name, watch)?;
                let known = begun.elapsed();
                answered(to_found, ip, watch)?;
                Ok((known, begun.elapsed()))
            });
            let died = |_| anyhow!("a thread that asks died");
            let address = answers.join().map_err(died)?.context("by address");
            let (resolved, name) = asks.join().map_err(died)?.context("by name")?;
            Ok(Seen { address: address?, resolved, name })
        })
    }
}

/// When those who ask give up.
#[derive(Clone, Copy)]
struct Watch<'a>(&'a AtomicBool);

impl Watch<'_> {
    fn until<T>(self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            ensure!(!self.0.load(Ordering::SeqCst), "the container does not start");
            ensure!(begun.elapsed() < PATIENCE, "nothing within {PATIENCE:?}");
            ensure!(!interrupt::interrupted(), "interrupted");
            thread::sleep(LOOK);
        }
    }
}

/// The engine tells the address when the container has started, about when `docker run` returns: it holds the
/// container's lock until then.
fn learn(host: &Host, name: &str, address: &OnceLock<IpAddr>, watch: Watch<'_>) {
    let ask = || -> Option<IpAddr> {
        let json: Value =
            serde_json::from_str(&host.engine_get(&format!("/containers/{name}/json")).ok()?).ok()?;
        let networks = json["NetworkSettings"]["Networks"].as_object()?;
        networks.values().find_map(|network| network["IPAddress"].as_str()?.parse().ok())
    };
    // Whoever waits for it notices a failure.
    let _ = watch.until(|| {
        let found = ask();
        if found.is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(found.map(|found| address.set(found)))
    });
}

/// Returns when the kernel behind this address answers.
fn answered(socket: &UdpSocket, ip: IpAddr, watch: Watch<'_>) -> Result<()> {
    socket.connect((ip, NOBODY))?;
    socket.set_nonblocking(true)?;
    let mut asked: Option<Instant> = None;
    watch.until(|| {
        if asked.is_none_or(|at| at.elapsed() >= ASK) {
            asked = Some(Instant::now());
            if socket.send(b"?").is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                return Ok(Some(()));
            }
        }
        // Refused is what the container itself says; unreachable is what the way there says.
        let said = socket.recv(&mut [0; 16]);
        Ok(said.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(()))
    })
}

/// The address that the resolver gives for a name, once it does.
fn resolved(socket: &UdpSocket, name: &str, watch: Watch<'_>) -> Result<IpAddr> {
    socket.connect(RESOLVER_AT)?;
    socket.set_nonblocking(true)?;
    let name = Name::from_ascii(format!("{name}."))?;
    let (mut asked, mut number, mut waits): (Option<Instant>, u16, bool) = (None, 0, false);
    let mut buffer = [0; 1500];
    watch.until(|| {
        let pause = if waits { RESOLVER } else { ASK };
        if asked.is_none_or(|at| at.elapsed() >= pause) {
            (asked, number, waits) = (Some(Instant::now()), number.wrapping_add(1), true);
            let mut question = Message::new(number, MessageType::Query, OpCode::Query);
            question.metadata.recursion_desired = true;
            question.add_query(Query::query(name.clone(), RecordType::A));
            // A resolver that is just being set up refuses.
            let _ = socket.send(&question.to_vec()?);
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                waits = false;
                let answer = Message::from_vec(&buffer[..length])?;
                Ok(answer.answers.iter().find_map(|record| match &record.data {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    _ => None,
                }))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => bail!("the resolver cannot be asked: {error}"),
        }
    })
}
