//! `status`: this host as it is, and what needs a person's attention.

use super::{View, count};
use crate::{
    admin::{DataPathStatus, EngineStatus, ReconcileStatus, RepairRow, StatusReport, StoreStatus},
    clock,
    daemon::{hosts, losses, mtu},
    dataplane::Forged,
    dns::manager::Told,
    model::{NetworkId, Node, Snapshot},
    reconcile::{Applied, Repaired, mirror::Health, propagate::EngineReport},
    watched::Watched,
};

impl View {
    pub(super) fn own_status(&self) -> StatusReport {
        let (health, engine) = (self.health.now(), self.engine.now());
        let applied = self.applied.now();
        let (role, underlay) = (self.roles.now(), self.underlay.now());
        let (networks, endpoints) =
            self.local.read(|data| (data.networks_in_use().len(), data.endpoints.len()));
        StatusReport {
            version: self.node.daemon_version.clone(),
            node: self.node.id.to_string(),
            hostname: self.node.hostname.clone(),
            vtep: Some(underlay.vtep),
            underlay: Some(mtu::status(&underlay)),
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
        let names = self.names.now();
        problems.extend(names.complaints.iter().map(|(sandbox, complaint)| {
            format!("names of other hosts are not answered in sandbox {}: {complaint}", sandbox.display())
        }));
        problems.extend(self.roles.now().problems());
        problems.extend(engine.problems.iter().cloned());
        problems.extend(names.unable);
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
