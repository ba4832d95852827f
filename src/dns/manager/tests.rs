//! What people hear when a sandbox cannot be served. How sandboxes are served stands in `tests/dns`.

use nix::errno::Errno;
use serde_json::json;

use super::*;
use crate::local::LocalEndpoint;

fn endpoint(sandbox: &str) -> LocalEndpoint {
    serde_json::from_value(json!({
        "id": "e1", "network": "n1", "docker_network": "d1", "mac": "02:42:0a:09:00:02", "addresses": [],
        "mtu": 1450, "sandbox": sandbox, "created_at": 1, "boot_id": crate::local::boot_id(),
    }))
    .unwrap()
}

/// Runs the manager with a way to open sandboxes that fails, until it has told of it.
async fn told(open: crate::dns::place::Open) -> Vec<String> {
    let state = tempfile::tempdir().unwrap();
    let local = Local::open(state.path(), 1).unwrap();
    local.put_endpoint(endpoint("/run/docker/netns/0123")).unwrap();
    let zone = watch::channel(Arc::default()).1;
    let common = Common { zone, epoch: Instant::now(), open };
    let (problems, mut heard) = watch::channel(Vec::new());
    let cancel = CancellationToken::new();
    let work = keep_sandboxes(&local, &common, &problems, &cancel);
    let hear = async {
        let told = heard.wait_for(|problems| !problems.is_empty()).await.unwrap().clone();
        // It stays, and does not end the daemon.
        tokio::task::yield_now().await;
        cancel.cancel();
        told
    };
    tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(work, hear).1 }).await.unwrap()
}

#[tokio::test]
async fn a_kernel_that_cannot_is_told() {
    // What Linux before 5.12 answers to the table's flag.
    let problems = told(|_, _| Err(InterceptionError::Unsupported(Errno::EINVAL))).await;
    assert_eq!(problems.len(), 1);
    for part in ["names of other hosts are not answered", "Linux 5.12", "EINVAL"] {
        assert!(problems[0].contains(part), "{problems:?}");
    }
}

#[tokio::test]
async fn a_sandbox_that_is_held_is_told() {
    let problems = told(|_, _| Err(InterceptionError::Held(Errno::EPERM))).await;
    for part in ["/run/docker/netns/0123", "another rs-overlay daemon"] {
        assert!(problems[0].contains(part), "{problems:?}");
    }
}
