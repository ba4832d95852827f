//! What happened, line by line, for whoever wants to know: nothing is written unless a run is recorded.

use std::cell::RefCell;

use tokio::time::Instant;

#[derive(Default)]
struct Journal {
    start: Option<Instant>,
    lines: Option<Vec<String>>,
    script: Vec<String>,
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::default();
}

/// Begins anew; `record` keeps every line and not only the script.
pub(crate) fn begin(record: bool) {
    JOURNAL.with(|journal| {
        *journal.borrow_mut() =
            Journal { start: Some(Instant::now()), lines: record.then(Vec::new), script: Vec::new() };
    });
}

/// From now on every line is kept, if it was not before.
pub(crate) fn keep_lines() {
    JOURNAL.with(|journal| _ = journal.borrow_mut().lines.get_or_insert_default());
}

/// One more line.
pub(crate) fn note(line: impl FnOnce() -> String) {
    JOURNAL.with(|journal| {
        let mut journal = journal.borrow_mut();
        let at = at(journal.start);
        if let Some(lines) = &mut journal.lines {
            lines.push(format!("{at} {}", line()));
        }
    });
}

/// One more step of the script: what a person did, or what went wrong in the world.
pub(crate) fn step(line: impl Into<String>) {
    let line = line.into();
    note(|| format!("== {line}"));
    JOURNAL.with(|journal| {
        let mut journal = journal.borrow_mut();
        let at = at(journal.start);
        journal.script.push(format!("{at} {line}"));
    });
}

fn at(start: Option<Instant>) -> String {
    let since = start.map(|start| start.elapsed()).unwrap_or_default();
    format!("{:>8.3}", since.as_secs_f64())
}

/// The script so far.
pub(crate) fn script() -> Vec<String> {
    JOURNAL.with(|journal| journal.borrow().script.clone())
}

/// All lines so far.
pub(crate) fn lines() -> Vec<String> {
    JOURNAL.with(|journal| journal.borrow().lines.clone().unwrap_or_default())
}
