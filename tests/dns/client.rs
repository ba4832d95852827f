//! A client in a sandbox.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use rs_overlay::dataplane::namespace::Namespace;

use crate::lab::Net;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it asks again over UDP: a machine that is busy may lose a datagram.
const ATTEMPTS: usize = 6;
pub(crate) const PORT: u16 = 53;

pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub(crate) fn udp_socket(net: &Net) -> UdpSocket {
    let namespace = Namespace::open(&net.path()).unwrap();
    let socket = namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The answer over UDP, from the address and port that were asked.
pub(crate) fn udp(net: &Net, port: u16, query: &[u8]) -> Vec<u8> {
    let socket = udp_socket(net);
    let server = SocketAddr::from(([127, 0, 0, 11], port));
    let mut buffer = vec![0; 65535];
    for _ in 0..ATTEMPTS {
        socket.send_to(query, server).unwrap();
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from, server);
            return buffer[..length].to_vec();
        }
    }
    panic!("no answer over UDP from {server}");
}

/// The answers over one TCP connection.
pub(crate) fn tcp(net: &Net, port: u16, queries: &[&[u8]]) -> Vec<Vec<u8>> {
    let namespace = Namespace::open(&net.path()).unwrap();
    let mut stream =
        namespace.run(|| TcpStream::connect((Ipv4Addr::new(127, 0, 0, 11), port)).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    let answers = queries.iter().map(|query| {
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, *query].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    answers.collect()
}

/// Asks for a name over UDP.
pub(crate) fn ask(net: &Net, name: &str, kind: RecordType) -> Message {
    let query = query(name, kind);
    let answer = Message::from_vec(&udp(net, PORT, &query.to_vec().unwrap())).unwrap();
    assert_eq!(answer.metadata.id, query.metadata.id);
    answer
}

/// The data of an answer's records, as text.
pub(crate) fn data(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

/// The addresses of a name over UDP.
pub(crate) fn addresses(net: &Net, name: &str) -> Vec<String> {
    data(&ask(net, name, RecordType::A))
}
