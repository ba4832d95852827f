//! What is not as it should be on a host, and what was left behind: kernel, plan, store, engine and the
//! host's own state, compared with each other. Pure: whoever asks reads all of it first.
//!
//! A difference may be a change on its way. Only one that is found twice, some time apart, is told.

mod engine;
mod kernel;
mod leftovers;
mod listing;
mod mirrored;
mod own;
mod records;

pub use engine::{EngineView, compare_engine};
pub use kernel::{KernelView, compare_kernel};
pub use leftovers::{Leftover, leftovers};
pub use listing::Listing;
pub use mirrored::compare_snapshot;
pub use own::{Own, OwnEndpoint, OwnNetwork};
pub use records::compare_records;

use std::{collections::BTreeSet, fmt::Display};

use crate::admin::DifferenceRow;

/// Where a difference was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The kernel and the plan.
    Kernel,
    /// The store and this host's own state.
    Store,
    /// The store and this host's copy of it.
    Copy,
    /// The engine and this host's own state.
    Engine,
    /// A container's sandbox.
    Container,
}

impl Area {
    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Store => "store",
            Self::Copy => "copy",
            Self::Engine => "engine",
            Self::Container => "container",
        }
    }
}

/// What was found first and is still there, as it looks now.
pub fn lasting(first: &[DifferenceRow], now: Vec<DifferenceRow>) -> Vec<DifferenceRow> {
    let seen: BTreeSet<_> = first.iter().map(|row| (&row.area, &row.object)).collect();
    now.into_iter().filter(|row| seen.contains(&(&row.area, &row.object))).collect()
}

fn row(area: Area, object: impl Display, expected: impl Display, found: impl Display) -> DifferenceRow {
    DifferenceRow {
        area: area.word().to_owned(),
        object: object.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Tells `each` of every key whose values differ, or that only one side has: the wanted value, then the one
/// that is there.
fn unequal<'a, K: Ord + 'a, V: PartialEq + 'a>(
    wanted: impl IntoIterator<Item = (&'a K, &'a V)>,
    found: impl IntoIterator<Item = (&'a K, &'a V)>,
    mut each: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>),
) {
    let mut found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
    for (key, value) in wanted {
        let there = found.remove(key);
        if there != Some(value) {
            each(key, Some(value), there);
        }
    }
    for (key, value) in found {
        each(key, None, Some(value));
    }
}

#[cfg(test)]
mod tests;
