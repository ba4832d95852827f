//! Who may say that a host is dead, and what has been said.
//!
//! A host whose lease has ended is a suspect and nothing more: its daemon may have died, or its way to the
//! store. Up to five live hosts, the same ones whoever computes it, ask for it on the probe network; only
//! when all of them miss it is it dead. Its kernel answers there also when its daemon is gone.

use std::collections::BTreeMap;

use crate::model::{Death, KnownHost, Node, NodeId, Snapshot};

/// Most hosts on one jury.
pub const SIZE: usize = 5;

/// Hosts that did not answer a juror, each with the incarnation that it asked for.
pub type Unreachable = BTreeMap<NodeId, u64>;

/// What is known about a suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of its jury have asked for it, and none had an answer.
    Dead,
    /// Another host has its underlay address now: its machine was set up anew, or the address has moved on.
    /// Nobody can ask for it, since the other one would answer; only time tells whether it has a new one.
    Replaced(NodeId),
    /// These jurors have not missed it: it answers them, or they are still asking.
    Missed(Vec<NodeId>),
    /// It never had a probe device, so that nobody can ask for it.
    Unasked,
    /// No live host can ask.
    NoJury,
}

impl Verdict {
    /// Whether the suspect may be declared dead.
    pub fn is_death(&self) -> bool {
        matches!(self, Self::Dead | Self::Replaced(_))
    }
}

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It has its lease.
    Alive,
    /// It has none, and everything that was known of it stays.
    Suspect(Verdict),
    /// It was declared dead.
    Dead(&'a Death),
    /// It was never here, or is of a release that leaves no trace.
    Unknown,
}

/// How `node` stands.
pub fn standing<'a>(snapshot: &'a Snapshot, node: &NodeId) -> Standing<'a> {
    match (snapshot.nodes.contains_key(node), snapshot.dead.get(node), snapshot.hosts.get(node)) {
        (true, ..) => Standing::Alive,
        (false, Some(death), _) => Standing::Dead(death),
        (false, None, Some(host)) => Standing::Suspect(verdict(snapshot, host)),
        (false, None, None) => Standing::Unknown,
    }
}

/// The live hosts that decide about `suspect`, the one whose word counts first in front: those that can
/// ask, chosen by rendezvous hashing, so that all hosts choose the same ones without a word, and another
/// host's coming or going changes at most one of them.
pub fn jury(snapshot: &Snapshot, suspect: &KnownHost) -> Vec<NodeId> {
    let able = |node: &&Node| {
        node.probe
            && node.id != suspect.id
            && node.vtep != suspect.vtep
            && node.vtep.is_ipv4() == suspect.vtep.is_ipv4()
    };
    let mut ranked: Vec<_> =
        snapshot.nodes.values().filter(able).map(|node| (weight(&suspect.id, &node.id), &node.id)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked.into_iter().take(SIZE).map(|(_, id)| id.clone()).collect()
}

/// What the jury has said of `suspect`, by the records of its members.
pub fn verdict(snapshot: &Snapshot, suspect: &KnownHost) -> Verdict {
    // One without a probe device may have lost the address itself, and does not answer in the other's place.
    let heir = |node: &&Node| node.probe && node.vtep == suspect.vtep && node.id != suspect.id;
    let heir = snapshot.nodes.values().find(heir);
    if let Some(heir) = heir {
        return Verdict::Replaced(heir.id.clone());
    }
    if !suspect.probe {
        return Verdict::Unasked;
    }
    let jury = jury(snapshot, suspect);
    if jury.is_empty() {
        return Verdict::NoJury;
    }
    let misses = |juror: &NodeId| {
        let said = snapshot.nodes.get(juror).and_then(|node| node.unreachable.get(&suspect.id));
        said == Some(&suspect.incarnation)
    };
    let silent: Vec<_> = jury.into_iter().filter(|juror| !misses(juror)).collect();
    if silent.is_empty() { Verdict::Dead } else { Verdict::Missed(silent) }
}

/// The suspects that `juror` has to ask for.
pub fn cases<'a>(snapshot: &'a Snapshot, juror: &NodeId) -> Vec<&'a KnownHost> {
    let mine = |suspect: &&KnownHost| suspect.probe && jury(snapshot, suspect).contains(juror);
    snapshot.suspects().filter(mine).collect()
}

