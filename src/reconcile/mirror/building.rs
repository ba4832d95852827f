//! Puts the snapshot together from what all watches have told.

use std::{collections::BTreeSet, sync::Arc};

use super::{Mirror, Source, keeping};
use crate::{
    model::{Death, KnownHost, Meta, Network, NetworkId, Node, Removed, Snapshot},
    store::keys,
};

impl Mirror {
    /// Keeps what hosts had told before the store was lost, until they have told it anew.
    pub(super) async fn keep_unconfirmed(&self, old: &Snapshot, told: Snapshot) -> (Snapshot, bool) {
        let Some(incarnation) = self.incarnation() else { return (told, true) };
        let mut late = BTreeSet::new();
        for (network, node) in keeping::to_be_checked(old, &told, &incarnation) {
            // Watches are not in step: a host's mark may come before the records that it is about.
            let fresh = self.store.range(&keys::endpoints(&network)).await;
            let behind = match (fresh, self.members.get(&network)) {
                (Ok(fresh), Some((members, _))) => fresh.iter().any(|entry| !members.has(&entry.key)),
                _ => true,
            };
            if behind {
                late.insert(node);
            }
        }
        (keeping::kept(old, told, &incarnation, &late), late.is_empty())
    }

    /// What has been listed replaces what was known; what has not been listed yet stays.
    pub(super) fn build(&self, old: &Snapshot) -> Snapshot {
        let listed = |source: &Source| self.sections.get(source).filter(|section| section.listed);
        let (meta, marks) = match listed(&Source::Cluster) {
            Some(section) => (section.get::<Meta>(keys::META), self.marks.clone()),
            None => (old.meta.clone(), old.marks.clone()),
        };
        let removed = match listed(&Source::Removed) {
            Some(section) => {
                let tombs = section.by_key::<Removed, _>(keys::buried).into_iter();
                tombs.map(|(id, tomb)| (id, Arc::unwrap_or_clone(tomb))).collect()
            }
            None => old.removed.clone(),
        };
        let departed = match listed(&Source::Departed) {
            Some(section) => section.keys().filter_map(|key| self.departed_here(key)).collect(),
            None => old.departed.clone(),
        };
        let nodes = match listed(&Source::Nodes) {
            Some(section) => section.whole(|all| all.by_id(|node: &Node| node.id.clone())),
            None => old.nodes.clone(),
        };
        let hosts = match listed(&Source::Hosts) {
            Some(section) => section.whole(|all| all.by_id(|host: &KnownHost| host.id.clone())),
            None => old.hosts.clone(),
        };
        let dead = match listed(&Source::Dead) {
            Some(section) => section.by_id(|death: &Death| death.id.clone()),
            None => old.dead.clone(),
        };
        let networks = match listed(&Source::Networks) {
            Some(section) => section.whole(|all| all.by_id(|network: &Network| network.id.clone())),
            None => old.networks.clone(),
        };
        let wanted = match listed(&Source::Wanted) {
            Some(section) => section.keys().filter_map(keys::wanted_of).collect(),
            None => old.wanted.clone(),
        };
        let known = self.members.iter().map(|(id, (members, _))| {
            let endpoints = if members.listed { Some(members.records()) } else { old.endpoints.get(id) };
            (id.clone(), endpoints.cloned().unwrap_or_default())
        });
        let endpoints = known.collect();
        // Who is dead decides about endpoints as much as their own records do.
        let deaths_told = listed(&Source::Nodes).is_some() && listed(&Source::Dead).is_some();
        let told = self.members.iter().filter(|(_, (members, _))| members.listed && deaths_told);
        let listed = told.map(|(id, _)| id.clone()).collect();
        Snapshot { meta, nodes, hosts, dead, networks, endpoints, listed, wanted, removed, departed, marks }
    }

    fn departed_here(&self, key: &str) -> Option<NetworkId> {
        let (network, node) = keys::network_and_node(key)?;
        (node == *self.local.node()).then_some(network)
    }
}
