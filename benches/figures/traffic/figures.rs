//! What is told of the data path.

use crate::{
    figure::{
        Better::{self, Higher, Lower},
        Figure,
    },
    rounds::{Samples, thinned},
};

/// Samples that stand for all round trips of a subject in the picture.
const POINTS: usize = 400;

/// One figure, which there is across hosts and on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Stream,
    Streams,
    Cpu,
    Small,
    Large,
    OneCoreHalf,
    OneCoreMost,
    OneCoreAll,
    TwoCoresHalf,
    TwoCoresMost,
}

/// How a figure is shown.
pub(super) struct Row {
    what: What,
    title: &'static str,
    unit: &'static str,
    better: Better,
    note: &'static str,
}

const fn row(what: What, title: &'static str, unit: &'static str, better: Better, note: &'static str) -> Row {
    Row { what, title, unit, better, note }
}

const STREAM: &str = "iperf3, one second a round, its client on one core and its server on the other";

pub(super) const ALL: [Row; 10] = [
    row(What::Stream, "TCP, one stream", "Gbit/s", Higher, STREAM),
    row(What::Streams, "TCP, four streams", "Gbit/s", Higher, STREAM),
    row(
        What::Cpu,
        "CPU per gigabyte, one stream",
        "ms/GB",
        Lower,
        "busy time of all cores while that stream runs",
    ),
    row(
        What::Small,
        "UDP, 64 bytes",
        "k packets/s",
        Higher,
        "one sender as fast as it can; counted where they arrive",
    ),
    row(What::Large, "UDP, 1,400 bytes", "k packets/s", Higher, "the same"),
    row(
        What::OneCoreHalf,
        "Round trip on one core, p50",
        "us",
        Lower,
        "one byte over TCP there and back, both ends on the same core, so that the time is also the cost; 9,000 a \
         round, of which this is the median",
    ),
    row(What::OneCoreMost, "Round trip on one core, p99", "us", Lower, "of the same round trips"),
    row(
        What::OneCoreAll,
        "Round trips on one core, all",
        "us",
        Lower,
        "400 quantiles of all rounds together",
    ),
    row(
        What::TwoCoresHalf,
        "Round trip on two cores, p50",
        "us",
        Lower,
        "the same with one end on each core",
    ),
    row(What::TwoCoresMost, "Round trip on two cores, p99", "us", Lower, "of the same round trips"),
];

impl What {
    pub(super) fn key(self, local: bool) -> &'static str {
        let (across, on_one) = match self {
            Self::Stream => ("tcp-1-stream", "local-tcp-1-stream"),
            Self::Streams => ("tcp-4-streams", "local-tcp-4-streams"),
            Self::Cpu => ("cpu-per-gb", "local-cpu-per-gb"),
            Self::Small => ("udp-64", "local-udp-64"),
            Self::Large => ("udp-1400", "local-udp-1400"),
            Self::OneCoreHalf => ("round-trip-1-core-p50", "local-round-trip-1-core-p50"),
            Self::OneCoreMost => ("round-trip-1-core-p99", "local-round-trip-1-core-p99"),
            Self::OneCoreAll => ("round-trips-1-core", "local-round-trips-1-core"),
            Self::TwoCoresHalf => ("round-trip-2-cores-p50", "local-round-trip-2-cores-p50"),
            Self::TwoCoresMost => ("round-trip-2-cores-p99", "local-round-trip-2-cores-p99"),
        };
        if local { on_one } else { across }
    }
}

impl Row {
    /// Takes the samples of this figure.
    pub(super) fn figure(&self, samples: &mut Samples, subjects: &[String], local: bool) -> Figure {
        let place = if local { " (on one host)" } else { "" };
        let title = format!("{}{place}", self.title);
        let (key, kind) = (self.what.key(local), (self.unit, self.better));
        let mut figure = samples.figure(key, &title, kind, subjects, self.note);
        if self.what == What::OneCoreAll {
            for series in &mut figure.series {
                series.samples = thinned(std::mem::take(&mut series.samples), POINTS);
            }
        }
        figure
    }
}
