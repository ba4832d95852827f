//! A client that asks as fast as it is answered.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Where containers ask.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Questions under way at once.
const WINDOW: u16 = 32;
/// A question that is not answered for so long is lost.
const LOST: Duration = Duration::from_millis(500);

/// What became of the questions of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) answers: u64,
    pub(crate) took: Duration,
}

impl Run {
    pub(crate) fn rate(self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }
}

/// A question for the IPv4 addresses of `name`, without its id.
pub(crate) fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn with_id(question: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// The id of an answer with at least one record.
fn id_of(answer: &[u8]) -> Result<u16> {
    ensure!(answer.len() > 12 && answer[3] & 15 == 0 && answer[7] > 0, "an answer that says nothing");
    Ok(u16::from_be_bytes([answer[0], answer[1]]))
}

fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((RESOLVER, 53))?;
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket)
}

/// Asks over UDP for `time`, the questions in turn.
pub(crate) fn udp(questions: &[Vec<u8>], time: Duration) -> Result<Run> {
    let socket = socket()?;
    let mut next = questions.iter().cycle();
    let mut ask = |id: u16| -> Result<()> {
        let question = next.next().context("nothing to ask")?;
        socket.send(&with_id(question, id))?;
        Ok(())
    };
    (0..WINDOW).try_for_each(&mut ask)?;
    let (mut answers, began) = (0, Instant::now());
    let (mut buffer, mut lost) = ([0; 1500], 0);
    while began.elapsed() < time {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let id = id_of(&buffer[..length])?;
                answers += 1;
                ask(id)?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                lost += 1;
                ensure!(lost < 5, "the resolver does not answer");
                (0..WINDOW).try_for_each(&mut ask)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Run { answers, took: began.elapsed() })
}

/// Asks over one TCP connection for `time`, several questions at once.
pub(crate) fn tcp(questions: &[Vec<u8>], time: Duration) -> Result<Run> {
    let mut stream = TcpStream::connect(SocketAddr::from((RESOLVER, 53)))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(10 * LOST))?;
    let mut next = questions.iter().cycle();
    let mut ask = |stream: &mut TcpStream, id: u16| -> Result<()> {
        let question = next.next().context("nothing to ask")?;
        let length = u16::try_from(question.len())?.to_be_bytes();
        stream.write_all(&[&length[..], &with_id(question, id)].concat())?;
        Ok(())
    };
    for id in 0..WINDOW {
        ask(&mut stream, id)?;
    }
    let (mut answers, began) = (0, Instant::now());
    let mut reader = std::io::BufReader::new(stream.try_clone()?);
    let mut answer = Vec::new();
    while began.elapsed() < time {
        let mut length = [0; 2];
        reader.read_exact(&mut length)?;
        answer.resize(usize::from(u16::from_be_bytes(length)), 0);
        reader.read_exact(&mut answer)?;
        answers += 1;
        ask(&mut stream, id_of(&answer)?)?;
    }
    Ok(Run { answers, took: began.elapsed() })
}

/// Asks over UDP, one question after the other: microseconds of each, in ascending order.
pub(crate) fn latencies(questions: &[Vec<u8>], count: usize) -> Result<Vec<f64>> {
    let socket = socket()?;
    let mut buffer = [0; 1500];
    let mut all = Vec::with_capacity(count);
    for (id, question) in (0..=u16::MAX).cycle().zip(questions.iter().cycle()).take(count) {
        let began = Instant::now();
        socket.send(&with_id(question, id))?;
        let length = socket.recv(&mut buffer).context("a question was lost")?;
        all.push(1e6 * began.elapsed().as_secs_f64());
        if id_of(&buffer[..length])? != id {
            bail!("an answer to another question");
        }
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// Waits until the resolver knows a name.
pub(crate) fn await_name(question: &[u8], patience: Duration) -> Result<()> {
    let (socket, end) = (socket()?, Instant::now() + patience);
    let mut buffer = [0; 1500];
    loop {
        socket.send(question)?;
        if let Ok(length) = socket.recv(&mut buffer)
            && id_of(&buffer[..length]).is_ok()
        {
            return Ok(());
        }
        ensure!(Instant::now() < end, "a name does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
