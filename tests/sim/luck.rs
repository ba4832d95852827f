//! The world's own luck: operations, faults, delays. The daemons draw from `rs_overlay::chance`, so that
//! what they draw does not change what befalls them.

use std::{cell::RefCell, ops::Range, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

thread_local! {
    static LUCK: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Begins anew.
pub(crate) fn begin(seed: u64) {
    LUCK.with(|luck| *luck.borrow_mut() = Some(StdRng::seed_from_u64(seed)));
}

fn with<T>(draw: impl FnOnce(&mut StdRng) -> T) -> T {
    LUCK.with(|luck| draw(luck.borrow_mut().as_mut().expect("luck has a seed")))
}

/// A number of `range`.
pub(crate) fn number(range: Range<usize>) -> usize {
    with(|luck| luck.random_range(range))
}

/// True in `percent` of a hundred cases.
pub(crate) fn percent(percent: u32) -> bool {
    with(|luck| luck.random_range(0..100) < percent)
}

/// A time of `range`, in milliseconds.
pub(crate) fn millis(range: Range<u64>) -> Duration {
    Duration::from_millis(with(|luck| luck.random_range(range)))
}

/// One of `choices`.
pub(crate) fn one_of<T: Clone>(choices: &[T]) -> Option<T> {
    if choices.is_empty() { None } else { Some(choices[number(0..choices.len())].clone()) }
}

/// 64 hexadecimal digits, as Docker's ids are.
pub(crate) fn docker_id() -> String {
    let part = || with(rand::RngExt::random::<u64>);
    format!("{:016x}{:016x}{:016x}{:016x}", part(), part(), part(), part())
}
