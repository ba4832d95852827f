//! One flag that makes every wait and every command of this process give up early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ask every running and future command of this process to give up: called from a signal's thread.
///
/// Teardown does not listen to it, so what was half built is still taken down.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// From now on, what would end this process (SIGINT, SIGTERM, SIGHUP) makes it give up early instead, and take down
/// what it built.
pub fn on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    // Ends with the process: there is nothing to join it for.
    thread::spawn(move || signals.forever().for_each(|_| interrupt()));
    Ok(())
}
