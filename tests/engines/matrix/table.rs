//! The table that people read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use netns_harness::{Family, StoreKind};

use crate::case::{Families, Mode};

/// How a cell came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// The engine has no such networks, with any driver.
    NotOffered,
    Failed(String),
}

/// One combination.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) mode: Mode,
    /// The engine's release, as it says itself.
    pub(crate) engine: String,
    pub(crate) families: Families,
    pub(crate) store: StoreKind,
    pub(crate) underlay: Family,
    pub(crate) verdict: Verdict,
}

impl Cell {
    fn mark(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "yes",
            Verdict::NotOffered => "not in this engine",
            Verdict::Failed(_) => "FAILED",
        }
    }

    fn row(&self) -> (Vec<u64>, Families) {
        let numbers = self.engine.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        (numbers.collect(), self.families)
    }

    fn column(&self) -> String {
        format!("{}, {}", self.store, underlay(self.underlay))
    }
}

fn underlay(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4 underlay",
        Family::V6 => "IPv6 underlay",
    }
}

/// The whole document.
pub(crate) fn markdown(cells: &[Cell]) -> String {
    let mut text = String::from(
        "# Compatibility\n\nWritten by `make test-all` from what passed: real engines on real stores, each host in \
         namespaces of its own. A cell is a network from its creation to its removal: created on an engine of \
         that release, seen by all hosts, used by a container on each of them, which reach each other by name and \
         by every address (A, AAAA, PTR, ping) in both directions, also after a restart, and removed on another \
         host than the one that created it; then neither kernel nor store hold anything of it. \
         Do not edit it by hand.\n",
    );
    for mode in Mode::ALL {
        let of_mode: Vec<_> = cells.iter().filter(|cell| cell.mode == mode).collect();
        if !of_mode.is_empty() {
            let _ = write!(text, "\n## {}\n\n{}\n\n", mode.title(), mode.explained());
            write_table(&mut text, &of_mode);
        }
    }
    text
}

fn write_table(text: &mut String, cells: &[&Cell]) {
    let columns: BTreeSet<String> = cells.iter().map(|cell| cell.column()).collect();
    let mut rows: BTreeMap<_, (&str, BTreeMap<String, &str>)> = BTreeMap::new();
    for cell in cells {
        let row = rows.entry(cell.row()).or_insert_with(|| (&*cell.engine, BTreeMap::new()));
        row.1.insert(cell.column(), cell.mark());
    }
    let line = |text: &mut String, words: &[&str]| {
        let _ = writeln!(text, "| {} |", words.join(" | "));
    };
    let heads: Vec<&str> =
        ["Engine", "Network"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    line(text, &heads);
    line(text, &vec!["---"; heads.len()]);
    for ((_, families), (engine, marks)) in rows {
        let marks = columns.iter().map(|column| marks.get(column).copied().unwrap_or(""));
        let words: Vec<&str> = [engine, families.title()].into_iter().chain(marks).collect();
        line(text, &words);
    }
}

/// Whether a document says of a cell what has come out now.
pub(crate) fn claims(document: &str, cell: &Cell) -> bool {
    let section = document.split("\n## ").find(|part| part.starts_with(cell.mode.title()));
    let mut lines = section.unwrap_or_default().lines().filter(|line| line.starts_with('|'));
    let words = |line: &str| -> Vec<String> { line.split('|').map(|word| word.trim().to_owned()).collect() };
    let heads = lines.next().map(words).unwrap_or_default();
    let Some(column) = heads.iter().position(|head| *head == cell.column()) else { return false };
    lines.map(words).any(|row| {
        row.get(1) == Some(&cell.engine)
            && row.get(2).map(String::as_str) == Some(cell.families.title())
            && row.get(column).map(String::as_str) == Some(cell.mark())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(engine: &str, store: StoreKind, verdict: Verdict) -> Cell {
        let (mode, families, underlay) = (Mode::Plain, Families::Four, Family::V4);
        Cell { mode, engine: engine.to_owned(), families, store, underlay, verdict }
    }

    #[test]
    fn a_document_claims_what_it_was_written_from_and_nothing_else() {
        let passed = cell("20.10.24", StoreKind::Etcd, Verdict::Passed);
        let refused = cell("9.9", StoreKind::Etcd, Verdict::NotOffered);
        let text = markdown(&[passed.clone(), refused.clone()]);
        assert!(claims(&text, &passed) && claims(&text, &refused), "{text}");
        assert!(
            text.find("| 9.9 ").unwrap() < text.find("| 20.10.24 ").unwrap(),
            "releases by number: {text}"
        );
        for other in [
            cell("20.10.24", StoreKind::Consul, Verdict::Passed),
            cell("26.1.5", StoreKind::Etcd, Verdict::Passed),
            cell("9.9", StoreKind::Etcd, Verdict::Passed),
        ] {
            assert!(!claims(&text, &other), "{other:?} in {text}");
        }
    }
}
