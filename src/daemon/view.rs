//! What the daemon tells people, gathered from the parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::{sync::watch, task::spawn_blocking};

use super::{hosts, losses, mtu, names, orders::Orders, verify::Verifier};
use crate::{
    admin::{
        DataPathStatus, EngineStatus, GcOrder, GcReport, NameQuestion, NameReport, NetworkEnd, NetworkEnded,
        NetworkMade, NetworkOrder, NetworkRow, NodeRow, ReconcileStatus, RepairRow, StatusReport,
        StoreStatus, VerifyReport,
    },
    clock,
    dataplane::{Forged, netlink::Kernel},
    dns::manager::Told,
    engine::DriverName,
    http::AdminView,
    local::Local,
    model::{Death, Endpoint, KnownHost, Mode, Network, NetworkId, Node, NodeId, Role, Snapshot, Underlay},
    plan::effective_mtu,
    reconcile::{Applied, Repaired, mirror::Health, propagate::EngineReport},
    store::{Entry, StoreError, gate::Footing, keys, ledger::Ledger},
    watched::Watched,
};

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
        let (health, engine) = (self.health.now(), self.engine.now());
        let applied = self.applied.now();
        let role = self.roles.now();
        let (networks, endpoints) =
            self.local.read(|data| (data.networks_in_use().len(), data.endpoints.len()));
        StatusReport {
            version: self.node.daemon_version.clone(),
            node: self.node.id.to_string(),
            hostname: self.node.hostname.clone(),
            vtep: Some(self.underlay.see(|underlay| underlay.vtep)),
            underlay: Some(mtu::status(&self.underlay.now())),
            data_path: Some(self.data_path()),
            scope: role.effective_scope().unwrap_or_default().as_str().to_owned(),
            mode: role.mode().map(|mode| mode.as_str().to_owned()),
            mode_because: role.explanation(),
            store: StoreStatus {
                kind: self.ledger.store().kind().to_owned(),
                url: self.store_url.clone(),
                connected: health.synced && health.trouble.is_none(),
                since: health.since,
            },
            engine: EngineStatus {
                reachable: engine.reachable,
                version: engine.version.clone(),
                driver: self.driver.known().to_owned(),
                plugin: self.driver.plugin().map(str::to_owned),
            },
            networks: count(networks),
            endpoints: count(endpoints),
            reconcile: (applied.compared_at > 0).then(|| ReconcileStatus {
                at: applied.compared_at,
                steps: u32::try_from(applied.steps).unwrap_or(u32::MAX),
                failed: count(applied.complaints.len()) + u32::from(applied.trouble.is_some()),
            }),
            repairs: repairs(&applied, &self.names.now()),
            elsewhere: engine.elsewhere.clone(),
            problems: self.problems(&health, &engine, &applied),
        }
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

    fn data_path(&self) -> DataPathStatus {
        let path = self.kernel.data_path();
        let (forged, trouble) = match self.kernel.forged() {
            Ok(forged) => (forged, None),
            Err(error) => (Forged::default(), Some(error.to_string())),
        };
        DataPathStatus {
            fast: path.fast,
            because: path.because,
            forged_macs: forged.mac,
            forged_addresses: forged.address,
            trouble,
        }
    }

    fn problems(&self, health: &Health, engine: &EngineReport, applied: &Applied) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(trouble) = &health.trouble {
            problems.push(format!("{trouble}; everything stays as it is until it is back"));
        } else if !health.synced {
            problems.push("the cluster store has not answered yet".to_owned());
        }
        if !engine.reachable {
            problems.push(
                "the Docker engine's API does not answer; networks of other hosts come here only by hand ('docker network create -d rs-overlay --ipam-driver rs-overlay --subnet SUBNET --ipam-opt rs-overlay.network=NAME NAME'), and names are not told"
                    .to_owned(),
            );
        }
        let snapshot = self.snapshot.now();
        let underlay = self.underlay.now();
        let own = Node { vtep: underlay.vtep, ..self.node.clone() };
        problems.extend(underlay.troubles);
        problems.extend(losses::problems(&self.footing.now(), &snapshot, clock::unix_seconds()));
        problems.extend(snapshot.nodes.values().filter_map(|other| disagreement(&own, other)));
        problems.extend(hosts::problems(&snapshot, &self.local, applied));
        let own = snapshot.nodes.get(&self.node.id);
        let all = own.into_iter().flat_map(|own| own.vxlans.iter().filter(|device| device.vni == 0));
        problems.extend(all.filter(|device| device.port == self.node.vxlan_port).map(|device| {
            format!(
                "VXLAN device {} takes every VNI on UDP port {}: networks have no tunnel here; remove it, or use another --vxlan-port on all hosts",
                device.dev, device.port
            )
        }));
        let of_networks = applied.complaints.iter().filter(|(id, _)| **id != NetworkId::of_probes());
        problems.extend(of_networks.map(|(id, complaint)| {
            let title = snapshot.networks.get(id).map_or(id.short(), |network| network.title());
            format!("network {title}: {complaint}")
        }));
        problems.extend(applied.trouble.clone());
        problems.extend(mtu::problems(&snapshot, &self.local, applied));
        problems.extend(applied.loose.iter().map(|(id, complaint)| {
            let name = self.local.read(|data| data.endpoints.get(id).and_then(|e| e.container.clone()));
            let name = name.unwrap_or_else(|| id.short().to_owned());
            format!("container {name} has lost its link: {complaint}; restart it")
        }));
        problems.extend(self.names.now().complaints.iter().map(|(sandbox, complaint)| {
            format!("names of other hosts are not answered in sandbox {}: {complaint}", sandbox.display())
        }));
        problems.extend(self.roles.now().problems());
        problems.extend(engine.problems.iter().cloned());
        problems.extend(self.names.now().unable.clone());
        problems.extend(self.lost_addresses(&snapshot));
        problems
    }

    /// Addresses of containers here that another host holds by now.
    fn lost_addresses(&self, snapshot: &Snapshot) -> Vec<String> {
        self.local.read(|data| {
            let lost = data.lost_claims().map(|claim| {
                let user = data.user_of(&claim.cidr, claim.ip);
                let name = user.and_then(|user| user.container.as_deref()).unwrap_or("a container");
                let network = &claim.network;
                let title = snapshot.networks.get(network).map_or(network.short(), |network| network.title());
                let host = claim.lost_to.as_ref().map_or("another", |node| snapshot.node_title(node));
                format!(
                    "{name} has address {} of network {title}, which host {host} holds by now: start it again, and it gets another",
                    claim.ip
                )
            });
            lost.collect()
        })
    }

    fn network_row(
        &self,
        snapshot: &Snapshot,
        network: &Network,
        endpoints: &[Endpoint],
        marks: &Marks,
    ) -> NetworkRow {
        let titles = |nodes: &BTreeSet<NodeId>| -> Vec<String> {
            let names: BTreeSet<_> = nodes.iter().map(|node| title(snapshot, node)).collect();
            names.into_iter().collect()
        };
        let hosts = endpoints.iter().map(|e| e.node.clone()).collect();
        let none = BTreeSet::new();
        let present = marks.present.get(&network.id).unwrap_or(&none);
        let departed = marks.departed.get(&network.id).unwrap_or(&none);
        // Engines that share networks fetch one when they need it, and no sooner.
        let expected =
            |node: &&Node| node.scope == "local" && network.mode() == Mode::Plain && network.name.is_some();
        let missing = snapshot.nodes.values().filter(expected).map(|node| node.id.clone());
        let missing = missing.filter(|node| !present.contains(node) && !departed.contains(node));
        let why = |node: &NodeId| snapshot.nodes.get(node).and_then(|node| node.unable_to_have(network));
        let (unable, missing): (BTreeSet<_>, BTreeSet<_>) = missing.partition(|node| why(node).is_some());
        let unable: BTreeSet<_> = unable
            .iter()
            .filter_map(|node| Some(format!("{} ({})", title(snapshot, node), why(node)?)))
            .collect();
        let underlay = self.underlay.now();
        NetworkRow {
            id: network.id.to_string(),
            name: network.name.clone(),
            subnets: network.subnets.iter().map(|subnet| subnet.cidr).collect(),
            gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
            vni: network.vni.get(),
            mtu: effective_mtu(snapshot, network, underlay.vtep, underlay.mtu),
            mtu_because: mtu::explanation(snapshot, network, &underlay),
            flood: network.floods(),
            hosts: titles(&hosts),
            present: titles(present),
            departed: titles(departed),
            missing: titles(&missing),
            unable: unable.into_iter().collect(),
            endpoints: count(endpoints.len()),
            internal: network.internal,
            ipv6: network.ipv6,
            attachable: network.attachable,
        }
    }
}

