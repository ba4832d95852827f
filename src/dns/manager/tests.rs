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
async fn told(open: crate::dns::place::Open) -> Told {
    let state = tempfile::tempdir().unwrap();
    let local = Local::open(state.path(), 1).unwrap();
    local.put_endpoint(endpoint("/run/docker/netns/0123")).unwrap();
    let zone = watch::channel(Arc::default()).1;
    let common = Common { zone, epoch: Instant::now(), open };
    let (told, mut heard) = watch::channel(Told::default());
    let cancel = CancellationToken::new();
    let work = keep_sandboxes(&local, &common, &told, &cancel);
    let hear = async {
        let told = heard
            .wait_for(|told| told.unable.is_some() || !told.complaints.is_empty())
            .await
            .unwrap()
            .clone();
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
    let told = told(|_, _| Err(InterceptionError::Unsupported(Errno::EINVAL))).await;
    let unable = told.unable.unwrap();
    for part in ["names of other hosts are not answered", "Linux 5.12", "EINVAL"] {
        assert!(unable.contains(part), "{unable}");
    }
}

#[tokio::test]
async fn a_sandbox_that_is_held_is_told() {
    let told = told(|_, _| Err(InterceptionError::Held(Errno::EPERM))).await;
    let complaint = &told.complaints[&PathBuf::from("/run/docker/netns/0123")];
    assert!(complaint.contains("another rs-overlay daemon"), "{complaint}");
}
