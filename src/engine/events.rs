//! The engine's events, followed through restarts and upgrades of the engine.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bollard::{errors::Error, models::EventMessage, query_parameters::EventsOptions};
use futures_util::{Stream, StreamExt};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{EngineError, EngineEvent, answers, connection::Connection};
use crate::chance;

/// Events that may wait for their reader.
const QUEUE: usize = 256;

/// How far back a new stream begins. The engine sends the head of its answer before it subscribes the
/// stream, so that nothing tells when events begin to be caught; it does keep the last 256. Beginning
/// before the moment in which `Connected` is told closes that gap, and repeated events do no harm.
const OVERLAP: Duration = Duration::from_secs(2);

/// Pauses between attempts grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A stream that lived this long ends the growth of the pauses.
const STEADY: Duration = Duration::from_secs(10);

/// What an engine tells. Dropping it ends the connection.
#[derive(Debug)]
pub struct EngineEvents {
    queue: mpsc::Receiver<EngineEvent>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl EngineEvents {
    /// Events out of a channel, for an engine that is no Docker engine.
    pub fn from_channel(queue: mpsc::Receiver<EngineEvent>) -> Self {
        Self { queue, _task: None }
    }

    /// The next event; from a real engine there is always one more. Cancel safe.
    pub async fn next(&mut self) -> Option<EngineEvent> {
        self.queue.recv().await
    }
}

/// Follows the engine behind `connection`; it has `deadline` to answer to a new connection.
pub(super) fn follow(connection: Arc<Connection>, deadline: Duration) -> EngineEvents {
    let (sender, queue) = mpsc::channel(QUEUE);
    let task = tokio::spawn(async move {
        // It ends when nobody listens any more, and there is nobody to tell.
        let _ = run(&connection, deadline, &sender).await;
    });
    EngineEvents { queue, _task: Some(AbortOnDropHandle::new(task)) }
}

/// Nobody listens any more.
struct Deserted;

impl<T> From<mpsc::error::SendError<T>> for Deserted {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

async fn run(
    connection: &Connection,
    deadline: Duration,
    queue: &mpsc::Sender<EngineEvent>,
) -> Result<(), Deserted> {
    let mut told = false;
    let mut pause = PAUSES.0;
    loop {
        let since = SystemTime::now() - OVERLAP;
        let session = timeout(deadline, connection.renew()).await.unwrap_or_else(|_| {
            Err(EngineError::Timeout { what: "connecting to the Docker engine's events".to_owned() })
        });
        let detail = match session {
            Ok(session) => {
                queue.send(EngineEvent::Connected).await?;
                told = false;
                let begun = Instant::now();
                let client = session.client();
                let events = client.events(Some(EventsOptions {
                    since: Some(timestamp(since)),
                    until: None,
                    filters: Some(answers::event_filters()),
                }));
                let end = pass_on(events, queue).await?;
                if begun.elapsed() >= STEADY {
                    pause = PAUSES.0;
                }
                match end {
                    Some(error) => connection.failure("following the Docker engine's events", error),
                    None => EngineError::Unreachable {
                        host: connection.host(),
                        detail: "it ended the stream of events".to_owned(),
                    },
                }
                .to_string()
            }
            Err(error) => error.to_string(),
        };
        connection.forget();
        if !told {
            queue.send(EngineEvent::Lost(detail)).await?;
            told = true;
        }
        sleep(pause.mul_f64(chance::half_to_all())).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Passes events on until the stream ends, and answers the error it ended with. What finds the queue
/// full is dropped, and `Connected` follows as soon as there is room.
async fn pass_on(
    events: impl Stream<Item = Result<EventMessage, Error>>,
    queue: &mpsc::Sender<EngineEvent>,
) -> Result<Option<Error>, Deserted> {
    let mut events = pin!(events);
    let mut dropped = false;
    loop {
        tokio::select! {
            // Both are cancel safe: a permit that was not taken and an event that was not read stay.
            room = queue.reserve(), if dropped => {
                room?.send(EngineEvent::Connected);
                dropped = false;
            }
            event = events.next() => {
                let event = match event {
                    Some(Ok(json)) => answers::event(json),
                    Some(Err(error)) => return Ok(Some(error)),
                    None => return Ok(None),
                };
                if let Some(event) = event.filter(|_| !dropped) {
                    match queue.try_send(event) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Full(_)) => dropped = true,
                        Err(mpsc::error::TrySendError::Closed(_)) => return Err(Deserted),
                    }
                }
            }
        }
    }
}

/// Seconds and nanoseconds since 1970, as the engine reads `since`.
fn timestamp(time: SystemTime) -> String {
    let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", age.as_secs(), age.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;
    use crate::engine::ContainerAction;

    fn started(number: usize) -> EventMessage {
        let json = format!(r#"{{"Type":"container","Action":"start","Actor":{{"ID":"c{number}"}}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[tokio::test]
    async fn a_full_queue_ends_in_a_full_look() {
        let (sender, mut queue) = mpsc::channel(4);
        let (later, rest) = mpsc::channel(1);
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let burst = stream::iter(0..1000).inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let rest = stream::unfold(rest, |mut rest| async { Some((rest.recv().await?, rest)) });
        let events = burst.chain(rest).map(|number| Ok(started(number)));
        let task =
            AbortOnDropHandle::new(tokio::spawn(async move { pass_on(events, &sender).await.is_ok() }));
        // Nobody makes room until the whole burst is read.
        while read.load(Ordering::Relaxed) < 1000 {
            tokio::task::yield_now().await;
        }
        let start =
            |number| EngineEvent::Container { id: format!("c{number}"), action: ContainerAction::Start };
        for number in 0..4 {
            assert_eq!(queue.recv().await, Some(start(number)));
        }
        assert_eq!(queue.recv().await, Some(EngineEvent::Connected));
        later.send(2000).await.unwrap();
        assert_eq!(queue.recv().await, Some(start(2000)));
        drop(later);
        assert!(task.await.unwrap());
    }

    #[tokio::test]
    async fn a_stream_s_end_is_told() {
        let (sender, _queue) = mpsc::channel(4);
        let end = pass_on(stream::iter([Ok(started(1))]), &sender).await;
        assert!(matches!(end, Ok(None)));
        let end = pass_on(stream::iter([Err(Error::RequestTimeoutError)]), &sender).await;
        assert!(matches!(end, Ok(Some(Error::RequestTimeoutError))));
    }

    #[test]
    fn timestamps_have_nine_places() {
        assert_eq!(timestamp(UNIX_EPOCH + Duration::new(7, 5)), "7.000000005");
    }
}
