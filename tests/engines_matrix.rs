//! Which engines work in which mode, on which store, over which underlay, with which families: each cell is
//! a network from its creation to its removal, and what passed is written down as a table.
//!
//! A plain run has each mode once. `make test-all` runs everything, which takes some minutes, and writes
//! `docs/COMPATIBILITY.md`. `RS_OVERLAY_MATRIX=plain,consul` runs the cases whose titles have these words.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

#[path = "engines/dns.rs"]
mod dns;

#[path = "engines/plugin.rs"]
mod plugin;

#[path = "engines/matrix/case.rs"]
mod case;

#[path = "engines/matrix/life.rs"]
mod life;

#[path = "engines/matrix/table.rs"]
mod table;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
    thread,
};

use case::Case;
use table::{Cell, Verdict};

/// `all` (set by `make test-all`), or words that choose some cases.
const CHOICE: &str = "RS_OVERLAY_MATRIX";

#[test]
fn every_cell_passes() {
    if !kit::allowed() {
        return;
    }
    let choice = std::env::var(CHOICE).unwrap_or_default();
    let cells = play(match &*choice {
        "" => Case::few(),
        "all" => Case::all(),
        words => Case::all().into_iter().filter(|case| case.has_all(words)).collect(),
    });
    let text = table::markdown(&cells);
    eprintln!("{text}");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/COMPATIBILITY.md");
    if choice == "all" {
        fs::write(&document, &text).unwrap();
    } else if choice.is_empty() {
        let written = fs::read_to_string(&document).unwrap();
        let missing: Vec<_> = cells.iter().filter(|cell| !table::claims(&written, cell)).collect();
        assert!(missing.is_empty(), "`make test-all` has never written down that these pass: {missing:?}");
    }
    let failed: Vec<_> = cells.iter().filter(|cell| matches!(cell.verdict, Verdict::Failed(_))).collect();
    assert!(failed.is_empty(), "these cells failed: {failed:#?}");
}

/// Plays the cases, two labs at a time. A case that fails half way keeps what it has shown until then.
fn play(cases: Vec<Case>) -> Vec<Cell> {
    let left = Mutex::new(cases.into_iter());
    let cells = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = { left.lock().unwrap().next() } {
                    let tell = |cell: Cell| {
                        eprintln!("{cell:?}");
                        cells.lock().unwrap().push(cell);
                    };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| life::play(&case, &tell))) {
                        tell(case.failed(&words(&*panic)));
                    }
                }
            });
        }
    });
    cells.into_inner().unwrap()
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
