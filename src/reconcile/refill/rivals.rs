//! Whether a network can go back into the store, and which of two stays where both want the same.
//!
//! Networks that a store held together never collide. So one of two that do was either created after the
//! store was lost, by somebody who did not know of the other: then it goes, since nobody relies on it yet.
//! Or both are from before: then the one that was created later is the living one, because the earlier must
//! have been removed to make room for it, and what says so was lost. All of it is written in the two
//! records, so every host decides alike.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::de::DeserializeOwned;

use crate::{
    model::{IpamMode, Mode, Network, NetworkClaim, NetworkId, Pool, Space, Subnet},
    store::{Entry, StoreError, Txn, keys, ledger::Ledger, record},
};

/// What becomes of a network.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The store has all of it.
    Complete,
    /// It was removed.
    Removed,
    /// The store has something that nobody can read in its place.
    Blocked(String),
    /// It has to give way: to whom, and over what.
    Loses { to: Box<Network>, over: String },
    /// These have to give way to it.
    Wins { over: Vec<(Network, String)> },
    /// This puts it in.
    Missing(Txn),
}

/// The store's networks and what they hold, as it was at about one moment.
#[derive(Debug, Default)]
pub(super) struct Picture {
    entries: BTreeMap<String, Entry>,
}

impl Picture {
    pub(super) async fn read(ledger: &Ledger) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        for prefix in [keys::REMOVED, keys::NETWORKS, keys::NAMES, keys::VNIS, keys::POOLS] {
            let part = ledger.store().range(prefix).await?;
            entries.extend(part.into_iter().map(|entry| (entry.key.clone(), entry)));
        }
        Ok(Self { entries })
    }

    /// What becomes of `wanted`, where those that were created in one of the incarnations `newcomers` are new. What is in the store of it stays, as far as it goes.
    pub(super) fn assess(&self, wanted: &Network, newcomers: &[String]) -> Verdict {
        match self.plan(wanted, newcomers) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Blocked(error.to_string()),
        }
    }

    fn plan(&self, wanted: &Network, newcomers: &[String]) -> Result<Verdict, record::RecordError> {
        let tomb = keys::removed(&wanted.id);
        if self.entries.contains_key(&tomb) {
            return Ok(Verdict::Removed);
        }
        let mut txn = Txn::new().absent(tomb);
        let mut network = wanted.clone();
        if let Some(there) = self.get::<Network>(&keys::network(&wanted.id))? {
            network = merged(there.clone(), wanted);
            if network != there {
                txn = self.put(txn, keys::network(&wanted.id), record::encode(&network));
            }
        } else {
            txn = self.put(txn, keys::network(&wanted.id), record::encode(wanted));
        }
        let mut rivals = BTreeMap::new();
        let vni = (keys::vni(network.vni), format!("VNI {}", network.vni));
        let named = network.name.as_ref().filter(|_| network.mode() == Mode::Plain);
        let name = named.map(|name| (keys::name(name), format!("name {name}")));
        for (key, what) in [Some(vni), name].into_iter().flatten() {
            let holder = self.get::<NetworkClaim>(&key)?.map(|claim| claim.network);
            if holder.as_ref() == Some(&network.id) {
                continue;
            }
            if let Some(rival) = holder.map(|id| self.network(&id)).transpose()?.flatten() {
                rivals.entry(rival.id.clone()).or_insert((rival, what));
            } else {
                let claim = NetworkClaim { network: network.id.clone() };
                txn = self.put(txn, key, record::encode(&claim));
            }
        }
        for subnet in &network.subnets {
            txn = self.plan_subnet(txn, &network, subnet, &mut rivals)?;
        }
        if let Some((to, over)) =
            rivals.values().find(|(rival, _)| rank(rival, newcomers) > rank(&network, newcomers))
        {
            return Ok(Verdict::Loses { to: Box::new(to.clone()), over: over.clone() });
        }
        if !rivals.is_empty() {
            return Ok(Verdict::Wins { over: rivals.into_values().collect() });
        }
        Ok(if txn.changes.is_empty() { Verdict::Complete } else { Verdict::Missing(txn) })
    }

    /// The claim on a subnet; other claims that overlap it are a rival's, or nobody's.
    fn plan_subnet(
        &self,
        mut txn: Txn,
        network: &Network,
        subnet: &Subnet,
        rivals: &mut BTreeMap<NetworkId, (Network, String)>,
    ) -> Result<Txn, record::RecordError> {
        let own = keys::pool(&subnet.cidr);
        let mut held = false;
        for (key, entry) in self.entries.iter().filter(|(key, _)| key.starts_with(keys::POOLS)) {
            let pool = match record::decode::<Pool>(key, &entry.value) {
                Ok(pool) => pool,
                Err(error) if *key == own => return Err(error),
                // Whatever it is, it is not in the way.
                Err(_) => continue,
            };
            if !overlap(&pool.cidr, &subnet.cidr) {
                continue;
            }
            if pool.network.as_ref() == Some(&network.id) {
                held |= *key == own;
                continue;
            }
            match pool.network.map(|id| self.network(&id)).transpose()?.flatten() {
                Some(rival) => {
                    let what = format!("subnet {}", pool.cidr);
                    rivals.entry(rival.id.clone()).or_insert((rival, what));
                }
                // Nobody's, or that of a creation which began in the emptied store and cannot go on.
                None if *key != own => txn = txn.unchanged(entry).delete(key.as_str()),
                None => {}
            }
        }
        Ok(if held { txn } else { self.put(txn, own, record::encode(&pool_of(network, subnet))) })
    }

    /// Writes `key`, which is as it is in this picture.
    fn put(&self, txn: Txn, key: String, value: String) -> Txn {
        let txn = match self.entries.get(&key) {
            Some(entry) => txn.unchanged(entry),
            None => txn.absent(key.as_str()),
        };
        txn.put(key, value)
    }

    fn network(&self, id: &NetworkId) -> Result<Option<Network>, record::RecordError> {
        self.get(&keys::network(id))
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, record::RecordError> {
        self.entries.get(key).map(|entry| record::decode(key, &entry.value)).transpose()
    }
}

