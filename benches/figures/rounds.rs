//! Subjects are visited in turn, A B C and then C B A, and what is measured is gathered by figure and subject.

use std::collections::BTreeMap;

use crate::figure::{Better, Figure, Series};

/// The subjects in the order of this round: there and back, so that a machine that gets slower or faster meanwhile
/// is no one's advantage.
pub(crate) fn in_turn<T>(subjects: &[T], round: usize) -> Vec<&T> {
    if round.is_multiple_of(2) { subjects.iter().collect() } else { subjects.iter().rev().collect() }
}

/// Samples under way.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>);

impl Samples {
    /// Takes in what was measured of a subject.
    pub(crate) fn add(&mut self, key: &'static str, subject: &str, sample: f64) {
        self.0.entry(key).or_default().entry(subject.to_owned()).or_default().push(sample);
    }

    /// The same for many at once.
    pub(crate) fn extend(
        &mut self,
        key: &'static str,
        subject: &str,
        samples: impl IntoIterator<Item = f64>,
    ) {
        self.0.entry(key).or_default().entry(subject.to_owned()).or_default().extend(samples);
    }

    /// All of one figure, with the subjects in this order.
    pub(crate) fn figure<S: AsRef<str>>(
        &mut self,
        key: &'static str,
        title: &str,
        (unit, better): (&'static str, Better),
        subjects: impl IntoIterator<Item = S>,
        note: &str,
    ) -> Figure {
        let mut all = self.0.remove(key).unwrap_or_default();
        let series = subjects.into_iter().filter_map(|subject| {
            all.remove(subject.as_ref()).map(|samples| Series::new(subject.as_ref(), samples))
        });
        let note = (!note.is_empty()).then(|| note.to_owned());
        Figure { key, title: title.to_owned(), unit, better, series: series.collect(), note }
    }
}

/// At most `most` samples that stand for all: the quantiles of a distribution, lowest first.
pub(crate) fn thinned(mut samples: Vec<f64>, most: usize) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    if samples.len() <= most {
        return samples;
    }
    #[allow(clippy::cast_precision_loss, reason = "some hundred")]
    let share = |number: usize| number as f64 / (most - 1) as f64;
    (0..most).map(|number| crate::figure::quantile_of_sorted(&samples, share(number))).collect()
}
