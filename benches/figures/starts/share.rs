//! The driver's own share of a start, from the daemon's log: calls of the engine, and what happens inside.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use netns_harness::{Host, Signal, interrupt};
use serde_json::Value;

use crate::{
    Context,
    clocked::docker,
    figure::{Better::Lower, Figure, OURS, Series},
};

/// Calls of a start, in the engine's order; the last one is not made where a container has a gateway elsewhere.
const CALLS: [&str; 4] = [
    "IpamDriver.RequestAddress",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.Join",
    "NetworkDriver.ProgramExternalConnectivity",
];

/// What happens inside of them, and what the worker does meanwhile.
const STEPS: [&str; 6] = [
    "records written and synced",
    "records written",
    "planning",
    "kernel",
    "Join's wait for the kernel",
    "all else",
];

/// Times of one start, in microseconds.
#[derive(Debug, Default)]
struct Start {
    calls: BTreeMap<String, f64>,
    steps: BTreeMap<&'static str, f64>,
}

/// Starts containers under a daemon that logs all it does, which is then restarted as it was.
pub(super) fn measure(context: &Context, host: &Host, network: &str) -> Result<Vec<Figure>> {
    host.daemon_kill(Signal::SIGTERM)?;
    host.daemon_start_with(&["--log-level", "debug", "--log-format", "json"])?;
    let mut starts = Vec::new();
    for round in 0..=context.rounds(12, 4) {
        ensure!(!interrupt::interrupted(), "interrupted");
        let before = host.daemon_log().len();
        let name = format!("logged{round}");
        docker(host, &["run", "-d", "--name", &name, "--net", network, "busybox", "sleep", "3600"])?;
        let log = host.daemon_log();
        docker(host, &["rm", "-f", &name])?;
        // The first one after the daemon's start finds it still busy.
        if round > 0 {
            starts.push(read(&log[before..]).context("the daemon's log")?);
        }
    }
    host.daemon_restart(Signal::SIGTERM)?;
    Ok(figures(&starts))
}

fn read(log: &str) -> Result<Start> {
    let mut start = Start::default();
    for line in log.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let time = |key: &str| line[key].as_f64();
        let method = line["spans"][0]["method"].as_str().filter(|method| CALLS.contains(method));
        match (line["message"].as_str().unwrap_or_default(), method) {
            ("answered", Some(method)) => {
                *start.calls.entry(method.to_owned()).or_default() +=
                    time("took_us").context("no took_us")?;
            }
            ("written", Some(_)) => {
                let step = if line["durable"] == true { STEPS[0] } else { STEPS[1] };
                *start.steps.entry(step).or_default() += time("took_us").context("no took_us")?;
            }
            ("link waited for", Some(_)) => {
                *start.steps.entry(STEPS[4]).or_default() += time("took_us").context("no took_us")?;
            }
            ("planned and applied", _) if time("steps") > Some(0.0) => {
                *start.steps.entry(STEPS[2]).or_default() += time("plan_us").context("no plan_us")?;
                *start.steps.entry(STEPS[3]).or_default() += time("kernel_us").context("no kernel_us")?;
            }
            _ => {}
        }
    }
    ensure!(
        CALLS[..3].iter().all(|call| start.calls.contains_key(*call)),
        "not all calls are in it: {:?}",
        start.calls
    );
    let inside = [0, 1, 4].iter().filter_map(|step| start.steps.get(STEPS[*step])).sum::<f64>();
    start.steps.insert(STEPS[5], start.calls.values().sum::<f64>() - inside);
    Ok(start)
}

fn figures(starts: &[Start]) -> Vec<Figure> {
    let series =
        |subject: &str, of: &dyn Fn(&Start) -> f64| Series::new(subject, starts.iter().map(of).collect());
    let figure = |key, title: &str, note: &str, series| Figure {
        key,
        title: title.to_owned(),
        unit: "us",
        better: Lower,
        series,
        note: Some(note.to_owned()),
    };
    let made = CALLS.iter().filter(|call| starts.iter().any(|start| start.calls.contains_key(**call)));
    let calls = made.map(|call| {
        let short = call.split('.').next_back().unwrap_or(call);
        series(short, &|start| start.calls.get(*call).copied().unwrap_or_default())
    });
    let steps = STEPS.map(|step| series(step, &|start| start.steps.get(step).copied().unwrap_or_default()));
    vec![
        figure(
            "driver-start",
            "The driver's share of docker run",
            "all calls of a start together, from the daemon's log at level debug, which costs something itself",
            vec![series(OURS, &|start| start.calls.values().sum())],
        ),
        figure("driver-calls", "The driver's calls in docker run", "the same, call by call", calls.collect()),
        figure(
            "driver-steps",
            "Inside the driver's calls",
            "planning and kernel are the worker's, beside the calls; of their time Join waits for the rest that is \
             left when it comes",
            steps.into(),
        ),
    ]
}
