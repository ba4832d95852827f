//! What a test has measured, for whoever reads its output.

use std::{collections::BTreeMap, time::Duration};

/// Times by what took them.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, Vec<Duration>>);

impl Figures {
    /// Takes a time in.
    pub(crate) fn note(&mut self, what: &str, took: Duration) {
        self.0.entry(what.to_owned()).or_default().push(took);
    }

    /// Prints the middle and the longest of each.
    pub(crate) fn tell(mut self) {
        for (what, times) in &mut self.0 {
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            let longest = times.last().copied().unwrap_or_default();
            eprintln!("{what}: {} times, {middle:.1?} in the middle, {longest:.1?} at most", times.len());
        }
    }
}
