//! What the daemon tells people, gathered from the parts.

mod networks;
mod status;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, task::spawn_blocking};

use super::{hosts, names, orders::Orders, verify::Verifier};
use crate::{
    admin::{
        GcOrder, GcReport, NameQuestion, NameReport, NetworkEnd, NetworkEnded, NetworkMade, NetworkOrder,
        NetworkRow, NodeRow, StatusReport, VerifyReport,
    },
    clock,
    dataplane::netlink::Kernel,
    dns::manager::Told,
    engine::DriverName,
    http::AdminView,
    local::Local,
    model::{Death, Endpoint, KnownHost, Network, Node, Role, Snapshot, Underlay},
    reconcile::{Applied, mirror::Health, propagate::EngineReport},
    store::{StoreError, gate::Footing, keys, ledger::Ledger},
    watched::Watched,
};
use networks::{Marks, marks};

/// The parts that are asked.
pub(super) struct View {
    pub(super) node: Node,
    pub(super) kernel: Arc<Kernel>,
    pub(super) underlay: watch::Receiver<Underlay>,
    pub(super) driver: Arc<DriverName>,
    pub(super) store_url: String,
    pub(super) ledger: Ledger,
    pub(super) orders: Orders,
    pub(super) local: Arc<Local>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) health: watch::Receiver<Health>,
    pub(super) applied: watch::Receiver<Arc<Applied>>,
    pub(super) engine: watch::Receiver<EngineReport>,
    pub(super) names: watch::Receiver<Told>,
    pub(super) verifier: Verifier,
    pub(super) footing: watch::Receiver<Footing>,
    pub(super) roles: watch::Receiver<Role>,
}

impl AdminView for View {
    fn status(&self) -> StatusReport {
        self.own_status()
    }

    fn networks(&self) -> BoxFuture<'_, Result<Vec<NetworkRow>, StoreError>> {
        Box::pin(async {
            let networks = self.ledger.list::<Network>(keys::NETWORKS).await?;
            let endpoints = self.ledger.list::<Endpoint>(keys::ENDPOINTS).await?;
            let marks = Marks {
                present: marks(&self.ledger.store().range(keys::PRESENT).await?),
                departed: marks(&self.ledger.store().range(keys::DEPARTED).await?),
            };
            let snapshot = self.hosts().await?;
            let mut by_network: BTreeMap<_, Vec<Endpoint>> = BTreeMap::new();
            for held in endpoints {
                by_network.entry(held.record.network.clone()).or_default().push(held.record);
            }
            let none = Vec::new();
            let rows = networks.iter().map(|held| {
                let inside = by_network.get(&held.record.id).unwrap_or(&none);
                self.network_row(&snapshot, &held.record, inside, &marks)
            });
            Ok(rows.collect())
        })
    }

    fn names(&self, question: NameQuestion) -> BoxFuture<'_, Result<NameReport, String>> {
        Box::pin(async move {
            let snapshot = self.snapshot.now();
            let vtep = self.underlay.see(|underlay| underlay.vtep);
            let (local, asked) = (self.local.clone(), question.clone());
            // A hundred thousand names take a moment.
            let found = spawn_blocking(move || names::answer(&snapshot, &local, vtep, &asked)).await;
            let mut report =
                found.map_err(|error| format!("the lookup failed inside the daemon: {error}"))??;
            if question.explain {
                for row in &mut report.holders {
                    match self.ledger.get::<Endpoint>(&row.record).await {
                        Ok(held) => row.revision = held.map(|held| held.entry.revision.0),
                        // Who answers is known without the store.
                        Err(error) => {
                            report.trouble = Some(error.to_string());
                            break;
                        }
                    }
                }
            }
            Ok(report)
        })
    }

    fn create_network(&self, order: NetworkOrder) -> BoxFuture<'_, Result<NetworkMade, String>> {
        Box::pin(async { self.orders.create(order).await.map_err(|error| error.to_string()) })
    }

    fn remove_network(&self, end: NetworkEnd) -> BoxFuture<'_, Result<NetworkEnded, String>> {
        Box::pin(async move { self.orders.remove(&end.name).await.map_err(|error| error.to_string()) })
    }

    fn verify(&self) -> BoxFuture<'_, VerifyReport> {
        Box::pin(self.verifier.verify())
    }

    fn gc(&self, order: GcOrder) -> BoxFuture<'_, GcReport> {
        Box::pin(async move { self.verifier.gc(&order).await })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        Box::pin(async {
            let endpoints = self.ledger.list::<Endpoint>(keys::ENDPOINTS).await?;
            let endpoints: Vec<_> = endpoints.into_iter().map(|held| held.record).collect();
            Ok(hosts::rows(&self.hosts().await?, &endpoints, clock::unix_seconds()))
        })
    }
}

impl View {
    /// What is known of the cluster, with its hosts as the store has them now: this copy may be a moment
    /// behind.
    async fn hosts(&self) -> Result<Snapshot, StoreError> {
        let nodes = self.ledger.list::<Node>(keys::NODES).await?.into_iter().map(|held| held.record);
        let known = self.ledger.list::<KnownHost>(keys::HOSTS).await?.into_iter().map(|held| held.record);
        let dead = self.ledger.list::<Death>(keys::DEAD).await?.into_iter().map(|held| held.record);
        Ok(Snapshot {
            nodes: hosts::by_id(nodes, |node| node.id.clone()).into(),
            hosts: hosts::by_id(known, |host| host.id.clone()).into(),
            dead: hosts::by_id(dead, |death| death.id.clone()),
            ..Snapshot::clone(&self.snapshot.now())
        })
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
