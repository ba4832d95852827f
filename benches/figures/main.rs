//! `make bench`: the figures of docs/performance.md, measured anew on this machine.

#![allow(clippy::cast_precision_loss, reason = "counts of a figure are far below where an `f64` rounds")]

mod between;
mod clocked;
mod document;
mod ending;
mod figure;
mod goals;
mod machine;
mod options;
mod pictures;
mod progress;
mod report;
mod rounds;
mod stage;
mod table;

mod build;
mod convergence;
mod memory;
mod names;
mod reach;
mod resync;
mod starts;
mod traffic;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Result, ensure};
use clap::Parser;
use netns_harness::interrupt;

use figure::Figure;
use machine::Machine;
use options::Options;
use progress::Progress;
use report::{Measured, Report};

/// Exit code after an interrupt, as shells give it.
const INTERRUPTED: u8 = 130;

/// What every group of figures gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// The `rs-overlay` that is measured: an optimised build.
    pub(crate) daemon: std::path::PathBuf,
    /// Fewer rounds.
    pub(crate) quick: bool,
    /// Build the daemon from nothing, too.
    pub(crate) cold_build: bool,
    /// Where it is told what is being measured.
    pub(crate) progress: Progress,
}

impl Context {
    /// One number for a run in full, and one for a quick one.
    pub(crate) fn rounds(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// A group of figures: number, title, how it is measured.
type Group = (u8, &'static str, Measuring);

type Measuring = fn(&Context) -> Result<Vec<Figure>>;

const GROUPS: [Group; 8] = [
    (1, "The data path", traffic::run),
    (2, "docker run and docker rm", starts::run),
    (3, "Start to reachable", reach::run),
    (4, "Convergence at size", convergence::run),
    (5, "Resync", resync::run),
    (6, "Names", names::run),
    (7, "Memory and CPU", memory::run),
    (8, "Binary and build", build::run),
];

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "figures: {error:#}");
            if interrupt::interrupted() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// Measures all groups that were asked for; answers whether all of them could be.
fn measure(options: &Options) -> Result<bool> {
    ensure!(nix::unistd::geteuid().is_root(), "root is needed: Docker hosts are made of namespaces");
    ensure!(options.daemon.is_file(), "there is no rs-overlay at {}", options.daemon.display());
    interrupt::on_signals()?;
    let context = Arc::new(Context {
        daemon: std::path::absolute(&options.daemon)?,
        quick: options.quick,
        cold_build: options.cold_build,
        progress: Progress::new(),
    });
    let mut report = Report { machine: Machine::of_this_run(), quick: options.quick, groups: Vec::new() };
    for (number, title, run) in GROUPS {
        if !options.only.is_empty() && !options.only.contains(&number) {
            continue;
        }
        context.progress.group(&format!("{number} {title}"));
        let begun = Instant::now();
        let outcome = ending::or_ended(&context, run)?.map_err(|error| format!("{error:#}"));
        ensure!(!interrupt::interrupted(), "interrupted");
        let seconds = begun.elapsed().as_secs_f64();
        match &outcome {
            Ok(figures) => {
                context
                    .progress
                    .tell(&format!("{number} {title}: {} figures, {seconds:.0} s", figures.len()));
            }
            Err(why) => context.progress.tell(&format!("{number} {title} FAILED: {why}")),
        }
        report.groups.push(Measured { number, title, seconds, outcome });
    }
    let path = report.write(&options.out)?;
    if let Some(document) = &options.document {
        document::update(&report, document)?;
    }
    writeln!(io::stdout(), "{}\nIn full, with pictures: {}", report.printed(), path.display())?;
    Ok(report.is_whole())
}
