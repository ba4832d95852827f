//! What the underlay carries, and what becomes of running containers when that changes.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_harness::{Host, Lab, wait_until};

use crate::{
    cli, inside,
    kit::{SOON, create, logs, remove, run, says, vanishes},
};

fn mtu_of(host: &Host, container: &str) -> Result<String> {
    host.in_container(container, &["cat", "/sys/class/net/eth0/mtu"])
}

/// A packet of this size that may not be cut in pieces.
fn whole(host: &Host, container: &str, ip: IpAddr, size: u32) -> Result<String> {
    let payload = (size - 28).to_string();
    host.container_netns(
        container,
        &["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", &payload, &ip.to_string()],
    )
}

/// Bytes of which each says where in the stream it is, over one TCP connection.
struct Stream {
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: [thread::JoinHandle<()>; 2],
}

/// A prime, so that no block looks like another one.
const PATTERN: u64 = 251;

impl Stream {
    fn between(from: (&Host, &str), to: (&Host, &str), ip: IpAddr) -> Self {
        let listener = inside(to.0, to.1, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 6000)).unwrap());
        let mut sender = inside(from.0, from.1, || TcpStream::connect((ip, 6000)).unwrap());
        let (mut receiver, _) = listener.accept().unwrap();
        sender.set_write_timeout(Some(SOON)).unwrap();
        receiver.set_read_timeout(Some(SOON)).unwrap();
        let (arrived, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, halt) = (Arc::clone(&arrived), Arc::clone(&stop));
        let sending = thread::spawn(move || {
            let mut sent = 0;
            while !halt.load(Ordering::Relaxed) {
                let block: Vec<u8> = (sent..sent + 65536).map(|at| (at % PATTERN).to_le_bytes()[0]).collect();
                sender.write_all(&block).unwrap();
                sent += 65536;
                thread::sleep(Duration::from_millis(4));
            }
        });
        let receiving = thread::spawn(move || {
            let (mut buffer, mut at) = (vec![0; 65536], 0_u64);
            loop {
                let length = receiver.read(&mut buffer).unwrap();
                if length == 0 {
                    return;
                }
                for byte in &buffer[..length] {
                    assert_eq!(*byte, (at % PATTERN).to_le_bytes()[0], "byte {at}");
                    at += 1;
                }
                count.store(at, Ordering::Relaxed);
            }
        });
        Self { arrived, stop, threads: [sending, receiving] }
    }

    /// Waits until some more megabytes have arrived.
    fn goes_on(&self) {
        let before = self.arrived.load(Ordering::Relaxed);
        let more = || self.arrived.load(Ordering::Relaxed) > before + 5_000_000;
        wait_until("more bytes of the connection", SOON, more).unwrap();
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Waits until both containers have this MTU, and packets of just that size arrive both ways.
fn carries(lab: &Lab, mtu: u32) {
    let (one, two) = (lab.host(1), lab.host(2));
    let ends =
        [(one, "m1", two.address("m2", "sizes").unwrap()), (two, "m2", one.address("m1", "sizes").unwrap())];
    let started = Instant::now();
    for (host, name, ip) in ends {
        let at = format!("packets of {mtu} bytes from {name}");
        let carried = wait_until(&at, SOON, || -> Result<bool> {
            let own = mtu_of(host, name)?;
            ensure!(own == mtu.to_string(), "its link has MTU {own}");
            whole(host, name, ip, mtu)?;
            Ok(true)
        });
        carried.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        assert!(whole(host, name, ip, mtu + 1).is_err(), "a packet of {} bytes", mtu + 1);
    }
    eprintln!("both containers have MTU {mtu} after {:.1?}", started.elapsed());
}

pub(crate) fn change(lab: &Lab) {
    let (one, two) = (lab.host(1), lab.host(2));
    create(lab, 1, "sizes", &["--subnet", "10.73.0.0/24"]);
    run(one, "m1", "sizes", &[]);
    run(two, "m2", "sizes", &[]);
    carries(lab, 8950);

    // One host gets narrow under a connection, which goes on.
    let stream = Stream::between((one, "m1"), (two, "m2"), two.address("m2", "sizes").unwrap());
    stream.goes_on();
    two.set_mtu(1400).unwrap();
    carries(lab, 1350);
    stream.goes_on();
    stream.end();
    says(&cli(one, &["network", "inspect", "sizes"]).unwrap(), &["1350 (", "host2", "1400 bytes", "9000"]);
    says(&cli(two, &["status"]).unwrap(), &["packets of 1400 bytes", "with 9000 bytes until"]);
    says(
        &two.daemon_log(),
        &["the underlay carries packets of another size now", "MTU is lowered on all hosts"],
    );
    // Whoever starts now begins with it.
    run(two, "m3", "sizes", &[]);
    assert_eq!(mtu_of(two, "m3").unwrap(), "1350");
    two.set_mtu(1500).unwrap();
    carries(lab, 1450);

    // By the route, and not by the interface.
    let peer = format!("{}/32", two.vtep());
    one.exec(&["ip", "route", "add", &peer, "dev", "eth1", "mtu", "1380"]).unwrap();
    carries(lab, 1330);
    one.exec(&["ip", "route", "del", &peer]).unwrap();
    two.set_mtu(9000).unwrap();
    carries(lab, 8950);
    let verified = wait_until("no difference", SOON, || {
        cli(one, &["verify"]).map(|said| said.contains("no difference"))
    });
    verified.unwrap();
    remove(one, &["m1"]);
    remove(two, &["m2", "m3"]);
    one.docker(&["network", "rm", "sizes"]).unwrap();
    vanishes(lab, "sizes");
}
