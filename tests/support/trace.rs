//! Calls of real engines, as they were recorded: `tests/engine-traces/<engine>-<mode>.jsonl`, one JSON
//! object a line, either a command that a person typed or a call that came of it.

use std::{fs, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// One line of a recording.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Step {
    /// What an engine asked, and what the recording driver answered.
    Call {
        /// `/<Kind>.<Method>`.
        path: String,
        /// The body; `None` where the engine sent none.
        request: Option<Value>,
        /// What the recording driver said, which is not what this one must say.
        answer: Value,
    },
    /// What a person typed.
    Command {
        /// The command line.
        command: String,
    },
}

/// Reads a recording.
pub(crate) fn read(name: &str) -> Vec<Step> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "engine-traces"].iter().collect();
    let text = fs::read_to_string(dir.join(format!("{name}.jsonl"))).unwrap();
    let steps: Vec<Step> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(steps.iter().any(|step| matches!(step, Step::Call { .. })), "{name} has no calls");
    steps
}

/// The recorder called a pool the same in both address spaces, so that a manager's recording does not
/// tell which one a call means: marks those that the manager's host asked for as a node.
pub(crate) fn tell_node_from_manager(steps: &mut [Step]) {
    let calls: Vec<usize> = (0..steps.len()).filter(|at| matches!(steps[*at], Step::Call { .. })).collect();
    let method =
        |steps: &[Step], at: usize, method: &str| calls.get(at).is_some_and(|call| steps[*call].is(method));
    for at in 0..calls.len() {
        let step = &steps[calls[at]];
        let by_node = if step.is("IpamDriver.RequestPool") {
            step.has("IpamDriver.RequestPool", "AddressSpace", "RecLocal")
        } else if step.is("IpamDriver.RequestAddress") {
            // Only a manager's allocator asks for addresses in series.
            !step.asks_in_series()
        } else if step.is("IpamDriver.ReleaseAddress") {
            at > 0 && method(steps, at - 1, "NetworkDriver.DeleteEndpoint")
                || method(steps, at + 2, "NetworkDriver.DeleteNetwork")
                    && method(steps, at + 1, "IpamDriver.ReleasePool")
        } else {
            method(steps, at + 1, "NetworkDriver.DeleteNetwork")
        };
        if let Step::Call { request, answer, .. } = &mut steps[calls[at]]
            && by_node
        {
            for body in request.iter_mut().chain([answer]) {
                if let Some(Value::String(pool)) = body.get_mut("PoolID") {
                    pool.push_str(" of the node");
                }
            }
        }
    }
}

impl Step {
    fn asks_in_series(&self) -> bool {
        let Self::Call { request: Some(request), .. } = self else { return false };
        !request["Options"]["com.docker.network.ipam.serial"].is_null()
    }

    /// Whether it is a call of `method`.
    pub(crate) fn is(&self, method: &str) -> bool {
        matches!(self, Self::Call { path, .. } if path.strip_prefix('/') == Some(method))
    }

    /// Whether it is a call of `method` whose body has `value` under `key`.
    pub(crate) fn has(&self, method: &str, key: &str, value: &str) -> bool {
        let Self::Call { request: Some(request), .. } = self else { return false };
        self.is(method) && request[key] == value
    }
}
