//! The tables of a run in a document that people read, so that nobody types a number.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{figure::Figure, pictures, report::Report};

/// What stands around the tables in the document.
const MARKS: [&str; 2] = ["<!-- written by the bench: begin -->", "<!-- written by the bench: end -->"];
/// Figures whose pictures are put beside the document.
const SHOWN: [&str; 6] =
    ["tcp-1-stream", "round-trips-1-core", "docker-run", "reach-name", "convergence-1000", "names-per-core"];

/// Replaces what is between the marks by the tables of this run.
pub(crate) fn update(report: &Report, document: &Path) -> Result<()> {
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let text = filled(&text, report).with_context(|| format!("in {}", document.display()))?;
    for figure in report.figures().filter(|figure| SHOWN.contains(&figure.key)) {
        if let Some(picture) = pictures::of(figure)? {
            let path = document.with_file_name(place(figure));
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

/// The document with the tables of this run in it.
pub(crate) fn filled(document: &str, report: &Report) -> Result<String> {
    let missing = |mark: &str| format!("there is no line {mark:?}");
    let (before, rest) = document.split_once(MARKS[0]).with_context(|| missing(MARKS[0]))?;
    let (_, after) = rest.split_once(MARKS[1]).with_context(|| missing(MARKS[1]))?;
    let machine = format!("- {}\n", report.machine.lines().join("\n- "));
    let tables = report.tables(&|figure| SHOWN.contains(&figure.key).then(|| place(figure)))?;
    Ok(format!("{before}{}\n\n{machine}{tables}\n{}{after}", MARKS[0], MARKS[1]))
}

fn place(figure: &Figure) -> String {
    format!("performance/{}", pictures::name(figure))
}
