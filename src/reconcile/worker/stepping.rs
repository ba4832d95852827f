//! One round: the steps from what was found to what is planned, what they led to, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Worker;
use crate::{
    clock,
    dataplane::Dataplane,
    model::{EndpointId, NetworkId, Vni},
    plan::{Op, Overlay, Planner, Spoken, diff, repaired_thing, repairs},
    watched::Watched,
};

/// Repairs of one round that are logged one by one; more are only counted.
const TOLD: usize = 10;

impl<D: Dataplane> Worker<D> {
    /// Takes the steps that are missing; answers the state as far as it is known, whether it is the desired
    /// one, and the ports that had to be made again. `left` is the state in which the kernel was left.
    pub(super) async fn make_equal(
        &self,
        from: Overlay,
        left: Option<Overlay>,
        spoken: &mut BTreeMap<Vni, Spoken>,
        planner: &mut Planner,
    ) -> (Overlay, bool, BTreeSet<EndpointId>) {
        let begun = Instant::now();
        let to = self.desired(&from, planner);
        let mut ops = diff(&from, &to);
        ops.sort_by_key(Op::can_wait);
        let spent = begun.elapsed();
        let told = self.applied.now();
        let mut complaints: BTreeMap<NetworkId, String> = BTreeMap::new();
        let mut trouble = None;
        let mut done = Vec::with_capacity(ops.len());
        let urgent = ops.iter().position(Op::can_wait).unwrap_or(ops.len());
        let (first, rest) = ops.split_at(urgent);
        let mut results = if first.is_empty() { Vec::new() } else { self.dataplane.apply(first).await };
        if !rest.is_empty() {
            // Whoever waits for a link need not wait for what makes it faster.
            let so_far = first.iter().zip(&results).filter(|(_, result)| result.is_ok());
            let so_far: Vec<_> = so_far.map(|(op, _)| op.clone()).collect();
            let reached = crate::plan::apply(&so_far, from.clone());
            self.applied.send_modify(|applied| Arc::make_mut(applied).overlay = reached.into());
            results.extend(self.dataplane.apply(rest).await);
        }
        let (plan_us, kernel_us) =
            (clock::micros(spent), clock::micros(begun.elapsed().saturating_sub(spent)));
        debug!(steps = ops.len(), plan_us, kernel_us, "planned and applied");
        for (op, result) in ops.iter().zip(results) {
            match result {
                Ok(()) => {
                    debug!(step = %op, "done");
                    done.push(op.clone());
                }
                Err(error) => {
                    let (network, text) = (network_of(op, &from, &to), error.to_string());
                    let before = match &network {
                        Some(network) => told.complaints.get(network),
                        None => told.trouble.as_ref(),
                    };
                    // What lasts is told once.
                    if before == Some(&text) {
                        debug!(step = %op, %error, "a step has failed again");
                    } else {
                        warn!(step = %op, %error, "a step failed, trying again soon");
                    }
                    match network {
                        // The first one: what fails after it may only stand on what is missing then.
                        Some(network) => {
                            complaints.entry(network).or_insert(text);
                        }
                        None => trouble = Some(text),
                    }
                }
            }
        }
        let mut touched: BTreeSet<_> = ops.iter().filter_map(Op::vni).collect();
        if spoken.is_empty() {
            // The first round: what is there already has been heard of, by whomever.
            touched.extend(to.segments.keys());
        }
        if !touched.is_empty() {
            self.announce(&touched, &from, &to, spoken).await;
        }
        let complete = done.len() == ops.len();
        let mut repaired = left.map(|left| repairs(&left, &from, &done)).unwrap_or_default();
        // A port that went with its sandbox is the container's end, and nobody's doing.
        repaired
            .retain(|step| remade_port(step, &from).is_none_or(|endpoint| !self.has_lost_sandbox(&endpoint)));
        for step in repaired.iter().take(TOLD) {
            info!(%step, "somebody else has changed the kernel's state; repaired");
        }
        let remade: BTreeSet<_> = repaired.iter().filter_map(|step| remade_port(step, &from)).collect();
        // The law of `diff`: all of its steps lead to `to`, of which there need be no second copy then.
        let reached = if complete { to } else { crate::plan::apply(&done, from) };
        if !done.is_empty() {
            info!(steps = done.len(), failed = ops.len() - done.len(), "kernel brought up to date");
        }
        let steps = self.applied.now().steps + u64::try_from(done.len()).unwrap_or(u64::MAX);
        let compared_at = clock::unix_seconds();
        self.applied.send_modify(|applied| {
            let applied = Arc::make_mut(applied);
            for step in repaired {
                applied.count_repair(repaired_thing(step), step.to_string(), compared_at);
            }
            applied.overlay = reached.clone().into();
            applied.complaints = complaints;
            applied.trouble = trouble;
            applied.compared_at = compared_at;
            applied.steps = steps;
        });
        (reached, complete, remade)
    }

    fn has_lost_sandbox(&self, endpoint: &EndpointId) -> bool {
        let sandbox = self.local.read(|data| data.endpoints.get(endpoint).and_then(|e| e.sandbox.clone()));
        sandbox.is_some_and(|path| !path.is_empty() && !Path::new(&path).exists())
    }
}

/// The endpoint of a port that was not there at all.
fn remade_port(step: &Op, from: &Overlay) -> Option<EndpointId> {
    let Op::AddPort { vni, endpoint, .. } = step else { return None };
    let there = from.segments.get(vni).is_some_and(|segment| segment.ports.contains_key(endpoint));
    (!there).then(|| endpoint.clone())
}

fn network_of(op: &Op, from: &Overlay, to: &Overlay) -> Option<NetworkId> {
    if let Op::AddSegment { network, .. } = op {
        return Some(network.clone());
    }
    let vni = &op.vni()?;
    to.segments.get(vni).or_else(|| from.segments.get(vni)).map(|segment| segment.network.clone())
}
