//! What is measured: figures with samples, and what follows from samples.

use serde::Serialize;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// The more, the better: throughput.
    Higher,
    /// The less, the better: time, memory.
    Lower,
}

/// One thing that was measured, of one or several subjects in the same run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// Stable name for programs: `tcp-1-stream`.
    pub(crate) key: &'static str,
    /// What it is, for people: `TCP, one stream`.
    pub(crate) title: String,
    /// Unit of the samples: `Gbit/s`, `us`, `MB`.
    pub(crate) unit: &'static str,
    /// Which way is good.
    pub(crate) better: Better,
    /// One for each subject, ours first.
    pub(crate) series: Vec<Series>,
    /// What a reader has to know of how it was measured, in a line or two.
    pub(crate) note: Option<String>,
}

/// The samples of one subject, in the order of the rounds: of interleaved subjects the samples with the same
/// index belong to one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    /// Who: `rs-overlay`, `docker overlay`, `bare VXLAN`.
    pub(crate) subject: String,
    /// One value per round or per event.
    pub(crate) samples: Vec<f64>,
}

/// Our subject in every figure that has several.
pub(crate) const OURS: &str = "rs-overlay";

impl Series {
    pub(crate) fn new(subject: impl Into<String>, samples: Vec<f64>) -> Self {
        Self { subject: subject.into(), samples }
    }

    /// The value below which `share` (0 to 1) of the samples are; NaN without samples.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.samples, share)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl Figure {
    pub(crate) fn of(&self, subject: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.subject == subject)
    }

    /// Ours to theirs: the median of the ratios of each round where both have as many rounds, which takes the
    /// drift of a busy machine out; else the ratio of the medians. `None`: one of both was not measured.
    pub(crate) fn ratio(&self, theirs: &str) -> Option<f64> {
        let (ours, theirs) = (self.of(OURS)?, self.of(theirs)?);
        let ratio = if ours.samples.len() == theirs.samples.len() {
            let rounds: Vec<_> = ours.samples.iter().zip(&theirs.samples).map(|(a, b)| a / b).collect();
            quantile(&rounds, 0.5)
        } else {
            ours.median() / theirs.median()
        };
        ratio.is_finite().then_some(ratio)
    }
}

/// By linear interpolation between the two samples beside it.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

/// The same of samples that are in order.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(last);
    sorted[below] * (1.0 - part) + sorted[above] * part
}
