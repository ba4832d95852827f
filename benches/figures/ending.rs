//! A group of figures that ends when it is done, when it dies, or when somebody has had enough of it.

use std::{
    fs,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use netns_harness::interrupt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Context, Measuring, figure::Figure};

/// How long a group may go on after an interrupt: taking hosts down takes seconds.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is looked whether there was one.
const LOOK: Duration = Duration::from_millis(100);

/// What a group has measured, or why it could not; an error is an interrupt that the group did not heed. Hosts and
/// namespaces end with this process then, and its children are ended here.
pub(crate) fn or_ended(context: &Arc<Context>, run: Measuring) -> Result<Result<Vec<Figure>>> {
    let (tell, told) = sync_channel(1);
    let theirs = Arc::clone(context);
    // Not joined after an interrupt: the process ends.
    thread::spawn(move || tell.send(run(&theirs)));
    let mut interrupted: Option<Instant> = None;
    loop {
        match told.recv_timeout(LOOK) {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(anyhow!("the thread that measures died"))),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt::interrupted() && interrupted.get_or_insert_with(Instant::now).elapsed() > GRACE {
            end_children();
            bail!("interrupted");
        }
    }
}

/// Kills the processes that this one has started and that still run.
fn end_children() {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let own = std::process::id().to_string();
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything: fields are counted from its end.
        let parent = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1));
        if parent == Some(own.as_str()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
