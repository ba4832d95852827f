//! `fault`: what can go wrong with a lab's parts, one at a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use netns_harness::{Host, Lab, Signal, interrupt};

use super::{LabName, pick, progress};

/// Which part, and what happens to it.
#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    #[command(flatten)]
    lab: LabName,
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The store's server
    Store {
        /// What happens to it
        #[command(subcommand)]
        what: StoreFault,
    },
    /// A host as a whole
    Host {
        /// Number of the host, from 1
        host: usize,
        /// What happens to it
        #[arg(value_enum)]
        what: HostFault,
    },
    /// The rs-overlay daemon of a host
    Daemon {
        /// Number of the host, from 1
        host: usize,
        /// What happens to it
        #[arg(value_enum)]
        what: ProgramFault,
    },
    /// The Docker engine of a host
    Engine {
        /// Number of the host, from 1
        host: usize,
        /// What happens to it
        #[arg(value_enum)]
        what: ProgramFault,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum StoreFault {
    /// Kill it without notice; its data stay
    Kill,
    /// Start it
    Start,
    /// Stop it in its tracks: connections stay open and nobody answers
    Pause,
    /// Let it go on
    Resume,
    /// Lose all data; one that runs starts again empty
    Wipe,
    /// Answer late, for all hosts, until the time is over
    Slow {
        /// Seconds that an answer may take
        #[arg(long, default_value_t = 5)]
        answers: u64,
        /// Seconds until all is well again
        #[arg(long = "for", default_value_t = 60)]
        time: u64,
    },
    /// End and start again and again until the time is over
    Flap {
        /// Seconds between an end and a start
        #[arg(long, default_value_t = 2)]
        off: u64,
        /// Seconds between a start and an end
        #[arg(long, default_value_t = 2)]
        on: u64,
        /// Seconds until all is well again
        #[arg(long = "for", default_value_t = 60)]
        time: u64,
    },
    /// etcd: start it with a small quota and use that up, so that it takes nothing more
    Fill,
    /// etcd: take away what `fill` has put
    Drain,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HostFault {
    /// Drop all frames of its cable while the link stays up
    Cut,
    /// Forward them again
    Heal,
    /// Drop what goes to and comes from the store's server, and nothing else
    CutStore,
    /// Let that through again
    HealStore,
    /// Stop all its processes (SIGSTOP); the kernel, which all hosts share, goes on
    Freeze,
    /// Let them go on
    Thaw,
    /// Freeze and cut, as a paused virtual machine looks to others
    Suspend,
    /// Undo it
    Resume,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProgramFault {
    /// End it with SIGKILL
    Kill,
    /// End it with SIGTERM
    Stop,
    /// Start it
    Start,
    /// End it with SIGTERM and start it
    Restart,
}

/// Make it happen; gives when it has happened, and with those that take a time when all is well again.
pub(super) fn fault(args: &FaultArgs) -> Result<()> {
    let lab = Lab::attach(&args.lab.name)?;
    match args.part {
        Part::Store { what } => on_store(&lab, what),
        Part::Host { host, what } => on_host(pick(&lab, host)?, what),
        Part::Daemon { host, what } => {
            let host = pick(&lab, host)?;
            match what {
                ProgramFault::Kill => host.daemon_kill(Signal::SIGKILL),
                ProgramFault::Stop => host.daemon_kill(Signal::SIGTERM),
                ProgramFault::Start => host.daemon_start(),
                ProgramFault::Restart => host.daemon_restart(Signal::SIGTERM),
            }
        }
        Part::Engine { host, what } => {
            let host = pick(&lab, host)?;
            match what {
                ProgramFault::Kill => host.engine_stop(Signal::SIGKILL),
                ProgramFault::Stop => host.engine_stop(Signal::SIGTERM),
                ProgramFault::Start => host.engine_start(),
                ProgramFault::Restart => host.engine_restart(Signal::SIGTERM),
            }
        }
    }
}

fn on_store(lab: &Lab, what: StoreFault) -> Result<()> {
    let store = lab.store();
    let seconds = Duration::from_secs;
    match what {
        StoreFault::Kill => store.kill(),
        StoreFault::Start => store.start(),
        StoreFault::Pause => store.pause(),
        StoreFault::Resume => store.resume(),
        StoreFault::Wipe => store.wipe(),
        StoreFault::Slow { answers, time } => {
            interrupt::on_signals()?;
            store.slow(seconds(answers), || linger("the store is slow", time))
        }
        StoreFault::Flap { off, on, time } => {
            interrupt::on_signals()?;
            store.flap(seconds(off), seconds(on), || linger("the store flaps", time))
        }
        StoreFault::Fill => {
            store.restart_with(&["--quota-backend-bytes", "16777216"])?;
            store.fill()
        }
        StoreFault::Drain => store.drain(),
    }
}

fn on_host(host: &Host, what: HostFault) -> Result<()> {
    match what {
        HostFault::Cut => host.cut(true),
        HostFault::Heal => host.cut(false),
        HostFault::CutStore => host.cut_store(true),
        HostFault::HealStore => host.cut_store(false),
        HostFault::Freeze => host.freeze(),
        HostFault::Thaw => host.thaw(),
        HostFault::Suspend => host.suspend(),
        HostFault::Resume => host.resume(),
    }
}

/// Wait, or be interrupted: both end the fault.
fn linger(what: &str, seconds: u64) {
    progress(&format!("{what} for {seconds} s; an interrupt ends it"));
    let (started, time) = (Instant::now(), Duration::from_secs(seconds));
    while started.elapsed() < time && !interrupt::interrupted() {
        thread::sleep(Duration::from_millis(20));
    }
}
