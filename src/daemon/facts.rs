//! Keeps what the cluster should know of this host up to date.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    dataplane::{DataplaneError, host::Host},
    member::Facts,
    model::{ForeignVxlan, Role, Snapshot},
    reconcile::{Applied, propagate::EngineReport},
};

/// How often the host's routes are read. Two dumps of the kernel's tables cost less than a millisecond.
const PERIOD: Duration = Duration::from_secs(3);
/// How often other network namespaces are looked into.
const NAMESPACES: Duration = Duration::from_secs(10);
/// VXLAN devices that are told; whoever has more has them all on one port, which is told as well.
const VXLANS: usize = 512;
/// What an Ethernet carries, for a host whose interface tells nothing.
const USUAL_MTU: u32 = 1500;

/// Finds facts.
pub(super) struct FactFinder {
    pub(super) host: Host,
    pub(super) vtep: IpAddr,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) engine: watch::Receiver<EngineReport>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) applied: watch::Receiver<Arc<Applied>>,
    /// VXLAN devices in other namespaces, and when to look for them again.
    moved: Option<(Instant, Vec<ForeignVxlan>)>,
}

impl FactFinder {
    pub(super) fn new(
        host: Host,
        vtep: IpAddr,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        engine: watch::Receiver<EngineReport>,
        role: watch::Receiver<Role>,
        applied: watch::Receiver<Arc<Applied>>,
    ) -> Self {
        Self { host, vtep, snapshot, engine, role, applied, moved: None }
    }

    /// Looks once.
    pub(super) async fn find(&mut self) -> Result<Facts, DataplaneError> {
        let now = Instant::now();
        if self.moved.as_ref().is_none_or(|(until, _)| *until <= now) {
            self.moved = Some((now + NAMESPACES, Host::moved_vxlans().await));
        }
        let mut vxlans = self.host.foreign_vxlans().await?;
        vxlans.extend(self.moved.iter().flat_map(|(_, moved)| moved.iter().cloned()));
        vxlans.sort();
        vxlans.truncate(VXLANS);
        let routes = self.host.host_routes().await?;
        let mut underlay_mtu = self.host.link_mtu_of(self.vtep).await?.unwrap_or(USUAL_MTU);
        let snapshot = self.snapshot.borrow().clone();
        for peer in snapshot.nodes.values().map(|node| node.vtep) {
            if peer != self.vtep && peer.is_ipv4() == self.vtep.is_ipv4() {
                // No route to a peer says nothing about the size of packets.
                let path = self.host.path_mtu(peer, self.vtep).await.ok().flatten();
                underlay_mtu = underlay_mtu.min(path.unwrap_or(underlay_mtu));
            }
        }
        let engine_version = self.engine.borrow().version.clone();
        let probe = self.applied.borrow().has_probe();
        let (scope, mode) = {
            let role = self.role.borrow_and_update();
            (role.effective_scope().unwrap_or_default(), role.mode())
        };
        Ok(Facts { routes, vxlans, underlay_mtu, engine_version, probe, scope, mode })
    }

    /// Tells changes until `cancel`.
    pub(super) async fn run(
        mut self,
        facts: watch::Sender<Facts>,
        mtu: watch::Sender<u32>,
        cancel: CancellationToken,
    ) {
        let mut applied = self.applied.clone();
        let mut failed = false;
        loop {
            let probe = facts.borrow().probe;
            let told = async {
                // Where facts cannot be found, and after the worker's end, it is the period that counts.
                if failed || applied.wait_for(|applied| applied.has_probe() != probe).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // Every arm is cancel safe: each only waits for a change that stays visible.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                _ = self.engine.changed() => {}
                Ok(()) = self.role.changed() => {}
                _ = self.snapshot.changed() => {}
                () = told => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            let found = self.find().await;
            failed = found.is_err();
            match found {
                Ok(found) => {
                    let changed = mtu.send_if_modified(|mtu| {
                        std::mem::replace(mtu, found.underlay_mtu) != found.underlay_mtu
                    });
                    if changed {
                        info!(mtu = found.underlay_mtu, "the underlay carries packets of another size now");
                    }
                    facts.send_if_modified(|old| {
                        let changed = *old != found;
                        *old = found;
                        changed
                    });
                }
                Err(error) => warn!(%error, "cannot read the host's routes"),
            }
        }
    }
}
