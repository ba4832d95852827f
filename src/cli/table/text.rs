//! Columns, lists and times, as people read them.

use comfy_table::{ContentArrangement, Table, presets};

/// Rows under heads.
pub(in crate::cli) fn grid(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heads);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

pub(super) fn list(items: &[impl ToString]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// As many names as a column bears.
pub(super) fn some(names: &[String]) -> String {
    match names {
        [first, second, _, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} and {} more", rest.len() + 1)
        }
        few => list(few),
    }
}

/// Names and values in two columns.
pub(in crate::cli) fn pairs(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let line = |(name, value): &(&str, String)| {
        let name = if name.is_empty() { String::new() } else { format!("{name}:") };
        format!("{name:width$} {}", printable(value))
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

pub(super) fn ago(then: u64, now: u64) -> String {
    format!("{} ago", span(then, now))
}

/// Clocks of hosts differ: a time that seems to lie ahead is now.
pub(super) fn span(then: u64, now: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// What other hosts wrote into the store must not steer this terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
