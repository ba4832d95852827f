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
    texts: Option<Vec<String>>,
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
        reach(host, moment, || format!("file {file}"));
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

/// An effect of the daemon on `host` is about to take place, or has. Does not return if that is its end.
pub(crate) fn reach(host: usize, moment: Moment, what: impl Fn() -> String) {
    journal::note(|| {
        format!("host{host}: {} {}", if moment == Moment::Before { "->" } else { "ok" }, what())
    });
    let over = with(|effects| {
        let seen = effects.seen.entry(host).or_default();
        if moment == Moment::Before {
            *seen += 1;
            if let Some(texts) = &mut effects.texts {
                texts.push(format!("host{host}: {}", what()));
            }
        }
        let at = *seen - 1;
        let over = effects.endings.get(&host).is_some_and(|end| end.at == at && end.moment == moment);
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

/// From now on the effects of all hosts are listed.
pub(crate) fn list() {
    with(|effects| effects.texts = Some(Vec::new()));
}

/// The list so far.
pub(crate) fn listed() -> Vec<String> {
    with(|effects| effects.texts.clone().unwrap_or_default())
}
