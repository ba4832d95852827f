//! Store servers that a test can start, kill, stop and wipe.

#[path = "servers/process.rs"]
mod process;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rs_overlay::store::{Store, open::open, options::StoreOptions, timeouts::Timeouts, url::StoreUrl};
use tempfile::TempDir;

pub(crate) use self::process::{Process, free_port, missing};

/// How long anything may take on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Deadlines short enough that an outage does not take a test minutes.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts { silence: Duration::from_secs(12), retry_most: Duration::from_secs(1), ..Timeouts::default() }
}

/// A store at an address, as the daemon would open it.
pub(crate) async fn opened(url: &str, options: &[String]) -> Arc<dyn Store> {
    let url: StoreUrl = url.parse().unwrap();
    open(&url, &StoreOptions::parse(options).unwrap(), timeouts()).await.unwrap()
}

/// A server in a process of its own.
pub(crate) trait Server: Sized + Send + Sync {
    /// Starts one with no data. `None` if its program is missing and the user allows to skip.
    fn start() -> impl Future<Output = Option<Self>> + Send;

    /// Its address for the product.
    fn url(&self) -> String;

    /// The process.
    fn process(&mut self) -> &mut Process;

    /// Where its data are.
    fn data(&self) -> PathBuf;

    /// A store of it, once it answers.
    fn store(&self) -> impl Future<Output = Arc<dyn Store>> + Send {
        async {
            let store = opened(&self.url(), &[]).await;
            answers(&*store).await;
            store
        }
    }
}

/// Waits until a store answers.
pub(crate) async fn answers(store: &dyn Store) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // A range may be answered by a server that cannot write yet.
    while let Err(error) = store.range("none").await {
        assert!(tokio::time::Instant::now() < deadline, "the server does not come up: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A single etcd.
pub(crate) struct Etcd {
    directory: TempDir,
    process: Process,
    port: u16,
}

impl Server for Etcd {
    async fn start() -> Option<Self> {
        Self::with(|_| Vec::new(), "http")
    }

    fn url(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.port)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Etcd {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts one with further arguments, made from its directory.
    pub(crate) fn with(arguments: impl Fn(&std::path::Path) -> Vec<String>, scheme: &str) -> Option<Self> {
        let program = missing(netns_harness::parts::etcd_binary())?;
        let directory = tempfile::tempdir().unwrap();
        let (port, peer) = (free_port(), free_port());
        let mut all: Vec<String> = [
            format!("--data-dir={}", directory.path().join("data").display()),
            format!("--listen-client-urls={scheme}://127.0.0.1:{port}"),
            format!("--advertise-client-urls={scheme}://127.0.0.1:{port}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
        ]
        .into();
        all.extend(arguments(directory.path()));
        let process = Process::start(program, all, directory.path().join("log"));
        Some(Self { directory, process, port })
    }
}

/// A single Consul server.
pub(crate) struct Consul {
    directory: TempDir,
    process: Process,
    port: u16,
}

impl Server for Consul {
    async fn start() -> Option<Self> {
        Self::with(|_, port| serde_json::json!({"ports": {"http": port}}))
    }

    fn url(&self) -> String {
        format!("consul://127.0.0.1:{}", self.port)
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Consul {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts one with further configuration, made from its directory and the port that it is to serve.
    pub(crate) fn with(config: impl Fn(&std::path::Path, u16) -> serde_json::Value) -> Option<Self> {
        let program = missing(netns_harness::parts::consul_binary())?;
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let base = serde_json::json!({
            "server": true,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "data_dir": directory.path().join("data"),
            "disable_update_check": true,
            "log_level": "warn",
            "performance": {"raft_multiplier": 1},
            "ports": {
                "http": -1, "https": -1, "dns": -1, "grpc": -1, "serf_wan": -1,
                "server": free_port(), "serf_lan": free_port(),
            },
        });
        let write = |name: &str, value: &serde_json::Value| {
            let path = directory.path().join(name);
            std::fs::write(&path, value.to_string()).unwrap();
            format!("-config-file={}", path.display())
        };
        let files = [write("1.json", &base), write("2.json", &config(directory.path(), port))];
        let arguments = [vec!["agent".to_owned()], files.into()].concat();
        let process = Process::start(program, arguments, directory.path().join("log"));
        Some(Self { directory, process, port })
    }
}

/// An embedded store in a process of its own: this test program, started once more.
pub(crate) struct Holder {
    directory: TempDir,
    process: Process,
}

/// Environment variable that tells the second process which file to hold.
const HOLD: &str = "RS_OVERLAY_TEST_HOLD";

impl Holder {
    /// Starts one that may write files of up to `bytes`.
    pub(crate) fn limited(bytes: u32) -> Self {
        // A shell that ignores the signal of the limit passes that on: a write past it is then an error.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", bytes / 512);
        let this_program = std::env::current_exe().unwrap().display().to_string();
        Self::run("/bin/sh".into(), vec!["-c".to_owned(), script, "sh".to_owned(), this_program])
    }

    fn run(program: PathBuf, mut arguments: Vec<String>) -> Self {
        arguments.extend(["--exact", "servers::hold_an_embedded_store"].map(String::from));
        let directory = tempfile::tempdir().unwrap();
        let environment = [(HOLD, directory.path().join("store.redb").display().to_string())];
        let process = Process::start_with(program, arguments, directory.path().join("log"), environment);
        Self { directory, process }
    }
}

impl Server for Holder {
    async fn start() -> Option<Self> {
        Some(Self::run(std::env::current_exe().unwrap(), Vec::new()))
    }

    fn url(&self) -> String {
        format!("unix://{}.sock", self.data().display())
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("store.redb")
    }
}

/// Run by other tests as a process of its own, it holds a store. By itself it tests that only one process
/// can, and that the other one is told how to share it.
#[tokio::test]
async fn hold_an_embedded_store() {
    if let Ok(file) = std::env::var(HOLD) {
        let _store = opened(&format!("embedded://{file}"), &[]).await;
        std::future::pending::<()>().await;
    }
    let holder = Holder::start().await.unwrap();
    let shared = holder.store().await;
    assert_eq!(shared.range("").await.unwrap(), vec![]);
    let url = format!("embedded://{}", holder.data().display()).parse().unwrap();
    let error = open(&url, &StoreOptions::default(), timeouts()).await.err().unwrap();
    assert!(error.to_string().contains(&holder.url()), "{error}");
}

/// An embedded store in this process.
pub(crate) struct InProcess(
    Arc<dyn Store>,
    #[expect(dead_code, reason = "deletes the data at the end")] TempDir,
);

impl InProcess {
    pub(crate) async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("embedded://{}", directory.path().join("below/store.redb").display());
        Some(Self(opened(&url, &[]).await, directory))
    }

    #[expect(clippy::unused_async, reason = "like that of the other servers")]
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }
}
