//! The wall clock, read in one place. Pure code gets time as an argument.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

thread_local! {
    static VIRTUAL: Cell<Option<(Duration, Instant)>> = const { Cell::new(None) };
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970.
pub fn unix_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// A time as log lines have it: whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// From now on this thread's wall clock shows `now` and goes with tokio's clock, which a simulation can
/// stop and advance; `None` ends that. A daemon never does it. Must be called inside a tokio runtime.
pub fn follow_tokio(now: Option<Duration>) {
    VIRTUAL.set(now.map(|now| (now, Instant::now())));
}

fn since_1970() -> Duration {
    match VIRTUAL.get() {
        Some((start, since)) => start + since.elapsed(),
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn goes_with_tokio_s_clock_once_told_to() {
        follow_tokio(Some(Duration::from_secs(1000)));
        tokio::time::advance(Duration::from_millis(2500)).await;
        assert_eq!((unix_seconds(), unix_millis()), (1002, 1_002_500));
        follow_tokio(None);
        assert!(unix_seconds() > 1_600_000_000);
    }
}
