//! Where a simulation stands beside the state directory: it is asked before each change of a file and told
//! after it, so that it can count changes, refuse one as a full disk does, or end the daemon between two.

use std::{cell::RefCell, io, path::Path, rc::Rc};

/// When a witness is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet; an error takes the place of the change.
    Before,
    /// The change is there. An error here counts for nothing.
    After,
}

/// Who is asked and told, with the file.
pub type Witness = Rc<dyn Fn(&Path, Moment) -> io::Result<()>>;

thread_local! {
    static WITNESS: RefCell<Option<Witness>> = const { RefCell::new(None) };
}

/// From now on `witness` sees all changes that this thread makes; `None` ends that. A daemon has none.
pub fn set(witness: Option<Witness>) {
    WITNESS.with(|current| *current.borrow_mut() = witness);
}

/// Makes a change in front of the witness.
pub(super) fn seen(path: &Path, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let witness = WITNESS.with(|current| current.borrow().clone());
    let Some(witness) = witness else { return change() };
    witness(path, Moment::Before)?;
    change()?;
    let _ = witness(path, Moment::After);
    Ok(())
}