fn repairs(applied: &Applied, names: &Told) -> Vec<RepairRow> {
    let row = |(thing, repaired): (&&'static str, &Repaired)| RepairRow {
        thing: (*thing).to_owned(),
        count: repaired.count,
        last_at: repaired.last_at,
        last: repaired.last.clone(),
    };
    let mut rows: Vec<_> = applied.repairs.iter().map(row).collect();
    if names.reopened > 0 {
        let last = "sockets in a sandbox were closed from outside".to_owned();
        rows.push(RepairRow { thing: "DNS sockets".to_owned(), count: names.reopened, last_at: 0, last });
    }
    rows
}

/// What people call a host, and whether it is dead.
fn title(snapshot: &Snapshot, node: &NodeId) -> String {
    let title = snapshot.node_title(node);
    if snapshot.is_dead(node) { format!("{title} (dead)") } else { title.to_owned() }
}

/// Which hosts have, or have removed, which network.
struct Marks {
    present: BTreeMap<NetworkId, BTreeSet<NodeId>>,
    departed: BTreeMap<NetworkId, BTreeSet<NodeId>>,
}

fn marks(entries: &[Entry]) -> BTreeMap<NetworkId, BTreeSet<NodeId>> {
    let mut marks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (network, node) in entries.iter().filter_map(|entry| keys::network_and_node(&entry.key)) {
        marks.entry(network).or_default().insert(node);
    }
    marks
}

/// Why packets between two hosts cannot arrive, as far as their settings tell.
fn disagreement(own: &Node, other: &Node) -> Option<String> {
    if own.id == other.id {
        return None;
    }
    let name = &other.hostname;
    if own.vtep == other.vtep {
        return Some(format!(
            "host {name} advertises this host's own address {}: give one of them another --cluster-advertise",
            own.vtep
        ));
    }
    if own.vtep.is_ipv4() != other.vtep.is_ipv4() {
        return Some(format!(
            "host {name} advertises {}, of another family than {}: all hosts need the same",
            other.vtep, own.vtep
        ));
    }
    (own.vxlan_port != other.vxlan_port).then(|| {
        format!(
            "host {name} uses --vxlan-port {}, this one {}: all hosts need the same",
            other.vxlan_port, own.vxlan_port
        )
    })
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
