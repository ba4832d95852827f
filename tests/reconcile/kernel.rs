//! The worker: steps that fail, others that meddle, events that stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rs_overlay::{
    dataplane::{Changed, Dataplane, DataplaneError, fake::FakeKernel},
    plan::{Op, Overlay},
    watched::Watched,
};
use tokio::sync::mpsc;

use super::host::{Host, StoreHost, check, endpoint_id, fill, remote, until, vni};

fn has_port(overlay: &Overlay, id: &str) -> bool {
    overlay.segments.get(&vni()).is_some_and(|segment| segment.ports.contains_key(&endpoint_id(id)))
}

#[tokio::test]
async fn a_failing_step_is_told_at_join_and_tried_again_until_it_works() {
    let store = StoreHost::start().await;
    let kernel = Arc::new(FakeKernel::default());
    let host = Host::start(store.client(), Arc::clone(&kernel));
    kernel.refuse(Some("add port"));
    host.attach("e1", 2);
    let told = host.driver.join(&endpoint_id("e1"), "/var/run/docker/netns/x").await.unwrap_err().to_string();
    assert!(told.contains("told to refuse"), "{told}");
    // The rest of the network is there nevertheless, and the step was tried more than once.
    assert!(kernel.overlay().segments.contains_key(&vni()), "{:?}", kernel.overlay());
    let tries = kernel.log().iter().filter(|op| matches!(op, Op::AddPort { .. })).count();
    assert!(tries > 1, "{:?}", kernel.log());
    kernel.refuse(None);
    // The pause before the next attempt may be longer than a call may last.
    host.kernel_is("the port", &kernel, |overlay| has_port(overlay, "e1")).await;
    let link = host.driver.join(&endpoint_id("e1"), "/var/run/docker/netns/x").await.unwrap();
    assert!(!link.is_empty() && has_port(&kernel.overlay(), "e1"));
    until("the complaint to go", async || {
        let applied = host.applied.now();
        check(applied.complaints.is_empty() && applied.trouble.is_none(), applied)
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn what_others_change_is_repaired_and_what_is_not_ours_to_want_goes() {
    let store = StoreHost::start().await;
    let kernel = Arc::new(FakeKernel::default());
    let host = Host::start(store.client(), Arc::clone(&kernel));
    fill(&host.ledger, &[remote("r1", 3)]).await;
    host.attach("e1", 2);
    let complete = |overlay: &Overlay| {
        has_port(overlay, "e1") && overlay.segments[&vni()].fdb.len() == 1 && !overlay.guards.is_empty()
    };
    host.kernel_is("the whole network", &kernel, complete).await;
    let wanted = kernel.overlay();
    kernel.meddle(|overlay| {
        overlay.segments.get_mut(&vni()).unwrap().fdb.clear();
        overlay.guards.clear();
    });
    host.kernel_is("the entries to be back", &kernel, |overlay| *overlay == wanted).await;
    kernel.meddle(|overlay| overlay.segments.clear());
    host.kernel_is("the network to be back", &kernel, |overlay| *overlay == wanted).await;
    host.stop().await;
}

/// A kernel whose event channels each tell one thing and then close; some cannot be opened at all.
#[derive(Default)]
struct Forgetful {
    kernel: Arc<FakeKernel>,
    opened: AtomicUsize,
}

impl Dataplane for Forgetful {
    async fn observe(&self) -> Result<Overlay, DataplaneError> {
        self.kernel.observe().await
    }

    async fn apply(&self, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        self.kernel.apply(ops).await
    }

    fn events(&self) -> Result<mpsc::Receiver<Changed>, DataplaneError> {
        if self.opened.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            return Err(DataplaneError::Silent { what: "subscribe".into() });
        }
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Changed).unwrap();
        Ok(receiver)
    }
}

#[tokio::test]
async fn events_that_end_are_asked_for_again_without_haste_and_nothing_is_missed() {
    let store = StoreHost::start().await;
    let kernel = Arc::new(FakeKernel::default());
    let forgetful = Arc::new(Forgetful { kernel: Arc::clone(&kernel), opened: AtomicUsize::new(0) });
    let host = Host::start(store.client(), Arc::clone(&forgetful));
    host.attach("e1", 2);
    host.kernel_is("the port", &kernel, |overlay| has_port(overlay, "e1")).await;
    // Nobody tells of this.
    kernel.meddle(|overlay| overlay.segments.clear());
    host.kernel_is("the port to be back", &kernel, |overlay| has_port(overlay, "e1")).await;
    let before = forgetful.opened.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The shortest pause is 125 ms.
    let opened = forgetful.opened.load(Ordering::Relaxed) - before;
    assert!((1..=16).contains(&opened), "asked {opened} times in 2 s");
    host.stop().await;
}
