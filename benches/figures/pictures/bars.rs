//! Bars: the median of each subject, and a line over what lies between p10 and p90.

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::{Color, DrawingArea, PathElement, Rectangle, SVGBackend, Text},
    style::{BLACK, IntoFont, TextStyle},
};

use super::{colour, failed, heading};
use crate::{
    figure::{Figure, Series},
    table::number,
};

const WIDTH: i32 = 720;
/// Where the bars begin and end; names are before, numbers behind.
const BARS: (i32, i32) = (190, 560);
/// Above the first bar, and of each.
const TOP: i32 = 40;
const EACH: i32 = 28;

/// Width and height of the picture.
pub(super) fn size(figure: &Figure) -> (u32, u32) {
    let count = i32::try_from(figure.series.len()).unwrap_or(1);
    (WIDTH.unsigned_abs(), (TOP + EACH * count + 10).unsigned_abs())
}

pub(super) fn draw(figure: &Figure, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    let text = |size: i32| TextStyle::from(("sans-serif", size).into_font()).color(&BLACK);
    area.draw(&Text::new(heading(figure), (12, 10), text(16))).map_err(failed)?;
    let most =
        figure.series.iter().map(|s| s.quantile(0.9).max(s.median())).fold(f64::MIN_POSITIVE, f64::max);
    #[allow(clippy::cast_possible_truncation, reason = "a place within the picture")]
    let place = |value: f64| BARS.0 + (f64::from(BARS.1 - BARS.0) * (value / most).clamp(0.0, 1.0)) as i32;
    for (row, series) in (0_i32..).zip(&figure.series) {
        let (top, middle) = (TOP + row * EACH, TOP + row * EACH + EACH / 2 - 3);
        let fill = colour(&series.subject, row.unsigned_abs() as usize).filled();
        let bar = [(BARS.0, top), (place(series.median()).max(BARS.0 + 1), top + EACH - 8)];
        area.draw(&Rectangle::new(bar, fill)).map_err(failed)?;
        let spread = [series.quantile(0.1), series.quantile(0.9)].map(|value| (place(value), middle));
        area.draw(&PathElement::new(spread.to_vec(), BLACK.stroke_width(2))).map_err(failed)?;
        area.draw(&Text::new(series.subject.clone(), (12, top + 3), text(14))).map_err(failed)?;
        area.draw(&Text::new(told(figure, series), (BARS.1 + 10, top + 3), text(14))).map_err(failed)?;
    }
    Ok(())
}

/// The number, and how ours stands to it.
fn told(figure: &Figure, series: &Series) -> String {
    let ratio = if series.subject == crate::figure::OURS { None } else { figure.ratio(&series.subject) };
    let ratio = ratio.map(|ratio| format!("  (ours {ratio:.2} x)")).unwrap_or_default();
    format!("{}{ratio}", number(series.median()))
}
