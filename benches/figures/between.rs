//! Traffic between two network namespaces, by threads of this process: their sockets live in the namespaces, so
//! that nothing has to be started there and all clocks are one.

#![allow(dead_code, reason = "not everybody who measures needs all of it")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use rs_overlay::dataplane::namespace::Namespace;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Round trips that are not counted: caches, neighbours and the window fill.
const WARM_UP: usize = 300;

/// Which cores the two ends run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Both on the first one: the time of a round trip is then also what it costs.
    One,
    /// One each, where the machine has two.
    Two,
}

impl Cores {
    /// Core of the asking end, and of the answering one.
    pub(crate) fn numbers(self) -> (usize, usize) {
        match self {
            Self::One => (0, 0),
            Self::Two => (thread::available_parallelism().map_or(1, usize::from).min(2) - 1, 0),
        }
    }
}

/// Moves the calling thread to one core.
fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("cannot move to core {core}"))
}

/// Round trips of one byte over TCP, in microseconds, in the order in which they were made.
pub(crate) fn round_trips(
    from: &Namespace,
    to: (&Namespace, IpAddr),
    count: usize,
    cores: Cores,
) -> Result<Vec<f64>> {
    let (to, ip) = to;
    let listener = to.run(|| TcpListener::bind((ip, 0)))??;
    let address = listener.local_addr()?;
    let asking = from.run(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    let mut asking = asking.with_context(|| format!("nobody answers at {address}"))?;
    let (mut answering, _) = listener.accept()?;
    for end in [&asking, &answering] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
    }
    let (own, other) = cores.numbers();
    thread::scope(|scope| {
        let answers = scope.spawn(move || -> Result<()> {
            pin(other)?;
            let mut byte = [0];
            while answering.read(&mut byte)? == 1 {
                answering.write_all(&byte)?;
            }
            Ok(())
        });
        let asks = scope.spawn(move || -> Result<Vec<f64>> {
            pin(own)?;
            let mut byte = [1];
            let mut times = Vec::with_capacity(count);
            for number in 0..count + WARM_UP {
                let begun = Instant::now();
                asking.write_all(&byte)?;
                asking.read_exact(&mut byte)?;
                if number >= WARM_UP {
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
            }
            Ok(times)
        });
        let times = asks.join().map_err(|_| anyhow!("the thread that asks died"))?;
        answers.join().map_err(|_| anyhow!("the thread that answers died"))??;
        times.context("a round trip was not completed")
    })
}

/// Sends UDP packets of `size` bytes as fast as one thread can for `during`; answers how many arrived a second.
pub(crate) fn flood(
    from: &Namespace,
    to: (&Namespace, IpAddr),
    size: usize,
    during: Duration,
) -> Result<f64> {
    let (to, ip) = to;
    let receiving = to.run(|| UdpSocket::bind((ip, 0)))??;
    let address = receiving.local_addr()?;
    let any: SocketAddr = if ip.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let sending = from.run(|| UdpSocket::bind(any))??;
    sending.connect(address)?;
    receiving.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (own, other) = Cores::Two.numbers();
    let done = AtomicBool::new(false);
    let count = thread::scope(|scope| {
        let receives = scope.spawn(|| -> Result<u64> {
            pin(other)?;
            let mut buffer = [0; 2048];
            let mut count = 0;
            loop {
                match receiving.recv(&mut buffer) {
                    Ok(_) => count += 1,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        if done.load(Ordering::Relaxed) {
                            return Ok(count);
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        });
        let sends = scope.spawn(|| -> Result<()> {
            let packet = vec![0; size];
            let sent = pin(own).map(|()| {
                let begun = Instant::now();
                while begun.elapsed() < during {
                    for _ in 0..64 {
                        // A full queue loses the packet here and not later: what arrives is what counts.
                        let _ = sending.send(&packet);
                    }
                }
            });
            done.store(true, Ordering::Relaxed);
            sent
        });
        sends.join().map_err(|_| anyhow!("the thread that sends died"))??;
        receives.join().map_err(|_| anyhow!("the thread that receives died"))?
    })?;
    ensure!(count > 0, "no UDP packet of {size} bytes arrived at {address}");
    #[allow(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let rate = count as f64 / during.as_secs_f64();
    Ok(rate)
}
