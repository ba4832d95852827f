//! A host's kernel: what `plan::apply` says, step by step, and at times not at once.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use rs_overlay::{
    dataplane::{Changed, Dataplane, DataplaneError, Prober, fake::FakeKernel},
    model::Vni,
    plan::{Op, Overlay},
};
use tokio::{sync::mpsc, time::sleep};

use super::{
    effects,
    host::{self, Host},
    luck,
};

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

    fn has_fast_path(&self) -> bool {
        self.inner.has_fast_path()
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        self.inner.events()
    }
}

/// Asks other hosts' kernels, from one host.
pub(crate) struct SimProber(pub(crate) usize);

/// Whether a host's kernel answers to others.
pub(crate) fn answers(host: &Host) -> bool {
    let overlay = host.kernel.overlay();
    let probe = overlay.segments.get(&Vni::PROBE).is_some_and(|segment| segment.vxlan.port != 0);
    host.powered && !host.paused && !host.isolated && probe
}

impl Prober for SimProber {
    fn answers(&self, vtep: IpAddr) -> BoxFuture<'_, Result<bool, DataplaneError>> {
        async move {
            // The last octet is the host's number and one.
            let IpAddr::V4(v4) = vtep else { return Ok(false) };
            let other = usize::from(v4.octets()[3]) - 1;
            for _ in 0..4 {
                let here = host::with(self.0, |host| host.powered && !host.isolated);
                if here && host::with(other, |host| answers(host)) {
                    tokio::time::sleep(luck::millis(0..3)).await;
                    return Ok(true);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(false)
        }
        .boxed()
    }
}
