//! `report.md` and `report.json`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    figure::{Figure, OURS, Series},
    goals::{Verdict, verdicts},
    machine::Machine,
    pictures, table,
};

/// One group of figures as it was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) number: u8,
    pub(crate) title: &'static str,
    pub(crate) seconds: f64,
    /// The figures, or why there are none.
    pub(crate) outcome: Result<Vec<Figure>, String>,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    pub(crate) groups: Vec<Measured>,
}

/// A series with what follows from it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    series: &'a Series,
    runs: usize,
    median: Option<f64>,
    p10: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    /// Ours to this one.
    ratio: Option<f64>,
}

impl Report {
    /// Goals of which something was measured.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        verdicts(&self.figures().collect::<Vec<_>>())
    }

    /// All figures that were measured.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.groups.iter().flat_map(|group| group.outcome.iter().flatten())
    }

    /// Whether every group was measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.groups.iter().all(|group| group.outcome.is_ok())
    }

    /// What is printed in the end.
    pub(crate) fn printed(&self) -> String {
        let mut text = String::new();
        for group in &self.groups {
            let _ = write!(text, "\n{} {} ({:.0} s)\n", group.number, group.title, group.seconds);
            match &group.outcome {
                Ok(figures) => text += &(table::of_figures(figures) + "\n"),
                Err(why) => {
                    let _ = writeln!(text, "FAILED: {why}");
                }
            }
        }
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            let _ = write!(text, "\nGoals\n{}\n", table::of_goals(&verdicts));
        }
        text
    }

    /// Writes both reports and all pictures into a directory, which is made if it is not there; answers what
    /// was written.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let save = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display())).map(|()| path)
        };
        save("report.json", format!("{:#}\n", self.json()))?;
        for figure in self.figures() {
            if let Some(picture) = pictures::of(figure)? {
                save(&pictures::name(figure), picture)?;
            }
        }
        save("report.md", self.markdown()?)
    }

    fn json(&self) -> Value {
        let groups = self.groups.iter().map(|group| {
            let figures = group.outcome.iter().flatten().map(figure_json);
            json!({
                "number": group.number,
                "title": group.title,
                "seconds": group.seconds,
                "failed": group.outcome.as_ref().err(),
                "figures": figures.collect::<Vec<_>>(),
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "quick": self.quick,
            "groups": groups.collect::<Vec<_>>(),
            "goals": self.verdicts(),
        })
    }

    fn markdown(&self) -> Result<String> {
        let mut text = format!("# Figures of rs-overlay {}\n\n", env!("CARGO_PKG_VERSION"));
        for line in self.machine.lines() {
            writeln!(text, "- {line}")?;
        }
        if self.quick {
            writeln!(text, "- a quick run: few rounds, read the figures as tendencies")?;
        }
        text += "\nMedian, and what lies between the lowest and the highest tenth of all runs. The last column is the \
                 median of rs-overlay's value divided by the subject's, round by round.\n";
        text += &self.tables(&|figure| Some(pictures::name(figure)))?;
        Ok(text)
    }

    /// Goals and groups in Markdown; `picture` tells where the picture of a figure is, if it is to be shown.
    pub(crate) fn tables(&self, picture: &dyn Fn(&Figure) -> Option<String>) -> Result<String> {
        let mut text = String::new();
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            writeln!(text, "\n## Goals\n\n{}", table::markdown_goals(&verdicts).trim_end())?;
        }
        for group in &self.groups {
            writeln!(text, "\n## {} {}\n", group.number, group.title)?;
            let figures = match &group.outcome {
                Ok(figures) => figures,
                Err(why) => {
                    writeln!(text, "Failed: {why}")?;
                    continue;
                }
            };
            writeln!(text, "{}", table::markdown(figures))?;
            for (title, note) in
                figures.iter().filter_map(|figure| Some((&figure.title, figure.note.as_ref()?)))
            {
                writeln!(text, "- {title}: {note}.")?;
            }
            for figure in figures.iter().filter(|figure| pictures::kind(figure).is_some()) {
                if let Some(path) = picture(figure) {
                    writeln!(text, "\n![{}]({path})", figure.title)?;
                }
            }
        }
        Ok(text)
    }
}

fn figure_json(figure: &Figure) -> Value {
    let finite = |value: f64| value.is_finite().then_some(value);
    let rows = figure.series.iter().map(|series| Row {
        series,
        runs: series.samples.len(),
        median: finite(series.median()),
        p10: finite(series.quantile(0.1)),
        p90: finite(series.quantile(0.9)),
        p99: finite(series.quantile(0.99)),
        ratio: (series.subject != OURS).then(|| figure.ratio(&series.subject)).flatten(),
    });
    json!({
        "key": figure.key,
        "title": figure.title,
        "unit": figure.unit,
        "better": figure.better,
        "note": figure.note,
        "series": rows.collect::<Vec<_>>(),
    })
}
