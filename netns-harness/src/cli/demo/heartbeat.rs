//! Long work tells that it goes on.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::super::waiting;

/// Work that takes longer than this is told to go on, and again each time as much has passed.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Do `work` in a thread of its own while this one prints `what` and the seconds so far, now and then.
pub(super) fn telling<T: Send>(what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let started = Instant::now();
    thread::scope(|scope| {
        let (done, wait) = sync_channel::<()>(1);
        let work = scope.spawn(move || {
            let result = work();
            drop(done);
            result
        });
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            waiting(&format!("{what}: {} s so far", started.elapsed().as_secs()));
        }
        work.join().map_err(|_| anyhow!("a thread of the demo panicked: {what}"))?
    })
}

/// Do one piece of work per item, all at once; gives their results in the order of the items.
pub(super) fn all_at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the demo panicked"))?)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_work_gives_is_given() {
        assert_eq!(telling("adding", || Ok(1 + 1)).unwrap(), 2);
        let error = telling("failing", || -> Result<()> { Err(anyhow!("no luck")) }).unwrap_err();
        assert_eq!(error.to_string(), "no luck");
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let halves = |number: u32| {
            thread::sleep(Duration::from_millis(u64::from(number)));
            if number.is_multiple_of(2) { Ok(number / 2) } else { Err(anyhow!("{number} is odd")) }
        };
        assert_eq!(all_at_once([20, 10, 0], halves).unwrap(), [10, 5, 0]);
        assert_eq!(all_at_once([20, 3, 0], halves).unwrap_err().to_string(), "3 is odd");
    }
}
