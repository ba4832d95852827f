//! How long answers may be kept: 5 s, and not at all where something has been lost a moment ago.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    lookup::{Kind, labels, segments},
    reverse,
    zone::{Holder, Segment, Zone},
};
use crate::model::NetworkId;

/// Seconds for which an answer may be kept.
pub const LIFE: u32 = 5;
/// For how long a loss is remembered: until nobody keeps an answer from before it, and as long again for
/// holders that follow each other, as in a restart or a rolling update.
const MEMORY: Duration = Duration::from_secs(2 * LIFE as u64);
/// Losses that are remembered one by one. Of more than that nothing is kept, whatever its name.
const MOST: usize = 10_000;

/// What was lost, and until when that counts, on the clock of whoever builds zones.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost {
    names: BTreeMap<NetworkId, BTreeMap<Box<str>, Duration>>,
    /// Addresses whose name was lost.
    addresses: BTreeMap<NetworkId, BTreeMap<IpAddr, Duration>>,
    /// Until when everything counts as lost.
    all: Duration,
}

impl Zone {
    /// This zone as the successor of `before`, from the moment `now` on: what names and addresses had
    /// there and no longer have here is remembered for 10 s, and so is what `before` remembered, until
    /// its time is over. Moments are counted from any point that the caller keeps to.
    #[must_use]
    pub fn after(self, before: &Self, now: Duration) -> Self {
        let mut lost = before.lost.still(now);
        let until = now + MEMORY;
        let nothing = Segment::default();
        for (id, old) in &before.segments {
            let new = self.segments.get(id).unwrap_or(&nothing);
            let names = changed(old, new).flat_map(|holder| lost_names(holder, new));
            let names: BTreeMap<_, _> = names.take(MOST + 1).map(|name| (name.into(), until)).collect();
            let addresses = changed(old, new).flat_map(|holder| lost_titles(holder, new));
            let addresses: BTreeMap<_, _> = addresses.take(MOST + 1).map(|ip| (ip, until)).collect();
            if !names.is_empty() {
                lost.names.entry(id.clone()).or_default().extend(names);
            }
            if !addresses.is_empty() {
                lost.addresses.entry(id.clone()).or_default().extend(addresses);
            }
            if lost.len() > MOST {
                lost = Lost { all: until, ..Lost::default() };
                break;
            }
        }
        Self { lost, ..self }
    }
}

impl Lost {
    fn still(&self, now: Duration) -> Self {
        Self { names: later(&self.names, now), addresses: later(&self.addresses, now), all: self.all }
    }

    fn len(&self) -> usize {
        self.names.values().map(BTreeMap::len).sum::<usize>()
            + self.addresses.values().map(BTreeMap::len).sum::<usize>()
    }
}

/// The part whose time is not over.
fn later<K: Ord + Clone>(
    lost: &BTreeMap<NetworkId, BTreeMap<K, Duration>>,
    now: Duration,
) -> BTreeMap<NetworkId, BTreeMap<K, Duration>> {
    let alive = |list: &BTreeMap<K, Duration>| -> BTreeMap<K, Duration> {
        list.iter().filter(|(_, until)| now < **until).map(|(key, until)| (key.clone(), *until)).collect()
    };
    lost.iter().map(|(id, list)| (id.clone(), alive(list))).filter(|(_, list)| !list.is_empty()).collect()
}

/// The holders of `old` that are not the same in `new`.
fn changed<'a>(old: &'a Segment, new: &'a Segment) -> impl Iterator<Item = &'a Holder> {
    let mut rest = new.holders().iter().peekable();
    old.holders().iter().filter(move |holder| {
        while rest.next_if(|next| next.record.id < holder.record.id).is_some() {}
        rest.peek() != Some(holder)
    })
}

/// The names, in lower case, that `new` does not answer with all addresses with which this holder did.
fn lost_names(holder: &Holder, new: &Segment) -> Vec<String> {
    let kept =
        |name: &str| holder.addresses().all(|ip| new.owner(ip).is_some_and(|owner| owner.has_name(name)));
    holder.names().filter(|name| !kept(name)).map(str::to_ascii_lowercase).collect()
}

/// The addresses that had this holder's name and have it no longer.
fn lost_titles(holder: &Holder, new: &Segment) -> Vec<IpAddr> {
    let Some(before) = &holder.record.container else { return Vec::new() };
    let kept = |ip| new.owner(ip).is_some_and(|owner| owner.record.container.as_ref() == Some(before));
    holder.addresses().filter(|ip| !kept(*ip)).collect()
}

/// Seconds for which an answer to this question may be kept at the moment `now`, on the clock of
/// [`Zone::after`]: [`LIFE`], or 0 if the name has lost a holder of late in one of the networks.
pub fn life(zone: &Zone, networks: &[NetworkId], name: &str, kind: Kind, now: Duration) -> u32 {
    let counts = |until: &Duration| now < *until;
    let lost = &zone.lost;
    let lately = counts(&lost.all)
        || if kind == Kind::Ptr {
            let of = |ip: &IpAddr| {
                networks.iter().any(|id| lost.addresses.get(id).and_then(|l| l.get(ip)).is_some_and(counts))
            };
            !lost.addresses.is_empty() && reverse::address(name).as_ref().is_some_and(of)
        } else {
            !lost.names.is_empty()
                && labels(name).any(|(label, network)| {
                    let label = label.to_ascii_lowercase();
                    segments(zone, networks)
                        .filter(|(_, segment)| network.is_none() || segment.name.as_deref() == network)
                        .filter_map(|(id, _)| lost.names.get(id)?.get(label.as_str()))
                        .any(counts)
                })
        };
    if lately { 0 } else { LIFE }
}

#[cfg(test)]
mod tests;
