//! What is being measured, and how far it is: one line that changes on a terminal, now and then a line elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a line is written where it cannot be replaced.
const PAUSE: Duration = Duration::from_secs(15);

/// Tells a person who waits.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    group: String,
    written: Option<Instant>,
}

impl Progress {
    /// The clock starts now.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), terminal: io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// Begins a group of figures.
    pub(crate) fn group(&self, title: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { group: title.to_owned(), written: None };
        self.write(&mut state, "");
    }

    /// What of the group is being done now, such as `round 2 of 5: TCP, one stream`.
    pub(crate) fn step(&self, what: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.terminal || state.written.is_none_or(|at| at.elapsed() > PAUSE) {
            self.write(&mut state, what);
        }
    }

    /// A line that stays.
    pub(crate) fn tell(&self, line: &str) {
        let (clear, seconds) = (if self.terminal { "\r\x1b[K" } else { "" }, self.begun.elapsed().as_secs());
        // Nobody is left to be told when this fails.
        let _ = writeln!(io::stderr(), "{clear}[{:02}:{:02}] {line}", seconds / 60, seconds % 60);
    }

    fn write(&self, state: &mut State, what: &str) {
        state.written = Some(Instant::now());
        let colon = if what.is_empty() { "" } else { ": " };
        let line = format!("{}{colon}{what}", state.group);
        if !self.terminal {
            return self.tell(&line);
        }
        let seconds = self.begun.elapsed().as_secs();
        let mut out = io::stderr().lock();
        let _ = write!(out, "\r\x1b[K[{:02}:{:02}] {line}", seconds / 60, seconds % 60)
            .and_then(|()| out.flush());
    }
}
