//! Who can talk to whom: once two containers can, only their own end, or somebody who meddles with the
//! kernel, may change that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use rs_overlay::{model::EndpointId, plan::Overlay, watched::Watched};
use tokio::time::Instant;

use super::{checks::Live, host};

/// How long a kernel may be other than it should be when somebody has changed it.
const REPAIRED: Duration = Duration::from_secs(35);

/// What is known of who can talk to whom.
#[derive(Default)]
pub(crate) struct Reach {
    pairs: BTreeSet<(EndpointId, EndpointId)>,
}

impl Reach {
    /// Compares with what was, and tells of a pair that is cut although both still live.
    pub(crate) fn look(&mut self, live: &BTreeSet<Live>) -> Result<(), String> {
        let kernels: Vec<(Overlay, IpAddr, bool)> = (0..host::count())
            .map(|number| {
                host::with(number, |host| {
                    let meddled = host.meddled.is_some_and(|at| at.elapsed() < REPAIRED);
                    (host.kernel.overlay(), host.vtep, meddled)
                })
            })
            .collect();
        let by_id: BTreeMap<_, _> = live.iter().map(|one| (&one.endpoint, one)).collect();
        let mut now = BTreeSet::new();
        for (from, to) in live.iter().flat_map(|from| live.iter().map(move |to| (from, to))) {
            if from.network == to.network && from.host != to.host && reaches(&kernels, from, to) {
                let pair = (from.endpoint.clone(), to.endpoint.clone());
                if self.pairs.contains(&pair) || knows(from.host, to) {
                    now.insert(pair);
                }
            }
        }
        for pair in self.pairs.difference(&now) {
            if let (Some(from), Some(to)) = (by_id.get(&pair.0), by_id.get(&pair.1))
                && !kernels[from.host].2
                && !kernels[to.host].2
            {
                let kernel = &kernels[from.host].0;
                return Err(format!(
                    "at {:?}: {from:?} no longer reaches {to:?}: {kernel:?}",
                    Instant::now()
                ));
            }
        }
        self.pairs = now;
        Ok(())
    }
}

/// Whether a host has heard of an endpoint. Where it has not, the way there is that of an earlier one with the
/// same address, which goes first.
fn knows(host: usize, one: &Live) -> bool {
    host::daemon(host).is_some_and(|daemon| {
        let snapshot = daemon.snapshot.now();
        snapshot.endpoints.get(&one.network).is_some_and(|known| known.contains_key(&one.endpoint))
    })
}

fn reaches(kernels: &[(Overlay, IpAddr, bool)], from: &Live, to: &Live) -> bool {
    let segment_of = |one: &Live| {
        let mut segments = kernels[one.host].0.segments.iter();
        segments.find(|(_, segment)| segment.ports.contains_key(&one.endpoint))
    };
    let (Some((vni, here)), Some((other, _))) = (segment_of(from), segment_of(to)) else { return false };
    let knows = |ip: &IpAddr| {
        let mac = here.neighbours.get(ip);
        mac.is_some_and(|mac| here.fdb.get(mac) == Some(&kernels[to.host].1))
    };
    vni == other && to.ips.iter().all(knows)
}