/// The store's record, with what a store that was set back may not have: the name and all that is told with
/// it, and the incarnation.
fn merged(there: Network, wanted: &Network) -> Network {
    let undated = there.created_in() == Some("");
    let network = if there.name.is_none() && wanted.name.is_some() { wanted.clone() } else { there };
    if undated { network.in_incarnation(wanted.created_in()) } else { network }
}

/// The higher one stays.
fn rank<'a>(network: &'a Network, newcomers: &[String]) -> (bool, u64, &'a NetworkId) {
    // One whose creator did not know of any incarnation is as new.
    let new = |created: &str| created.is_empty() || newcomers.iter().any(|newcomer| newcomer == created);
    let before = !network.created_in().is_some_and(new);
    (before, network.created_at, &network.id)
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn pool_of(network: &Network, subnet: &Subnet) -> Pool {
    let space = match network.ipam {
        IpamMode::Engine => Space::Engine,
        IpamMode::Ours if network.mode() != Mode::Plain => Space::Global,
        IpamMode::Ours => Space::Local,
    };
    Pool {
        cidr: subnet.cidr,
        space,
        ip_range: subnet.ip_range,
        options: network.ipam_options.clone(),
        network: Some(network.id.clone()),
        node: network.created_by.clone(),
        since: network.created_at,
        term_ms: None,
        closing: false,
        shared: network.shared,
        extra: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{NodeId, Vni},
        store::{Change, Revision},
    };

    fn network(id: &str, subnet: &str, vni: u32, created_at: u64, created_in: &str) -> Network {
        Network {
            name: Some(id.to_owned()),
            vni: Vni::new(vni).unwrap(),
            created_by: NodeId::new("h").unwrap(),
            created_at,
            ..Network::plain(id, subnet)
        }
        .in_incarnation(Some(created_in))
    }

    /// A picture with these networks whole.
    fn picture(networks: &[&Network]) -> Picture {
        let mut picture = Picture::default();
        for network in networks {
            let Verdict::Missing(txn) = picture.assess(network, &["new".to_owned()]) else {
                panic!("{network:?} cannot be put in");
            };
            for change in txn.changes {
                let Change::Put { key, value, .. } = change else { panic!("{change:?}") };
                picture.entries.insert(key.clone(), Entry { key, value, revision: Revision(1) });
            }
        }
        picture
    }

    fn assess(there: &Network, wanted: &Network) -> Verdict {
        picture(&[there]).assess(wanted, &["new".to_owned()])
    }

    #[test]
    fn what_is_missing_is_put_in_and_what_is_there_stays() {
        let one = network("one", "10.9.0.0/24", 4096, 5, "old");
        let mut picture = picture(&[&one]);
        assert_eq!(picture.entries.len(), 4, "{picture:?}");
        assert!(matches!(picture.assess(&one, &[]), Verdict::Complete));
        picture.entries.remove(&keys::vni(one.vni)).unwrap();
        let Verdict::Missing(txn) = picture.assess(&one, &[]) else { panic!("a VNI is missing") };
        assert_eq!(txn.changes.len(), 1);
        let tomb = keys::removed(&one.id);
        picture.entries.insert(tomb.clone(), Entry { key: tomb, value: "{}".into(), revision: Revision(1) });
        assert!(matches!(picture.assess(&one, &[]), Verdict::Removed));
    }

    #[test]
    fn a_newcomer_gives_way_and_of_two_from_before_the_earlier_one() {
        let old = network("old", "10.9.0.0/24", 4096, 5, "i");
        let later = network("later", "10.9.0.128/25", 4097, 9, "j");
        for (newcomer, over) in [
            (network("new", "10.0.0.0/8", 5000, 1, "new"), "subnet 10.0.0.0/8"),
            (network("new", "10.1.0.0/24", 4096, 99, "new"), "VNI 4096"),
            (network("new", "10.1.0.0/24", 4096, 99, ""), "VNI 4096"),
        ] {
            match assess(&newcomer, &old) {
                Verdict::Wins { over: won } => assert_eq!(won, [(newcomer.clone(), over.to_owned())]),
                other => panic!("{other:?}"),
            }
            assert!(matches!(assess(&old, &newcomer), Verdict::Loses { to, .. } if *to == old));
        }
        assert!(matches!(assess(&old, &later), Verdict::Wins { .. }));
        assert!(matches!(assess(&later, &old), Verdict::Loses { .. }));
        // Of an earlier release, which does not say when it was created.
        let mut undated = old.clone();
        undated.extra.clear();
        assert!(matches!(assess(&undated, &later), Verdict::Wins { .. }));
    }

    #[test]
    fn claims_of_nobody_are_no_obstacle_and_unreadable_ones_are_told() {
        let one = network("one", "10.9.0.0/24", 4096, 5, "i");
        let mut picture = Picture::default();
        let begun = Pool { network: None, ..pool_of(&one, &one.subnets[0]) };
        let wide = Pool { cidr: "10.8.0.0/15".parse().unwrap(), ..begun.clone() };
        for (cidr, pool) in [(one.subnets[0].cidr, &begun), (wide.cidr, &wide)] {
            let key = keys::pool(&cidr);
            let entry = Entry { key: key.clone(), value: record::encode(pool), revision: Revision(1) };
            picture.entries.insert(key, entry);
        }
        let Verdict::Missing(txn) = picture.assess(&one, &[]) else { panic!("nothing is in the way") };
        assert!(txn.changes.contains(&Change::Delete { key: keys::pool(&wide.cidr) }), "{txn:?}");
        let key = keys::vni(one.vni);
        picture.entries.insert(key.clone(), Entry { key, value: "odd".into(), revision: Revision(1) });
        assert!(matches!(picture.assess(&one, &[]), Verdict::Blocked(why) if why.contains("4096")));
    }
}
