//! A host's kernel: what `plan::apply` says, step by step, and at times not at once.

use std::sync::Arc;

use rs_overlay::{
    dataplane::{Changed, Dataplane, DataplaneError, fake::FakeKernel},
    plan::{Op, Overlay},
};
use tokio::{sync::mpsc, time::sleep};

use super::{effects, luck};

/// The kernel of one host. It outlives the daemon.
pub(crate) struct SimKernel {
    pub(crate) host: usize,
    pub(crate) inner: Arc<FakeKernel>,
}

impl Dataplane for SimKernel {
    async fn observe(&self) -> Result<Overlay, DataplaneError> {
        sleep(luck::millis(0..3)).await;
        self.inner.observe().await
    }

    async fn apply(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            let number = effects::before(self.host, || op.to_string());
            results.extend(self.inner.apply(std::slice::from_ref(op)).await);
            effects::after(self.host, number, || op.to_string());
            if luck::percent(20) {
                sleep(luck::millis(0..4)).await;
            }
        }
        results
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        self.inner.events()
    }
}
