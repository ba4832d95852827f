//! A stand-in for Docker's resolver: on random ports of 127.0.0.11, behind the rules that Docker makes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, rdata},
};
use nix::sys::socket::{setsockopt, sockopt};
use rs_overlay::dataplane::namespace::Namespace;

use crate::lab::Net;

/// Queries for `hold-*` are answered when this many have come.
pub(crate) const HELD: usize = 1000;

pub(crate) struct Resolver {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolver {
    /// Starts it and leads port 53 to it with `iptables`, which may be any of its variants. `address` is
    /// what it knows of `local`.
    pub(crate) fn start(net: &Net, iptables: &str, address: Ipv4Addr) -> Self {
        let inside = Namespace::open(&net.path()).unwrap();
        let (udp, tcp) = inside
            .run(|| {
                let here = (Ipv4Addr::new(127, 0, 0, 11), 0);
                (UdpSocket::bind(here).unwrap(), TcpListener::bind(here).unwrap())
            })
            .unwrap();
        setsockopt(&udp, sockopt::RcvBufForce, &(4 << 20)).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let ports = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
        translate(net, iptables, ports);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = vec![
            std::thread::spawn({
                let stop = stop.clone();
                move || serve_udp(&udp, address, &stop)
            }),
            std::thread::spawn({
                let stop = stop.clone();
                move || serve_tcp(&tcp, address, &stop)
            }),
        ];
        Self { stop, threads }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// As libnetwork does when its resolver starts: own chains, filled anew, jumped to from the heads.
fn translate(net: &Net, iptables: &str, (udp, tcp): (u16, u16)) {
    net.sh(&format!(
        "set -e; i='{iptables} --wait -t nat'
         for chain in OUTPUT POSTROUTING; do
           $i -N DOCKER_$chain 2>/dev/null || $i -F DOCKER_$chain
           $i -C $chain -d 127.0.0.11 -j DOCKER_$chain 2>/dev/null || $i -I $chain -d 127.0.0.11 -j DOCKER_$chain
         done
         for way in 'udp {udp}' 'tcp {tcp}'; do
           set -- $way
           $i -I DOCKER_OUTPUT -p $1 -d 127.0.0.11 --dport 53 -j DNAT --to-destination 127.0.0.11:$2
           $i -I DOCKER_POSTROUTING -p $1 -s 127.0.0.11 --sport $2 -j SNAT --to-source :53
         done"
    ));
}

/// What it answers: `local` exists, everything else does not, for a day. Rubbish is answered too, so that a
/// test can see that it came through.
pub(crate) fn answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let Ok(query) = Message::from_vec(query) else { return [query, b" is rubbish"].concat() };
    let mut answer = query.into_response();
    answer.metadata.recursion_available = true;
    let Some(name) = answer.queries.first().map(|question| question.name().clone()) else {
        return answer.to_vec().unwrap();
    };
    let first = name.iter().next().map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    if first == b"local" || first.starts_with(b"hold-") {
        answer.answers = vec![Record::from_rdata(name, 600, RData::A(address.into()))];
    } else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        let server = Name::from_str("a.root-servers.net.").unwrap();
        let soa = rdata::SOA::new(server.clone(), server, 1, 2, 3, 4, 86400);
        answer.authorities = vec![Record::from_rdata(Name::root(), 86400, RData::SOA(soa))];
    }
    answer.to_vec().unwrap()
}

fn serve_udp(socket: &UdpSocket, address: Ipv4Addr, stop: &AtomicBool) {
    let mut held: Vec<(Vec<u8>, SocketAddr)> = Vec::new();
    let mut buffer = vec![0; 65535];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let query = &buffer[..length];
        if query.windows(5).any(|window| window == b"hold-") {
            held.push((query.to_vec(), client));
            if held.len() == HELD {
                for (query, client) in held.drain(..) {
                    socket.send_to(&answer(&query, address), client).unwrap();
                }
            }
            continue;
        }
        socket.send_to(&answer(query, address), client).unwrap();
    }
}

fn serve_tcp(listener: &TcpListener, address: Ipv4Addr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => converse(client, address),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Two messages at most, so that a connection that is kept open finds itself closed.
fn converse(mut client: TcpStream, address: Ipv4Addr) {
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for _ in 0..2 {
        let mut length = [0; 2];
        if client.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut query).unwrap();
        let answer = answer(&query, address);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        client.write_all(&[&length, answer.as_slice()].concat()).unwrap();
    }
}
