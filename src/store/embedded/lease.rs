//! When leases end: the file knows how long each lasts, memory knows since when.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::store::LeaseId;

/// All leases that have not ended.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<u64, Lease>);

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

impl Leases {
    /// Starts, or starts again, at `now`.
    pub(super) fn start(&mut self, id: u64, ttl: Duration, now: Instant) {
        self.0.insert(id, Lease { ttl, ends: now + ttl });
    }

    /// Whether there was something to renew.
    pub(super) fn renew(&mut self, id: u64, now: Instant) -> bool {
        match self.0.get_mut(&id).filter(|lease| lease.ends > now) {
            Some(lease) => {
                lease.ends = now + lease.ttl;
                true
            }
            None => false,
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// Those that are over.
    pub(super) fn ended(&self, now: Instant) -> Vec<u64> {
        self.0.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect()
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|lease| lease.ends).min()
    }
}

/// The number in a lease's name; `None` for a name that no embedded store gave.
pub(super) fn number(lease: &LeaseId) -> Option<u64> {
    u64::from_str_radix(&lease.0, 16).ok()
}

/// The name of a lease.
pub(super) fn name(id: u64) -> LeaseId {
    LeaseId(format!("{id:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_unless_it_is_renewed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut leases = Leases::default();
        leases.start(1, Duration::from_secs(10), start);
        leases.start(2, Duration::from_secs(10), start);
        assert!(leases.renew(2, after(5)));
        assert_eq!(leases.next_end(), Some(after(10)));
        assert_eq!(leases.ended(after(10)), [1]);
        assert!(!leases.renew(1, after(10)), "one that is over cannot come back");
        leases.remove(1);
        assert_eq!(leases.next_end(), Some(after(15)));
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(number(&name(u64::MAX)), Some(u64::MAX));
        assert_eq!(number(&LeaseId("session".into())), None);
    }
}
