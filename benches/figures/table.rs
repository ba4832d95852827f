//! The table of all figures, as it is printed and as it stands in the report.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{
    figure::{Figure, OURS, Series},
    goals::Verdict,
};

const HEADS: [&str; 7] = ["FIGURE", "SUBJECT", "MEDIAN", "P10 .. P90", "P99", "RUNS", "OURS TO IT"];
const GOAL_HEADS: [&str; 4] = ["GOAL", "WANTED", "MEASURED", "MET"];

/// Fewer samples have no percentile.
const HUNDRED: usize = 100;

/// A number with three digits that count.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size > 0.0 => 3,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// One row for each subject of a figure.
pub(crate) fn rows(figure: &Figure) -> Vec<[String; 7]> {
    let row = |(place, series): (usize, &Series)| {
        let title = if place == 0 { format!("{}, {}", figure.title, figure.unit) } else { String::new() };
        let ratio = if series.subject == OURS { None } else { figure.ratio(&series.subject) };
        [
            title.trim_end_matches(", ").to_owned(),
            series.subject.clone(),
            number(series.median()),
            format!("{} .. {}", number(series.quantile(0.1)), number(series.quantile(0.9))),
            if series.samples.len() < HUNDRED { "-".to_owned() } else { number(series.quantile(0.99)) },
            series.samples.len().to_string(),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]
    };
    figure.series.iter().enumerate().map(row).collect()
}

/// All figures of a group.
pub(crate) fn of_figures(figures: &[Figure]) -> String {
    grid(&HEADS, figures.iter().flat_map(rows), &[2, 3, 4, 5, 6])
}

/// All goals.
pub(crate) fn of_goals(verdicts: &[Verdict]) -> String {
    grid(&GOAL_HEADS, verdicts.iter().map(goal_row), &[])
}

/// The same figures as a table of Markdown.
pub(crate) fn markdown(figures: &[Figure]) -> String {
    pipes(&HEADS, figures.iter().flat_map(rows))
}

/// The goals as a table of Markdown.
pub(crate) fn markdown_goals(verdicts: &[Verdict]) -> String {
    pipes(&GOAL_HEADS, verdicts.iter().map(goal_row))
}

fn goal_row(verdict: &Verdict) -> [String; 4] {
    let met = if verdict.met { "yes" } else { "NO" };
    [verdict.goal.to_owned(), verdict.wanted.clone(), verdict.shown.clone(), met.to_owned()]
}

fn grid<const N: usize>(
    heads: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn pipes<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let sentence = |head: &&str| {
        let mut letters = head.chars();
        letters.next().map(|first| first.to_string() + &letters.as_str().to_lowercase()).unwrap_or_default()
    };
    let mut text = line(&heads.iter().map(sentence).collect::<Vec<_>>());
    text += &line(&vec!["---".to_owned(); N]);
    rows.for_each(|row| text += &line(&row));
    text
}
