//! The cluster store: its options' files, whether it answers, and which cluster it holds.

use std::{fs, path::Path, time::Instant};

use super::{Finding, places::writable};
use crate::{
    config::DaemonConfig,
    local::known_cluster,
    model::Meta,
    store::{
        Store, embedded::serve::socket_of, keys, open, record, remote::Remote, timeouts::Timeouts,
        url::StoreUrl,
    },
};

const SUBJECT: &str = "cluster-store";

/// Whether the store can be used. `running`: a daemon does that already.
pub(super) async fn store(config: &DaemonConfig, running: bool) -> Vec<Finding> {
    let url: StoreUrl = match config.cluster_store.parse() {
        Ok(url) => url,
        Err(error) => return vec![problem(&error)],
    };
    // Opening an embedded store would make its file, or take it from a daemon that is about to start.
    if let StoreUrl::Embedded { path } = &url {
        return vec![embedded(config, &open::data_file(path.clone()).await, running).await];
    }
    match open::open(&url, &config.store_options, Timeouts::default()).await {
        Ok(store) => vec![answer(config, &*store).await],
        Err(error) => vec![problem(&error)],
    }
}

async fn embedded(config: &DaemonConfig, file: &Path, running: bool) -> Finding {
    let socket = socket_of(file);
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        if !running {
            return Finding::problem(
                SUBJECT,
                format!(
                    "another daemon holds the embedded store {}; to share its store on this machine, use --cluster-store unix://{}",
                    file.display(),
                    socket.display()
                ),
            );
        }
        return match Remote::new(&socket, Timeouts::default()) {
            Ok(store) => answer(config, &store).await,
            Err(error) => problem(&error),
        };
    }
    let usable = match fs::metadata(file) {
        Ok(found) if !found.is_file() => Err(format!("{} is not a file; choose another one", file.display())),
        Ok(_) => writable(file.parent().unwrap_or(file)).map(|_| "is there"),
        Err(_) => writable(file.parent().unwrap_or(file)).map(|_| "will be made"),
    };
    match usable {
        Ok(state) => Finding::ok(
            SUBJECT,
            format!(
                "the embedded store {} {state}; it is for one machine: give several hosts an etcd or consul",
                file.display()
            ),
        ),
        Err(told) => Finding::problem(SUBJECT, told),
    }
}

/// What the store says, and whether it is the one that this host belongs to.
async fn answer(config: &DaemonConfig, store: &dyn Store) -> Finding {
    let asked = Instant::now();
    let entries = match store.range(keys::META).await {
        Ok(entries) => entries,
        Err(error) => {
            return problem(&format!("{error}; the daemon would start without it, and wait for it"));
        }
    };
    let took = asked.elapsed().as_millis();
    let nodes = store.range(keys::NODES).await.map_or(0, |nodes| nodes.len());
    let Some(entry) = entries.iter().find(|entry| entry.key == keys::META) else {
        return Finding::ok(
            SUBJECT,
            format!("answers within {took} ms, and is empty: this host would begin a cluster"),
        );
    };
    let meta = match record::decode::<Meta>(&entry.key, &entry.value) {
        Ok(meta) => meta,
        Err(error) => return problem(&format!("the cluster in it cannot be read: {error}")),
    };
    let hosts = if nodes == 1 { "1 host".to_owned() } else { format!("{nodes} hosts") };
    match known_cluster(&config.state_dir) {
        Ok(Some(known)) if known.id != meta.cluster && !meta.provisional => problem(&format!(
            "holds cluster {}, and this host belongs to {}; give it the store of its own cluster, or an empty --state-dir to join this one",
            meta.cluster, known.id
        )),
        Ok(_) => Finding::ok(
            SUBJECT,
            format!("answers within {took} ms, and holds cluster {} with {hosts} in it", meta.cluster),
        ),
        Err(error) => problem(&error),
    }
}

fn problem(told: &impl ToString) -> Finding {
    Finding::problem(SUBJECT, told.to_string())
}
