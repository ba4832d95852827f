//! Pauses between attempts: doubled each time, capped, and drawn at random so that a hundred hosts do not
//! all come back in the same millisecond.

use std::time::Duration;

/// Pauses of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from about `least` up to about `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// Something worked: begin anew.
    pub fn reset(&mut self) {
        self.next = self.least;
    }

    /// The next pause: half to all of the current bound, which then doubles. The caller sleeps.
    pub fn pause(&mut self) -> Duration {
        self.step(crate::chance::half_to_all())
    }

    /// [`Self::pause`] with its luck given: `jitter` is the part, from 0 to 1, of the bound.
    fn step(&mut self, jitter: f64) -> Duration {
        let pause = self.next.mul_f64(jitter);
        self.next = self.next.saturating_mul(2).min(self.most);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_millis(350))
    }

    #[test]
    fn doubles_up_to_the_longest_and_begins_anew() {
        let mut backoff = backoff();
        let pauses: Vec<_> = (0..4).map(|_| backoff.step(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.step(0.5).as_millis(), 50);
    }

    #[test]
    fn is_drawn_between_half_of_the_bound_and_all_of_it() {
        for _ in 0..100 {
            let pause = backoff().pause().as_millis();
            assert!((50..=100).contains(&pause), "{pause}");
        }
    }
}
