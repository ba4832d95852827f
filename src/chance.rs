//! Chance, drawn in one place. Pure code gets it as an argument.
//!
//! A thread can be given a seed. All that is drawn there follows from it then, which is what lets a
//! simulation of many hosts be replayed; a daemon never does that.

use std::{cell::RefCell, ops::RangeInclusive};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// A number, each as likely as any other.
pub fn number() -> u64 {
    draw(rand::random, rand::Rng::next_u64)
}

/// A number of `range`, each as likely as any other; its start where it is empty.
pub fn up_to(range: RangeInclusive<u32>) -> u32 {
    if range.is_empty() {
        return *range.start();
    }
    let again = range.clone();
    draw(|| rand::random_range(range), |seeded| seeded.random_range(again))
}

/// A part, from a half to one.
pub fn half_to_all() -> f64 {
    draw(|| rand::random_range(0.5..=1.0), |seeded| seeded.random_range(0.5..=1.0))
}

/// From now on all that is drawn on this thread follows from `seed`; `None` ends that.
pub fn seed(seed: Option<u64>) {
    SEEDED.with(|seeded| *seeded.borrow_mut() = seed.map(StdRng::seed_from_u64));
}

fn draw<T>(free: impl FnOnce() -> T, from: impl FnOnce(&mut StdRng) -> T) -> T {
    SEEDED.with(|seeded| match seeded.borrow_mut().as_mut() {
        Some(seeded) => from(seeded),
        None => free(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws() -> (u64, u32, f64) {
        (number(), up_to(1..=1000), half_to_all())
    }

    #[test]
    fn a_seed_draws_the_same_again_and_free_chance_does_not() {
        seed(Some(7));
        let first = draws();
        seed(Some(7));
        assert_eq!(draws(), first);
        seed(None);
        assert_ne!(number(), number());
        assert!((0.5..=1.0).contains(&half_to_all()));
        #[expect(clippy::reversed_empty_ranges, reason = "what is asked")]
        let start = up_to(3..=2);
        assert_eq!(start, 3);
    }
}
