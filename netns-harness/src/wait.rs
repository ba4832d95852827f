//! Wait for a condition, and say what was last seen when it does not come.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// What a condition may answer: `bool`, `Option<T>`, or a `Result` of either.
///
/// An error means "not yet" as well; the last one is shown when time is up.
pub trait Outcome {
    /// What the condition gives once it holds.
    type Value;

    /// The value, or what to report as the last status.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it does not hold".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "there is none".to_owned())
    }
}

impl<O: Outcome, E: Into<anyhow::Error>> Outcome for Result<O, E> {
    type Value = O::Value;

    fn outcome(self) -> Result<O::Value, String> {
        self.map_err(|error| format!("{:#}", error.into()))?.outcome()
    }
}

/// Ask `condition` until it holds or `limit` has passed; it is asked at least once.
///
/// The error names `what` and the last status.
pub fn wait_until<O: Outcome>(what: &str, limit: Duration, condition: impl FnMut() -> O) -> Result<O::Value> {
    wait(what, limit, true, condition)
}

/// The same, going on after an interrupt.
pub(crate) fn wait_in_teardown<O: Outcome>(
    what: &str,
    limit: Duration,
    condition: impl FnMut() -> O,
) -> Result<O::Value> {
    wait(what, limit, false, condition)
}

fn wait<O: Outcome>(
    what: &str,
    limit: Duration,
    heeds_interrupt: bool,
    mut condition: impl FnMut() -> O,
) -> Result<O::Value> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let status = match condition().outcome() {
            Ok(value) => return Ok(value),
            Err(status) => status,
        };
        if heeds_interrupt && interrupt::interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if started.elapsed() >= limit {
            bail!("{what} did not come within {limit:?}; last seen: {status}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_is_given() {
        let mut asked = 0;
        let value = wait_until("a third time", Duration::from_mins(1), || -> Result<Option<u32>> {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(value.unwrap(), 3);
        wait_until("the truth", Duration::ZERO, || true).unwrap();
    }

    #[test]
    fn the_error_names_the_wait_and_the_last_status() {
        let condition = || -> Result<bool> { bail!("two of three routes") };
        let error = wait_until("all routes", Duration::from_millis(20), condition).unwrap_err().to_string();
        assert!(error.contains("all routes") && error.contains("two of three routes"), "{error}");
    }
}
