//! Pauses between attempts: doubled each time, and jittered so that a hundred hosts do not all come back
//! in the same millisecond.

use std::time::Duration;

use super::timeouts::Timeouts;

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Self { least: timeouts.retry_least, most: timeouts.retry_most, next: timeouts.retry_least }
    }

    /// Call when it worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.least;
    }

    /// Waits for a random time between half the pause and the whole of it.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.step(rand::random_range(0.5..=1.0))).await;
    }

    fn step(&mut self, jitter: f64) -> Duration {
        let pause = self.next.mul_f64(jitter);
        self.next = self.next.saturating_mul(2).min(self.most);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::new(&Timeouts {
            retry_least: Duration::from_millis(100),
            retry_most: Duration::from_millis(350),
            ..Timeouts::default()
        });
        let pauses: Vec<_> = (0..4).map(|_| backoff.step(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.step(0.5).as_millis(), 50);
    }
}
