//! The daemon: builds the parts, joins them, runs them, and takes them down in order.

pub mod check;
mod facts;
mod hosts;
mod losses;
mod mtu;
mod names;
mod orders;
mod parts;
mod readiness;
mod underlay;
mod verify;
mod view;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    chance,
    config::{ConfigError, DaemonConfig},
    dataplane::{
        host::Host,
        netlink::{Kernel, KernelConfig},
    },
    engine::DriverName,
    http,
    local::Local,
    model::FastPathMode,
    store::{open, timeouts::Timeouts, url::StoreUrl},
};

/// How long a shutdown waits for calls and tasks before it ends them.
const DRAIN: Duration = Duration::from_secs(4);

/// Whether this process is a managed plugin, which has `socket`.
pub fn is_managed_plugin(socket: &Path) -> bool {
    DriverName::of_socket(socket).plugin().is_some()
}

/// Runs the daemon until it is told to stop. A setting that this machine cannot fulfil is a
/// [`ConfigError`], found before anything is touched.
pub fn run(config: DaemonConfig) -> anyhow::Result<()> {
    raise_open_files();
    Kernel::keep_little_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // What still waits for an answer from a store that is away must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Every container's sandbox takes some descriptors, and the usual soft limit of 1,024 ends at about a
/// hundred of them.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the number of open files");
    }
}

async fn serve(config: DaemonConfig) -> anyhow::Result<()> {
    let host = Host::open(None)?;
    let vtep = underlay::first_address(config.cluster_advertise.as_ref(), &host).await?;
    let url: StoreUrl = config.cluster_store.parse()?;
    // The signals first: a stop that comes early must not kill what is half made.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    if config.fast_path == FastPathMode::On {
        let tried = Kernel::try_fast_path().await;
        tried
            .map_err(|error| ConfigError::value("--fast-path", "on", format!("{error}; give auto or off")))?;
    }
    let local = Arc::new(Local::open(&config.state_dir, chance::number())?);
    let listener = http::bind(&config.socket)?;
    let opened = async {
        let store = open::open(&url, &config.store_options, Timeouts::default()).await?;
        let kernel = Kernel::open(KernelConfig::default()).await?;
        anyhow::Ok((store, Arc::new(kernel)))
    };
    let (store, kernel) = opened.await.inspect_err(|_| remove_socket(&config.socket))?;
    let about = format!("socket {}, state directory {}", config.socket.display(), config.state_dir.display());
    local.sign(&about);
    kernel.sign(&about);
    if !kernel.adopted() {
        let lost = local.forget_lost(|sandbox| Path::new(sandbox).exists())?;
        if lost > 0 {
            info!(endpoints = lost, "this host has lost its links and sandboxes; forgetting their endpoints");
        }
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %local.node(),
        %vtep,
        store = %config.cluster_store,
        socket = %config.socket.display(),
        "rs-overlay starts"
    );

    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let plugin = parts::start(&config, vtep, store, host, kernel, local, &cancel, &mut tasks).await;
    let plugin = plugin.inspect_err(|_| remove_socket(&config.socket))?;
    let calls = plugin.calls.clone();
    let stop = cancel.clone();
    tasks.spawn(async move {
        let served =
            axum::serve(listener, http::router(plugin)).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            error!(%error, "the plugin's socket failed");
        }
    });
    readiness::ready(&config.socket);

    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // No task ends before it is told to.
        ended = tasks.join_next() => Some(ended),
    };
    info!("stopping; containers keep their network");
    readiness::stopping();
    remove_socket(&config.socket);
    cancel.cancel();
    calls.close();
    let drained = tokio::time::timeout(DRAIN, async {
        calls.wait().await;
        while tasks.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        warn!("not everything ended in time; ending it");
    }
    match failed {
        None => Ok(()),
        Some(ended) => anyhow::bail!("a part of the daemon ended by itself: {ended:?}"),
    }
}

/// So that an engine finds nobody, instead of somebody who does not answer.
fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path).context("removing the socket") {
        warn!(error = format!("{error:#}"), path = %path.display(), "the socket stays behind");
    }
}
