//! An etcd of the figures' own, in a network namespace that has nothing but a loopback.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use rs_overlay::store::{
    Outcome, Store, TXN_LIMIT, Txn, open::open, options::StoreOptions, timeouts::Timeouts, url::StoreUrl,
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::memory::process::cpu_in;

const PORT: u16 = 2379;
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// Transactions under way at once while it is filled.
const AT_ONCE: usize = 24;

/// Runs `work` on a thread of its own, in a network namespace of its own. All threads that it starts are there
/// as well.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            let up =
                Command::new("ip").args(["link", "set", "lo", "up"]).status().context("cannot run ip")?;
            ensure!(up.success(), "cannot bring a loopback up");
            work()
        });
        inside.join().unwrap_or_else(|_| bail!("a measurement broke off"))
    })
}

/// A runtime like a daemon's, in the namespace of the calling thread.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot make a runtime")
}

/// A server, which ends with this.
pub(crate) struct Etcd {
    child: Child,
    _directory: TempDir,
}

impl Etcd {
    /// Starts an empty one in the namespace of the calling thread.
    pub(crate) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = std::fs::File::create(directory.path().join("log"))?;
        let child = Command::new(netns_harness::parts::etcd_binary()?)
            .arg(format!("--data-dir={}", directory.path().join("data").display()))
            .args([format!("--listen-client-urls=http://127.0.0.1:{PORT}")])
            .args([format!("--advertise-client-urls=http://127.0.0.1:{PORT}")])
            .args(["--listen-peer-urls=http://127.0.0.1:2380", "--metrics=basic"])
            .args(["--quota-backend-bytes=8000000000"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start etcd")?;
        let etcd = Self { child, _directory: directory };
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = counters() {
            if Instant::now() > deadline {
                return Err(error.context("etcd does not come up"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(etcd)
    }

    /// CPU time that the server has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    cpu_in(&std::fs::read_to_string(format!("/proc/{process}/stat"))?)
}

/// What the server counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Calls that it has answered.
    pub(crate) calls: f64,
    /// Bytes that it has sent to clients.
    pub(crate) sent: f64,
    /// Watches that are open.
    pub(crate) watches: f64,
}

/// Asks for the counters.
pub(crate) fn counters() -> Result<Counters> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let sum = |name: &str| -> f64 {
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|r| r.starts_with([' ', '{'])));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    ensure!(text.contains("etcd_server_has_leader 1"), "etcd has no leader yet");
    Ok(Counters {
        calls: sum("grpc_server_handled_total"),
        sent: sum("etcd_network_client_grpc_sent_bytes_total"),
        watches: sum("etcd_debugging_mvcc_watcher_total"),
    })
}

/// A client of its own, as a daemon has it.
pub(crate) async fn client(timeouts: Timeouts) -> Result<Arc<dyn Store>> {
    client_of(&format!("etcd://127.0.0.1:{PORT}"), timeouts).await
}

/// The same of any server.
pub(crate) async fn client_of(url: &str, timeouts: Timeouts) -> Result<Arc<dyn Store>> {
    let url: StoreUrl = url.parse()?;
    Ok(open(&url, &StoreOptions::default(), timeouts).await?)
}

/// Puts all records, whatever was there.
pub(crate) async fn fill(store: &Arc<dyn Store>, records: Vec<(String, String)>) -> Result<()> {
    let mut records = records.into_iter().peekable();
    let mut tasks: JoinSet<Result<Outcome, _>> = JoinSet::new();
    while records.peek().is_some() {
        let mut txn = Txn::new();
        for (key, value) in records.by_ref().take(TXN_LIMIT) {
            txn = txn.put(key, value);
        }
        if tasks.len() >= AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        let store = store.clone();
        tasks.spawn(async move { store.txn(txn).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Deadlines that a machine does not miss that has a thousand hosts on two cores.
pub(crate) fn patient() -> Timeouts {
    Timeouts { call: PATIENCE, connect: PATIENCE, silence: PATIENCE, ..Timeouts::default() }
}
