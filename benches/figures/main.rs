//! `make bench`: the figures of docs/performance.md, measured anew on this machine.

mod figure;

mod build;
mod convergence;
mod memory;
mod names;
mod reach;
mod resync;
mod starts;
mod traffic;

use anyhow::Result;

use figure::Figure;

/// What every group of figures gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// The `rs-overlay` that is measured: an optimised build.
    pub(crate) daemon: std::path::PathBuf,
}

/// A group of figures: number, title, how it is measured.
type Group = (u8, &'static str, fn(&Context) -> Result<Vec<Figure>>);

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

fn main() -> Result<()> {
    let context = Context { daemon: "target/release/rs-overlay".into() };
    let only: Vec<u8> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    for (number, title, run) in GROUPS {
        if !only.is_empty() && !only.contains(&number) {
            continue;
        }
        eprintln!("{number} {title}");
        for figure in run(&context)? {
            for series in &figure.series {
                let q = |share| series.quantile(share);
                eprintln!(
                    "  {:<24} {:<16} p50 {:>10.3} p99 {:>10.3} max {:>10.3} {} (n {})",
                    figure.key, series.subject, q(0.5), q(0.99), q(1.0), figure.unit, series.samples.len()
                );
            }
        }
    }
    Ok(())
}
