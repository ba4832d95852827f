//! Stores that answer late, now and then, or that take nothing more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};

use super::StoreServer;
use crate::command::{CommandOutput, Run};
use crate::interrupt;
use crate::kinds::StoreKind;
use crate::parts::installed;

/// How long a slow server is awake between two sleeps: enough for what has piled up.
const AWAKE: Duration = Duration::from_millis(40);

/// Keys that only fill the store.
const FILLING: &str = "netns-harness-filling/";

/// Sizes of what is put under them, large ones first; etcd takes 1.5 MiB in one request.
const PIECES: [usize; 2] = [1 << 20, 1 << 10];

/// Most bytes that are tried before a store counts as one without a quota.
const MOST: usize = 64 << 20;

impl StoreServer {
    /// While `during` runs, let the server sleep for `delay` at a time and wake up for a moment: what it is asked is
    /// answered after up to `delay`, for all hosts, and no connection breaks.
    pub fn slow<T>(&self, delay: Duration, during: impl FnOnce() -> T) -> Result<T> {
        self.alternate([delay, AWAKE], [&|| self.pause(), &|| self.resume()], during)
    }

    /// While `during` runs, kill the server and start it again, `off` and `on` being the times in between.
    pub fn flap<T>(&self, off: Duration, on: Duration, during: impl FnOnce() -> T) -> Result<T> {
        self.alternate([off, on], [&|| self.kill(), &|| self.start()], during)
    }

    /// Kill the server and start it with more arguments, which hold until its next end.
    pub fn restart_with(&self, args: &[&str]) -> Result<()> {
        self.kill()?;
        self.start_with(args)
    }

    /// Put so much into etcd that it takes nothing more (`NOSPACE`). It must have been started with a quota that is
    /// within reach: `restart_with(&["--quota-backend-bytes", "16777216"])`.
    pub fn fill(&self) -> Result<()> {
        let (mut put, mut number) = (0, 0);
        for size in PIECES {
            while put < MOST {
                let key = format!("{FILLING}{number}");
                let output = self.etcdctl(&["put", &key], Some("x".repeat(size)))?;
                if !output.status.success() {
                    ensure!(
                        output.stderr.contains("space exceeded"),
                        "etcd cannot be filled: {}",
                        output.stderr.trim()
                    );
                    break;
                }
                put += size;
                number += 1;
            }
        }
        if put >= MOST {
            bail!("etcd took {put} bytes and is not full: start it with a smaller --quota-backend-bytes");
        }
        Ok(())
    }

    /// Take away what [`Self::fill`] has put, and end the alarm.
    pub fn drain(&self) -> Result<()> {
        // Deleting is allowed in a full store; only compaction and defragmentation make room of it.
        let deleted = self.told(&["del", "--prefix", FILLING, "-w", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&deleted)?;
        let revision = answer["header"]["revision"].to_string();
        self.told(&["compact", "--physical", &revision])?;
        self.told(&["defrag"])?;
        self.told(&["alarm", "disarm"]).map(drop)
    }

    fn told(&self, args: &[&str]) -> Result<String> {
        self.etcdctl(args, None)?.success(&format!("etcdctl {}", args.join(" ")))
    }

    fn etcdctl(&self, args: &[&str], input: Option<String>) -> Result<CommandOutput> {
        let Some(server) = self.server().filter(|_| self.shape.store == StoreKind::Etcd) else {
            bail!("only etcd can be filled, and this lab's store is {}", self.shape.store);
        };
        installed("etcdctl", "etcd-client")?;
        let mut command = self.fabric.namespaces.command("env");
        command.args(["ETCDCTL_API=3", "etcdctl", "--endpoints", &server.to_string()]).args(args);
        let run = Run::from_command(command);
        match input {
            Some(input) => run.input(input).output(),
            None => run.output(),
        }
    }

    /// Take both steps in turn, with their pauses after them, until `during` has returned; the second one is the last.
    fn alternate<T>(
        &self,
        pauses: [Duration; 2],
        steps: [&(dyn Fn() -> Result<()> + Sync); 2],
        during: impl FnOnce() -> T,
    ) -> Result<T> {
        self.require_server("disturbed")?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let disturbing = scope.spawn(|| {
                let mut end: Result<()> = Ok(());
                while end.is_ok() && !done.load(Ordering::Relaxed) {
                    end = steps.iter().zip(pauses).try_for_each(|(step, pause)| {
                        step()?;
                        sleep_unless(&done, pause);
                        Ok(())
                    });
                }
                end
            });
            let finish = Finish(&done);
            let value = during();
            drop(finish);
            disturbing.join().map_err(|_| anyhow!("the thread that disturbs the store died"))??;
            Ok(value)
        })
    }
}

/// Ends the disturbance also when what runs meanwhile panics.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sleep_unless(done: &AtomicBool, pause: Duration) {
    let started = Instant::now();
    while started.elapsed() < pause && !done.load(Ordering::Relaxed) && !interrupt::interrupted() {
        thread::sleep(pause.saturating_sub(started.elapsed()).min(Duration::from_millis(20)));
    }
}
