//! What a daemon does to the world outside: each change of the store, of a file, of the kernel, of the
//! engine. They are counted, and a daemon can be killed just before or just after any of them.

use std::{cell::RefCell, collections::BTreeMap, io, path::Path, rc::Rc};

use rs_overlay::local::witness::{self, Moment};

use super::{deck::Killed, journal};

/// A daemon's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// At which effect from now, counted from 0.
    pub(crate) at: usize,
    /// Before it or after it.
    pub(crate) moment: Moment,
}

#[derive(Default)]
struct Effects {
    seen: BTreeMap<usize, usize>,
    endings: BTreeMap<usize, Ending>,
    full: BTreeMap<usize, bool>,
}

thread_local! {
    static EFFECTS: RefCell<Effects> = RefCell::default();
}

fn with<T>(look: impl FnOnce(&mut Effects) -> T) -> T {
    EFFECTS.with(|effects| look(&mut effects.borrow_mut()))
}

/// Begins anew, and watches the files below `root`, where each host has a directory of its number.
pub(crate) fn begin(root: &Path) {
    with(|effects| *effects = Effects::default());
    let root = root.to_owned();
    witness::set(Some(Rc::new(move |path, moment| {
        let Some((host, file)) = place(&root, path) else { return Ok(()) };
        if moment == Moment::Before && with(|effects| effects.full.get(&host).copied().unwrap_or(false)) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        // A change of a file is over before anything else begins.
        let what = || format!("file {file}");
        match moment {
            Moment::Before => _ = before(host, what),
            Moment::After => after(host, count(host) - 1, what),
        }
        Ok(())
    })));
}

/// Ends the watch.
pub(crate) fn end() {
    witness::set(None);
}

fn place(root: &Path, path: &Path) -> Option<(usize, String)> {
    let below = path.strip_prefix(root).ok()?;
    let host = below.iter().next()?.to_str()?.parse().ok()?;
    Some((host, below.iter().skip(1).collect::<std::path::PathBuf>().display().to_string()))
}

/// An effect of the daemon on `host` is about to take place; answers its number. Does not return if that is
/// the daemon's end.
pub(crate) fn before(host: usize, what: impl Fn() -> String) -> usize {
    let number = with(|effects| {
        let seen = effects.seen.entry(host).or_default();
        *seen += 1;
        *seen - 1
    });
    pass(host, number, Moment::Before, what);
    number
}

/// The effect of that number has taken place. Does not return if that is the daemon's end.
pub(crate) fn after(host: usize, number: usize, what: impl Fn() -> String) {
    pass(host, number, Moment::After, what);
}

fn pass(host: usize, at: usize, moment: Moment, what: impl Fn() -> String) {
    journal::note(|| {
        format!("host{host}: {} {}", if moment == Moment::Before { "->" } else { "ok" }, what())
    });
    let over = with(|effects| {
        let over = effects.endings.get(&host) == Some(&Ending { at, moment });
        if over {
            effects.endings.remove(&host);
        }
        over
    });
    if over {
        journal::note(|| format!("host{host}: the daemon is killed {moment:?} {}", what()));
        std::panic::resume_unwind(Box::new(Killed(host)));
    }
}

/// The daemon on `host` ends at an effect that is still to come.
pub(crate) fn end_at(host: usize, ending: Ending) {
    with(|effects| {
        let seen = effects.seen.get(&host).copied().unwrap_or_default();
        effects.endings.insert(host, Ending { at: seen + ending.at, ..ending });
    });
}

/// Nobody is to end any more.
pub(crate) fn spare_all() {
    with(|effects| {
        effects.endings.clear();
        effects.full.clear();
    });
}

/// Whether an end is still to come.
pub(crate) fn is_to_end(host: usize) -> bool {
    with(|effects| effects.endings.contains_key(&host))
}

/// The disk of `host` is full, or no longer.
pub(crate) fn fill_disk(host: usize, full: bool) {
    with(|effects| effects.full.insert(host, full));
}

/// How many effects the daemons of `host` have had.
pub(crate) fn count(host: usize) -> usize {
    with(|effects| effects.seen.get(&host).copied().unwrap_or_default())
}
