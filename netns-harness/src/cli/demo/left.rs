//! What is left after the last `down`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_harness::{Host, Lab, StoreKind, wait_until};

use super::stage::Stage;

/// The daemons give back what nobody holds any more in their own time, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The record that every cluster has.
const CLUSTER: &str = "rs-overlay/v1/meta";

/// Records of the cluster, its hosts and the networks that were removed, which stay when all else is gone.
const KEPT: [&str; 5] = [
    CLUSTER,
    "rs-overlay/v1/nodes/",
    "rs-overlay/v1/hosts/",
    "rs-overlay/v1/marks/",
    "rs-overlay/v1/removed/",
];

/// How much is left on a host, or in the store.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) place: String,
    /// What was looked for, and all that was found of it.
    pub(super) found: Vec<(&'static str, Vec<String>)>,
}

/// Wait until nothing is left anywhere; gives what was looked for.
pub(super) fn nothing(stage: &Stage, lab: &Lab) -> Result<Vec<Left>> {
    wait_until("the end of all that the project had", LIMIT, || -> Result<Option<Vec<Left>>> {
        let mut all = lab.hosts().iter().map(|host| on_host(stage, host)).collect::<Result<Vec<_>>>()?;
        all.extend(in_store(lab)?);
        for left in &all {
            for (what, found) in &left.found {
                ensure!(found.is_empty(), "{what} left on {}: {}", left.place, found.join("; "));
            }
        }
        Ok(Some(all))
    })
}

fn on_host(stage: &Stage, host: &Host) -> Result<Left> {
    let lines = |line: &str| -> Result<Vec<String>> {
        Ok(stage.quietly(host, line)?.lines().map(str::to_owned).collect())
    };
    let found = vec![
        ("containers", lines("docker ps -a --format '{{.Names}}'")?),
        ("networks", lines("docker network ls --filter driver=rs-overlay --format '{{.Name}}'")?),
        ("links and routes", host.leftovers()?),
    ];
    Ok(Left { place: host.name(), found })
}

/// Read with the store's own client. None where the store is a file, which has no such thing.
fn in_store(lab: &Lab) -> Result<Option<Left>> {
    let url = lab.store_url();
    let server = url.split_once("://").map_or("", |(_, server)| server);
    let keys: Vec<String> = match lab.store_kind() {
        StoreKind::Etcd => {
            let client = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", server];
            let listing = ["get", "--prefix", "rs-overlay/", "--keys-only"];
            let said = lab.fabric_exec(&[&client[..], &listing].concat())?;
            said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        StoreKind::Consul => {
            let url = format!("http://{server}/v1/kv/rs-overlay/?keys");
            let said = lab.fabric_exec(&["curl", "-sS", "--fail", &url])?;
            serde_json::from_str(&said).with_context(|| format!("cannot read consul's keys: {said}"))?
        }
        StoreKind::Embedded | StoreKind::None => return Ok(None),
    };
    ensure!(keys.iter().any(|key| key == CLUSTER), "the store at {url} has no cluster: {keys:?}");
    let found = keys.into_iter().filter(|key| !KEPT.iter().any(|kept| key.starts_with(kept))).collect();
    Ok(Some(Left { place: lab.store_kind().to_string(), found: vec![("records", found)] }))
}
