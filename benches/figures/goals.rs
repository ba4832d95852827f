//! What rs-overlay wants to reach, and whether it does.

use serde::Serialize;

use crate::figure::{Figure, OURS};

/// Which number of a series is judged.
#[derive(Debug, Clone, Copy)]
enum Of {
    Median,
    P99,
    Worst,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Ours to theirs, round by round.
    TimesAtMost(&'static str, f64),
    TimesAtLeast(&'static str, f64),
}

/// One goal: of which figure, of which of its subjects.
struct Goal {
    title: &'static str,
    figure: &'static str,
    subject: &'static str,
    of: Of,
    bound: Bound,
}

const fn goal(title: &'static str, figure: &'static str, of: Of, bound: Bound) -> Goal {
    Goal { title, figure, subject: OURS, of, bound }
}

const THEIRS: &str = "docker overlay";
const BARE: &str = "bare VXLAN";

const GOALS: [Goal; 14] = [
    goal("Throughput, to Docker's overlay", "tcp-1-stream", Of::Median, Bound::TimesAtLeast(THEIRS, 1.0)),
    goal("Throughput, to bare VXLAN", "tcp-1-stream", Of::Median, Bound::TimesAtLeast(BARE, 0.92)),
    goal(
        "Round trip on one core, to Docker's overlay",
        "round-trip-1-core-p50",
        Of::Median,
        Bound::TimesAtMost(THEIRS, 0.88),
    ),
    goal(
        "Round trip on one core, to bare VXLAN",
        "round-trip-1-core-p50",
        Of::Median,
        Bound::TimesAtMost(BARE, 1.15),
    ),
    goal("docker run, to Docker's overlay", "docker-run", Of::Median, Bound::TimesAtMost(THEIRS, 0.9)),
    goal("Start to reachable by name, p99", "reach-name", Of::P99, Bound::AtMost(200.0)),
    goal("Start to reachable by address, p99", "reach-address", Of::P99, Bound::AtMost(200.0)),
    goal(
        "All of 1,000 hosts have planned a change",
        "convergence-last-1000",
        Of::Worst,
        Bound::AtMost(1000.0),
    ),
    goal("Resync of 100,000 endpoints, from nothing", "resync-empty-100k", Of::Median, Bound::AtMost(1.5)),
    goal("Resync of 100,000, one of a hundred wrong", "resync-wrong-100k", Of::Median, Bound::AtMost(1.5)),
    goal("Memory of an idle daemon", "memory-idle", Of::Median, Bound::AtMost(25.0)),
    goal("Memory of a remote endpoint", "memory-endpoint", Of::Median, Bound::AtMost(1024.0)),
    goal("Names answered by one core", "names-per-core", Of::Median, Bound::AtLeast(50_000.0)),
    goal("Size of the binary that is released", "binary-size-dist", Of::Median, Bound::AtMost(15.0)),
];

/// A goal with what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// What was wanted of what.
    pub(crate) goal: &'static str,
    /// Key of the figure.
    pub(crate) figure: &'static str,
    /// What was wanted: `at most 0.88 x docker overlay`.
    pub(crate) wanted: String,
    /// What was measured, in the figure's unit, or as a ratio.
    pub(crate) measured: f64,
    /// The same for people.
    pub(crate) shown: String,
    /// Whether it is reached.
    pub(crate) met: bool,
}

/// The goals of which something was measured.
pub(crate) fn verdicts(figures: &[&Figure]) -> Vec<Verdict> {
    let of =
        |goal: &Goal| figures.iter().find(|figure| figure.key == goal.figure).and_then(|f| judge(goal, f));
    GOALS.iter().filter_map(of).collect()
}

fn judge(goal: &Goal, figure: &Figure) -> Option<Verdict> {
    let series = figure.of(goal.subject)?;
    let value = match goal.of {
        Of::Median => series.median(),
        Of::P99 => series.quantile(0.99),
        Of::Worst => series.quantile(1.0),
    };
    let (measured, met, wanted) = match goal.bound {
        Bound::AtMost(most) => (value, value <= most, format!("at most {most} {}", figure.unit)),
        Bound::AtLeast(least) => (value, value >= least, format!("at least {least} {}", figure.unit)),
        Bound::TimesAtMost(peer, most) => {
            let ratio = figure.ratio(peer)?;
            (ratio, ratio <= most, format!("at most {most} x {peer}"))
        }
        Bound::TimesAtLeast(peer, least) => {
            let ratio = figure.ratio(peer)?;
            (ratio, ratio >= least, format!("at least {least} x {peer}"))
        }
    };
    let shown = match goal.bound {
        Bound::AtMost(_) | Bound::AtLeast(_) => format!("{} {}", crate::table::number(measured), figure.unit),
        Bound::TimesAtMost(..) | Bound::TimesAtLeast(..) => format!("{measured:.3} x"),
    };
    measured.is_finite().then_some(Verdict {
        goal: goal.title,
        figure: goal.figure,
        wanted: wanted.trim_end().to_owned(),
        measured,
        shown: shown.trim_end().to_owned(),
        met,
    })
}
