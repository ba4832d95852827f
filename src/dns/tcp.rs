//! Queries over TCP (RFC 7766): each message behind its length.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::{
    answer::{Decision, Way, decide, failure},
    interceptor::Names,
    lifetimes::shorten,
    upstream::{DEADLINE, LONGEST, Unanswered, Upstream},
};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a connection may rest, and a client may take to read or write one message.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be accepted: descriptors are short.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Accepts until it is dropped, or until somebody else has closed the listener (`SOCK_DESTROY`, as `ss -K`
/// does).
pub(super) async fn serve(listener: TcpListener, names: Names, upstream: Arc<Upstream>) {
    let mut connections = JoinSet::new();
    loop {
        // Both arms are cancel safe.
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((client, _)) => {
                let (names, upstream) = (names.clone(), upstream.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(client, &names, &upstream).await {
                        debug!(%error, "a DNS connection ended early");
                    }
                });
            }
            // A listener that was closed from outside listens no more.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                debug!(%error, "a DNS connection cannot be accepted");
                tokio::time::sleep(SHORTAGE).await;
            }
        }
    }
}

async fn connection(mut client: TcpStream, names: &Names, upstream: &Upstream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut docker: Option<TcpStream> = None;
    while let Some(query) = within(IDLE, read(&mut client)).await? {
        let answer = match decide(&query, names, Way::Tcp, rand::random()) {
            Decision::Reply(answer) => answer,
            Decision::Forward { keep } => match ask(&mut docker, upstream, &query).await {
                Ok(mut answer) => {
                    if let Some(seconds) = keep {
                        shorten(&mut answer, seconds);
                    }
                    answer
                }
                Err(error) => {
                    debug!(%error, "a query stays unanswered");
                    let Some(answer) = failure(&query, matches!(error, Unanswered::Busy)) else {
                        return Ok(());
                    };
                    answer
                }
            },
        };
        within(IDLE, write(&mut client, &answer)).await?;
    }
    Ok(())
}

/// Passes a query on over the connection that is open, or over a new one where there is none or it has
/// been closed meanwhile.
async fn ask(
    docker: &mut Option<TcpStream>,
    upstream: &Upstream,
    query: &[u8],
) -> Result<Vec<u8>, Unanswered> {
    let _permit = upstream.permit()?;
    if let Some(mut stream) = docker.take()
        && let Ok(answer) = exchange(&mut stream, query).await
    {
        *docker = Some(stream);
        return Ok(answer);
    }
    let mut stream = upstream.connect().await?;
    let answer = exchange(&mut stream, query).await?;
    *docker = Some(stream);
    Ok(answer)
}

async fn exchange(stream: &mut TcpStream, query: &[u8]) -> Result<Vec<u8>, Unanswered> {
    let exchanged = timeout(DEADLINE, async {
        write(stream, query).await?;
        read(stream).await
    });
    let answer = exchanged.await.map_err(|_| Unanswered::Silent)??;
    answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// The next message; `None` at the end of the stream.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a message is longer than {LONGEST} bytes"))
    })?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
