//! The command line of the bench.

use std::path::PathBuf;

use clap::Parser;

use crate::GROUPS;

/// Measure rs-overlay on this machine, beside what it competes with.
///
/// Needs root: Docker hosts are made of namespaces, and all of them are torn down in the end. A run takes about ten
/// minutes on two cores. It prints a table and writes report.md, report.json and pictures.
#[derive(Debug, Parser)]
#[command(name = "figures", after_help = groups(), max_term_width = 100)]
pub(crate) struct Options {
    /// Only these groups of figures: numbers with commas between them
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) only: Vec<u8>,
    /// Fewer rounds: all in about two minutes, for a first look
    #[arg(long)]
    pub(crate) quick: bool,
    /// Build the daemon from nothing, in two profiles, and take the time: some more minutes
    #[arg(long)]
    pub(crate) cold_build: bool,
    /// The rs-overlay that is measured
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_rs-overlay"))]
    pub(crate) daemon: PathBuf,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// Put the tables into this Markdown file as well, between its two marks, and the main pictures beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
    /// Cargo says so when it runs a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn groups() -> String {
    let lines = GROUPS.iter().map(|(number, title, _)| format!("\n  {number}  {title}"));
    format!("Groups:{}", lines.collect::<String>())
}