/// FNV-1a over both ids, then a final mix.
fn weight(suspect: &NodeId, juror: &NodeId) -> u64 {
    let bytes = suspect.as_str().bytes().chain([b'/']).chain(juror.as_str().bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::About;

    fn id(n: usize) -> NodeId {
        NodeId::new(format!("{n:016x}")).unwrap()
    }

    fn node(n: usize) -> Node {
        serde_json::from_value(serde_json::json!({
            "id": id(n), "hostname": format!("h{n}"), "vtep": format!("192.0.2.{n}"), "vxlan_port": 4789,
            "underlay_mtu": 1500, "daemon_version": "", "scope": "local", "boot_id": "", "since": 0,
            "incarnation": 1, "probe": true,
        }))
        .unwrap()
    }

    fn known(n: usize) -> KnownHost {
        let Node { id, hostname, vtep, .. } = node(n);
        KnownHost {
            id,
            hostname,
            vtep,
            incarnation: 3,
            probe: true,
            about: About::default(),
            left_at: None,
            extra: BTreeMap::new(),
        }
    }

    /// Host 0 has lost its lease, hosts 1 to `live` have theirs.
    fn cluster(live: usize) -> Snapshot {
        Snapshot {
            nodes: (1..=live).map(|n| (id(n), node(n))).collect(),
            hosts: (0..=live).map(|n| (id(n), known(n))).collect(),
            ..Snapshot::default()
        }
    }

    fn say(snapshot: &mut Snapshot, jurors: &[NodeId], incarnation: u64) {
        for juror in jurors {
            snapshot.nodes.get_mut(juror).unwrap().unreachable.insert(id(0), incarnation);
        }
    }

    #[test]
    fn nobody_is_dead_before_all_jurors_miss_it() {
        for live in 1..20 {
            let mut snapshot = cluster(live);
            let jurors = jury(&snapshot, &known(0));
            assert_eq!(jurors.len(), live.min(SIZE));
            for (place, juror) in jurors.iter().enumerate() {
                let waiting = Verdict::Missed(jurors[place..].to_vec());
                assert_eq!(verdict(&snapshot, &known(0)), waiting);
                say(&mut snapshot, std::slice::from_ref(juror), 3);
            }
            assert_eq!(verdict(&snapshot, &known(0)), Verdict::Dead);
            assert_eq!(standing(&snapshot, &id(0)), Standing::Suspect(Verdict::Dead));
        }
    }

    #[test]
    fn what_was_said_of_an_earlier_registration_does_not_count() {
        let mut snapshot = cluster(3);
        let all = jury(&snapshot, &known(0));
        say(&mut snapshot, &all, 2);
        assert_eq!(verdict(&snapshot, &known(0)), Verdict::Missed(all));
    }

    #[test]
    fn a_juror_that_goes_is_replaced_by_one_that_has_to_ask_first() {
        let mut snapshot = cluster(9);
        let before = jury(&snapshot, &known(0));
        say(&mut snapshot, &before, 3);
        snapshot.nodes.remove(&before[2]);
        let after = jury(&snapshot, &known(0));
        let new: Vec<_> = after.iter().filter(|juror| !before.contains(juror)).cloned().collect();
        assert_eq!(new.len(), 1);
        assert_eq!(verdict(&snapshot, &known(0)), Verdict::Missed(new));
    }

    #[test]
    fn who_cannot_ask_does_not_judge_and_who_cannot_be_asked_for_does_not_die() {
        let mut snapshot = cluster(2);
        snapshot.nodes.get_mut(&id(1)).unwrap().probe = false;
        assert_eq!(jury(&snapshot, &known(0)), [id(2)]);
        snapshot.nodes.get_mut(&id(2)).unwrap().vtep = "2001:db8::2".parse().unwrap();
        assert_eq!(verdict(&snapshot, &known(0)), Verdict::NoJury);
        let mute = KnownHost { probe: false, ..known(0) };
        say(&mut snapshot, &[id(1), id(2)], 3);
        assert_eq!(verdict(&snapshot, &mute), Verdict::Unasked);
        assert_eq!(verdict(&cluster(0), &known(0)), Verdict::NoJury);
    }

    #[test]
    fn a_machine_that_was_set_up_anew_replaces_its_former_self() {
        let mut snapshot = cluster(2);
        snapshot.nodes.get_mut(&id(1)).unwrap().vtep = known(0).vtep;
        assert_eq!(verdict(&snapshot, &known(0)), Verdict::Replaced(id(1)));
    }

    #[test]
    fn who_has_lost_the_address_itself_is_nobodys_heir() {
        let mut snapshot = cluster(2);
        let other = snapshot.nodes.get_mut(&id(1)).unwrap();
        (other.vtep, other.probe) = (known(0).vtep, false);
        assert_eq!(verdict(&snapshot, &known(0)), Verdict::Missed(vec![id(2)]));
    }

    #[test]
    fn a_lease_is_stronger_than_a_word_of_death() {
        let mut snapshot = cluster(2);
        let death = Death {
            id: id(1),
            hostname: "h1".into(),
            incarnation: 1,
            by: id(2),
            since: 0,
            extra: BTreeMap::new(),
        };
        snapshot.dead.insert(id(1), death.clone());
        assert_eq!((standing(&snapshot, &id(1)), snapshot.is_dead(&id(1))), (Standing::Alive, false));
        snapshot.nodes.remove(&id(1));
        assert_eq!((standing(&snapshot, &id(1)), snapshot.is_dead(&id(1))), (Standing::Dead(&death), true));
        assert_eq!(standing(&snapshot, &id(9)), Standing::Unknown);
        let suspects: Vec<_> = snapshot.suspects().map(|host| host.id.clone()).collect();
        assert_eq!(suspects, [id(0)]);
    }

    #[test]
    fn the_work_is_spread_over_the_hosts() {
        let snapshot = cluster(20);
        let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
        for n in 100..400 {
            for juror in jury(&snapshot, &KnownHost { id: id(n), ..known(0) }) {
                *load.entry(juror).or_default() += 1;
            }
        }
        // 300 cases of five jurors on 20 hosts: 75 each.
        let counts: BTreeSet<_> = load.values().copied().collect();
        assert!(
            load.len() == 20 && *counts.first().unwrap() > 40 && *counts.last().unwrap() < 120,
            "{counts:?}"
        );
        assert_eq!(cases(&snapshot, &id(1)).len(), usize::from(jury(&snapshot, &known(0)).contains(&id(1))));
    }
}
