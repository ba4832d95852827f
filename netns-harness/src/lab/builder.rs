//! Describe a lab and bring it up.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Lab, teardown};
use crate::files;
use crate::host::Host;
use crate::kinds::{EngineVersion, Family, StoreKind};
use crate::parts::{self, installed};
use crate::process::Process;
use crate::shape::{Shape, check_name};

/// A lab to be built.
#[derive(Clone, Debug)]
#[must_use]
pub struct LabBuilder {
    shape: Shape,
}

impl Default for LabBuilder {
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            shape: Shape {
                name: format!("p{}-{count}", std::process::id()),
                engines: vec![EngineVersion::V20_10_24; 2],
                store: StoreKind::None,
                family: Family::V4,
                mtu: 1500,
                daemon: None,
                daemon_args: Vec::new(),
                engine_args: Vec::new(),
                classic: false,
                resolver: None,
                own_boot_id: true,
                owner: None,
            },
        }
    }
}

impl LabBuilder {
    /// One host per engine, numbered from 1.
    pub fn hosts(mut self, engines: &[EngineVersion]) -> Self {
        self.shape.engines = engines.to_vec();
        self
    }

    /// The cluster store.
    pub fn store(mut self, store: StoreKind) -> Self {
        self.shape.store = store;
        self
    }

    /// Address family of the underlay.
    pub fn family(mut self, family: Family) -> Self {
        self.shape.family = family;
        self
    }

    /// MTU of the underlay, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.shape.mtu = mtu;
        self
    }

    /// Run this `rs-overlay` binary as a daemon on every host; without it, none is started.
    pub fn daemon(mut self, binary: impl Into<PathBuf>) -> Self {
        self.shape.daemon = Some(binary.into());
        self
    }

    /// More arguments for every daemon.
    pub fn daemon_args(mut self, args: &[&str]) -> Self {
        self.shape.daemon_args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// More arguments for every `dockerd`.
    pub fn engine_args(mut self, args: &[&str]) -> Self {
        self.shape.engine_args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// Start every `dockerd` with `--cluster-store` and `--cluster-advertise` of its own, on the lab's etcd or consul.
    pub fn classic(mut self) -> Self {
        self.shape.classic = true;
        self
    }

    /// A DNS server at the store's address, and `--dns` for every engine: it knows these names and denies all others.
    /// A name may be given several times, with several addresses.
    pub fn resolver(mut self, names: &[(&str, IpAddr)]) -> Self {
        self.shape.resolver =
            Some(names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect());
        self
    }

    /// Name of the lab: 1 to 32 of `a-z`, `0-9` and `-`. By default one that no other lab of this machine has.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.shape.name);
        self
    }

    /// Show all hosts this machine's boot id, instead of a new one at every power-on.
    pub fn shared_boot_id(mut self) -> Self {
        self.shape.own_boot_id = false;
        self
    }

    /// Bring the lab up: fabric, store, hosts with daemons and engines (in parallel), the image.
    ///
    /// A lab of this name whose process died is taken down first. When anything fails, all is taken down again.
    pub fn build(self) -> Result<Lab> {
        self.build_with_progress(&|_| ())
    }

    /// The same, telling each step as it is done, in one line without an end; from several threads.
    pub fn build_with_progress(mut self, tell: &(dyn Fn(&str) + Sync)) -> Result<Lab> {
        self.check()?;
        self.shape.owner = Some(Process::current()?);
        if let Some(daemon) = &mut self.shape.daemon {
            *daemon =
                fs::canonicalize(&*daemon).with_context(|| format!("no daemon at {}", daemon.display()))?;
        }
        teardown::reap_stale(&self.shape.name)?;
        let directory = self.shape.directory();
        fs::create_dir_all(directory.join("store"))
            .with_context(|| format!("cannot create {}", directory.display()))?;
        files::write_json(&self.shape.record(), &self.shape)?;
        let name = self.shape.name.clone();
        let lab = Lab::assemble(self.shape, true).inspect_err(|_| drop(teardown::down(&name)))?;
        parts::image()?;
        lab.fabric.start()?;
        tell(&format!("fabric is up, MTU {}", lab.shape.mtu));
        lab.resolver.start()?;
        lab.start_parts(tell)?;
        Ok(lab)
    }

    fn check(&self) -> Result<()> {
        let Shape { name, engines, mtu, .. } = &self.shape;
        check_name(name)?;
        ensure!((1..=100).contains(&engines.len()), "a lab has 1 to 100 hosts, not {}", engines.len());
        ensure!((1280..=65535).contains(mtu), "an underlay MTU is 1280 to 65535, not {mtu}");
        if self.shape.classic {
            let old =
                |engine: &EngineVersion| matches!(engine, EngineVersion::V20_10_5 | EngineVersion::V20_10_24);
            ensure!(engines.iter().all(old), "only engines up to 20.10 have a cluster store of their own");
            ensure!(self.shape.store_port().is_some(), "engines can share an etcd or a consul");
        }
        if !nix::unistd::geteuid().is_root() {
            bail!("a lab needs root: it makes namespaces and runs Docker engines");
        }
        for (program, package) in [
            ("ip", "iproute2"),
            ("nsenter", "util-linux"),
            ("unshare", "util-linux"),
            ("setsid", "util-linux"),
            ("bash", "bash"),
            ("iptables", "iptables"),
            ("runc", "runc"),
        ] {
            installed(program, package)?;
        }
        Ok(())
    }
}

impl Lab {
    /// Store and engines start side by side, the daemons once the store answers. An engine that is a client of the
    /// store itself comes after it as well.
    fn start_parts(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let by_hand = self.shape.engine_args.iter().any(|arg| arg.starts_with("--cluster-store"));
        let classic = self.shape.classic || by_hand;
        let (early, late): (Vec<Step>, Vec<Step>) = if classic {
            (vec![Host::boot], vec![Host::daemon_boot, Host::engine_start, Host::import_image])
        } else {
            (vec![Host::boot, Host::engine_start, Host::import_image], vec![Host::daemon_boot])
        };
        thread::scope(|scope| {
            let store = scope.spawn(|| {
                self.store.start()?;
                if self.shape.store != StoreKind::None {
                    tell(&format!("store is at {}", self.store_url()));
                }
                Ok(())
            });
            let hosts = self.on_all_hosts(&early);
            join(store)?;
            hosts
        })?;
        self.on_all_hosts(&late)?;
        for host in &self.hosts {
            tell(&format!("{} is up at {} with engine {}", host.name(), host.vtep(), host.engine_version()));
        }
        Ok(())
    }

    /// Take these steps on every host, all hosts at once.
    fn on_all_hosts(&self, steps: &[Step]) -> Result<()> {
        thread::scope(|scope| {
            let take = |host| steps.iter().try_for_each(|step| step(host));
            let hosts: Vec<_> = self.hosts.iter().map(|host| scope.spawn(move || take(host))).collect();
            hosts.into_iter().map(join).collect::<Result<Vec<()>>>().map(drop)
        })
    }
}

type Step = fn(&Host) -> Result<()>;

fn join(handle: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    handle.join().map_err(|_| anyhow!("a thread that built the lab panicked"))?
}
