//! What must be gone in the end: links, namespaces, routes, forwarding entries, records in the store.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_harness::{Lab, StoreKind, wait_until};

use super::{SOON, logs};

/// The daemon's own namespace on every host.
const OVERLAY: &str = "/run/docker/rs-overlay/netns/overlay";

/// The device on which hosts ask for each other, which is there without networks too.
const PROBE_DEVICE: &str = "x16777215";

/// Removes all containers and our networks, and waits until neither kernel nor store hold anything of
/// them: the store only what it has of a cluster without networks.
pub(crate) fn assert_clean(lab: &Lab) {
    for host in lab.hosts() {
        let all = host.docker(&["ps", "-aq"]).unwrap();
        if !all.is_empty() {
            host.docker(&[&["rm", "-f"], &*all.lines().collect::<Vec<_>>()].concat()).unwrap();
        }
    }
    for host in lab.hosts() {
        let ours = ["network", "ls", "-q", "--filter", "driver=rs-overlay"];
        wait_until("the removal of all networks", SOON, || -> Result<bool> {
            for network in host.docker(&ours)?.lines() {
                // Another host's removal may come first.
                host.docker_output(&["network", "rm", network])?;
            }
            Ok(host.docker(&ours)?.is_empty())
        })
        .unwrap();
    }
    let clean = wait_until("the end of all that was ours", SOON, || nothing_left(lab).map(|()| true));
    clean.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    eprintln!("nothing is left over");
}

/// That neither kernels nor the store hold anything of networks.
pub(crate) fn nothing_left(lab: &Lab) -> Result<()> {
    let leftovers = lab.leftovers()?;
    ensure!(leftovers.is_empty(), "left in the kernel: {}", leftovers.join("; "));
    for host in lab.hosts() {
        let inside =
            |argv: &[&str]| host.exec(&[&["nsenter", &format!("--net={OVERLAY}"), "--"], argv].concat());
        let links = inside(&["ip", "-o", "link", "show"])?;
        let others = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains(PROBE_DEVICE)).map(str::to_owned).collect()
        };
        ensure!(others(&links).len() == 1, "links in the overlay's namespace of {}: {links}", host.name());
        let fdb = inside(&["bridge", "fdb", "show"])?;
        ensure!(others(&fdb).is_empty(), "forwarding entries of {}: {fdb}", host.name());
        let pins = host.exec(&["sh", "-c", "ls -A /run/docker/rs-overlay/netns"])?;
        // The lock keeps a second daemon off, and holds nothing.
        let pins: Vec<_> = pins.lines().filter(|name| *name != ".overlay.lock").collect();
        ensure!(pins == ["overlay"], "namespaces of {}: {pins:?}", host.name());
    }
    nothing_left_in_store(lab)
}

/// That the store holds only what it has of a cluster without networks.
pub(crate) fn nothing_left_in_store(lab: &Lab) -> Result<()> {
    let lasting = ["v1/meta", "v1/nodes/", "v1/hosts/", "v1/marks/", "v1/removed/"];
    let kept = |key: &String| lasting.iter().any(|beginning| key.starts_with(beginning));
    let left: Vec<String> = store_keys(lab)?.into_iter().filter(|key| !kept(key)).collect();
    ensure!(left.is_empty(), "left in the store: {}", left.join(", "));
    Ok(())
}

/// All keys of the daemons' in the store, read with the store's own client, without the prefix.
pub(crate) fn store_keys(lab: &Lab) -> Result<Vec<String>> {
    let url = lab.store_url();
    let server = url.split_once("://").map_or("", |(_, server)| server);
    let text = match lab.store_kind() {
        StoreKind::Etcd => lab.fabric_exec(&[
            "env",
            "ETCDCTL_API=3",
            "etcdctl",
            "--endpoints",
            server,
            "get",
            "--prefix",
            "rs-overlay/",
            "--keys-only",
        ])?,
        StoreKind::Consul => {
            let keys = lab.fabric_exec(&[
                "curl",
                "-sS",
                "--fail",
                &format!("http://{server}/v1/kv/rs-overlay/?keys"),
            ])?;
            serde_json::from_str::<Vec<String>>(&keys).context("Consul's list of keys")?.join("\n")
        }
        StoreKind::Embedded => embedded_keys(lab)?,
        StoreKind::None => String::new(),
    };
    let keys = text.lines().filter(|line| !line.is_empty());
    let keys: Vec<String> =
        keys.map(|key| key.strip_prefix("rs-overlay/").unwrap_or(key).to_owned()).collect();
    ensure!(keys.iter().any(|key| key == "v1/meta"), "no cluster in the store: {keys:?}");
    Ok(keys)
}

/// All records below a prefix of a store that is a server.
pub(crate) fn store_values(lab: &Lab, prefix: &str) -> Result<Vec<serde_json::Value>> {
    let url = lab.store_url();
    let server = url.split_once("://").map_or("", |(_, server)| server);
    let text = match lab.store_kind() {
        StoreKind::Etcd => lab.fabric_exec(&[
            "env",
            "ETCDCTL_API=3",
            "etcdctl",
            "--endpoints",
            server,
            "get",
            "--prefix",
            &format!("rs-overlay/{prefix}"),
            "--print-value-only",
        ])?,
        StoreKind::Consul => {
            // Each value on a line of its own: records have no line ends.
            let list = format!("http://{server}/v1/kv/rs-overlay/{prefix}?keys");
            let each = format!("curl -sS --fail 'http://{server}/v1/kv/'$key'?raw'; echo");
            let script = format!(
                "for key in $(curl -sS --fail '{list}' | tr -d '[]\" ' | tr ',' ' '); do {each}; done"
            );
            lab.fabric_exec(&["sh", "-c", &script])?
        }
        StoreKind::Embedded | StoreKind::None => anyhow::bail!("no server to read records from"),
    };
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Through the socket that the first host's daemon serves, as other daemons read it.
fn embedded_keys(lab: &Lab) -> Result<String> {
    use rs_overlay::store::{open, options::StoreOptions, timeouts::Timeouts};
    let url = format!("unix://{}", lab.dir().join("store/cluster.sock").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entries = runtime.block_on(async {
        let store = open::open(&url.parse()?, &StoreOptions::default(), Timeouts::default()).await?;
        anyhow::Ok(store.range("v1/").await?)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(entries?.into_iter().map(|entry| entry.key).collect::<Vec<_>>().join("\n"))
}
