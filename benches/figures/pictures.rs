//! Pictures of figures, as SVG: bars of medians, or curves of shares where there are many samples.

// By path, because the tests take this file in by path as well.
#[path = "pictures/bars.rs"]
mod bars;
#[path = "pictures/shares.rs"]
mod shares;

use anyhow::{Result, anyhow};
use plotters::{
    prelude::{IntoDrawingArea, SVGBackend},
    style::{RGBColor, WHITE},
};

use crate::figure::{Figure, OURS, Series};

/// Samples from which on a distribution is shown instead of its median.
const MANY: usize = 25;

/// How a figure is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One bar for each subject, with a line from p10 to p90.
    Bars,
    /// For each subject the share of samples below a value.
    Shares,
}

/// What picture there is of a figure: none of one that is a single number.
pub(crate) fn kind(figure: &Figure) -> Option<Kind> {
    let drawn = |series: &Series| !series.samples.is_empty() && series.samples.iter().all(|s| s.is_finite());
    if !figure.series.iter().all(drawn) {
        return None;
    }
    if figure.series.iter().any(|series| series.samples.len() >= MANY) {
        return Some(Kind::Shares);
    }
    (figure.series.len() > 1).then_some(Kind::Bars)
}

/// The picture's file name.
pub(crate) fn name(figure: &Figure) -> String {
    format!("{}.svg", figure.key)
}

/// The picture.
pub(crate) fn of(figure: &Figure) -> Result<Option<String>> {
    let Some(kind) = kind(figure) else { return Ok(None) };
    let size = match kind {
        Kind::Bars => bars::size(figure),
        Kind::Shares => shares::SIZE,
    };
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        match kind {
            Kind::Bars => bars::draw(figure, &area)?,
            Kind::Shares => shares::draw(figure, &area)?,
        }
        area.present().map_err(failed)?;
    }
    Ok(Some(text))
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// Ours stands out, all others are told apart.
fn colour(subject: &str, place: usize) -> RGBColor {
    const OTHERS: [RGBColor; 6] = [
        RGBColor(88, 110, 140),
        RGBColor(222, 143, 5),
        RGBColor(2, 158, 115),
        RGBColor(148, 103, 189),
        RGBColor(120, 120, 120),
        RGBColor(86, 180, 233),
    ];
    if subject == OURS { RGBColor(200, 55, 45) } else { OTHERS[place % OTHERS.len()] }
}

/// What is above a picture.
fn heading(figure: &Figure) -> String {
    let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
    let better = match figure.better {
        crate::figure::Better::Higher => "more is better",
        crate::figure::Better::Lower => "less is better",
    };
    format!("{}{unit} ({better})", figure.title)
}
