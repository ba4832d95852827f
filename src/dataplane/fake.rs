//! A kernel in memory that follows the law of `plan::apply`, for tests and dry runs.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{Changed, Dataplane, DataplaneError};
use crate::plan::{Op, Overlay, apply};

/// A kernel in memory.
#[derive(Debug, Default)]
pub struct FakeKernel {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    overlay: Overlay,
    log: Vec<Op>,
    refuse: Option<String>,
    listeners: Vec<mpsc::Sender<Changed>>,
}

impl FakeKernel {
    /// What is there now.
    pub fn overlay(&self) -> Overlay {
        self.with(|state| state.overlay.clone())
    }

    /// Every step it has been given, in order.
    pub fn log(&self) -> Vec<Op> {
        self.with(|state| state.log.clone())
    }

    /// From now on every step whose text contains `part` is refused; `None` ends that.
    pub fn refuse(&self, part: Option<&str>) {
        self.with(|state| state.refuse = part.map(str::to_owned));
    }

    /// Changes the state behind the reconciler's back and tells it to look.
    pub fn meddle(&self, change: impl FnOnce(&mut Overlay)) {
        self.with(|state| {
            change(&mut state.overlay);
            // A full channel already says "look again", and a closed one has nobody to tell.
            state.listeners.retain(|listener| {
                !matches!(listener.try_send(Changed), Err(mpsc::error::TrySendError::Closed(_)))
            });
        });
    }

    /// The daemon has ended, and with it what belongs to it and not to the kernel: the fast path's programs.
    pub fn end_programs(&self) {
        self.with(|state| {
            for segment in state.overlay.segments.values_mut() {
                segment.fast = false;
                segment.ports.values_mut().for_each(|port| port.fast = false);
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Dataplane for FakeKernel {
    async fn observe(&self) -> Result<Overlay, DataplaneError> {
        Ok(self.overlay())
    }

    async fn apply(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        self.with(|state| {
            let mut results = Vec::with_capacity(ops.len());
            for op in ops {
                state.log.push(op.clone());
                let text = op.to_string();
                if state.refuse.as_ref().is_some_and(|part| text.contains(part.as_str())) {
                    results
                        .push(Err(DataplaneError::Refused { what: text, detail: "told to refuse".into() }));
                } else {
                    state.overlay = apply(std::slice::from_ref(op), std::mem::take(&mut state.overlay));
                    results.push(Ok(()));
                }
            }
            results
        })
    }

    fn has_fast_path(&self) -> bool {
        true
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        let (sender, receiver) = mpsc::channel(1);
        self.with(|state| state.listeners.push(sender));
        Ok(receiver)
    }
}
