//! Curves: the share of samples that are not above a value.

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::Shift,
    prelude::{Color, DrawingArea, PathElement, SVGBackend},
    series::LineSeries,
    style::{BLACK, WHITE},
};

use super::{colour, failed, heading};
use crate::figure::{Figure, Series};

/// Width and height of the picture.
pub(super) const SIZE: (u32, u32) = (720, 360);

pub(super) fn draw(figure: &Figure, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    // The last samples may be far away, and would press all others against the edge.
    let end = |series: &Series| series.quantile(0.9).max(series.quantile(0.99).min(3.0 * series.median()));
    let most = figure.series.iter().map(end).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let least = figure.series.iter().map(|series| series.quantile(0.0)).fold(f64::INFINITY, f64::min);
    let from = if least > most / 3.0 { least * 0.95 } else { 0.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(heading(figure), ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(from..most, 0.0..1.0)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(figure.unit)
        .y_desc("share of samples")
        .draw()
        .map_err(failed)?;
    for (place, series) in figure.series.iter().enumerate() {
        let style = colour(&series.subject, place).stroke_width(2);
        chart
            .draw_series(LineSeries::new(steps(&series.samples, from, most), style))
            .map_err(failed)?
            .label(series.subject.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(failed)
}

/// Stairs: at each sample the share goes up by its part.
#[allow(clippy::cast_precision_loss, reason = "some hundred")]
fn steps(samples: &[f64], from: f64, most: f64) -> Vec<(f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let share = |number: usize| number as f64 / count;
    let mut points = vec![(from, 0.0)];
    for (number, value) in sorted.iter().enumerate().take_while(|(_, value)| **value <= most) {
        // Of many, the stairs cannot be seen.
        if sorted.len() < 100 {
            points.push((*value, share(number)));
        }
        points.push((*value, share(number + 1)));
    }
    points.push((most, points.last().map_or(0.0, |(_, share)| *share)));
    points
}
