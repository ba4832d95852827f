//! Hosts and containers as network namespaces, torn down on exit.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use rs_overlay::{
    dataplane::{
        Dataplane,
        host::Host as Facts,
        names::container_link,
        namespace::Namespace,
        netlink::{Kernel, KernelConfig},
    },
    model::{EndpointId, FastPathMode, MacAddr, NetworkId, Vni},
    plan::{Op, Overlay, diff},
};

/// Whether the test can run. Without root it fails, unless `ALLOW_SKIP=1` says that this is known.
pub(crate) fn allowed() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("ALLOW_SKIP").is_ok_and(|value| value == "1"),
        "needs root, or ALLOW_SKIP=1 to be skipped"
    );
    eprintln!("skipped: needs root");
    false
}

thread_local! {
    /// Whether hosts of the test that runs on this thread have the fast path.
    static FAST: Cell<bool> = const { Cell::new(true) };
}

/// Chooses for the test that runs on this thread.
pub(crate) fn choose_path(fast: bool) {
    FAST.set(fast);
}

pub(crate) fn is_fast() -> bool {
    FAST.get()
}

/// Makes two tests of one: containers' packets go by the bridge, or by the fast path.
#[macro_export]
macro_rules! both_ways {
    ($($(#[$about:meta])* $name:ident => $test:expr;)+) => {
        $($(#[$about])* mod $name {
            use super::*;

            #[tokio::test]
            async fn by_the_bridge() {
                if $crate::lab::allowed() {
                    $crate::lab::choose_path(false);
                    $test.await;
                }
            }

            #[tokio::test]
            async fn by_the_fast_path() {
                if $crate::lab::allowed() {
                    $crate::lab::choose_path(true);
                    $test.await;
                }
            }
        })+
    };
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Owns every namespace of a test.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
    pins: RefCell<Vec<PathBuf>>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), pins: RefCell::default() }
    }

    /// A file in the lab's directory that is unmounted in the end.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        self.pins.borrow_mut().push(path.clone());
        path
    }

    /// A new, empty network namespace with its loopback up.
    pub(crate) fn namespace(&self, name: &str) -> Net {
        self.at(&self.pin(name))
    }

    /// The same, at a place of its own.
    #[allow(clippy::unused_self, reason = "the lab's own business")]
    pub(crate) fn at(&self, pin: &Path) -> Net {
        let net = Net(Namespace::pinned(pin, &Namespace::current().unwrap()).unwrap());
        net.sh("ip link set lo up");
        net
    }

    /// A host whose kernel is under test.
    pub(crate) async fn host(&self, name: &str) -> Host {
        let net = self.namespace(name);
        let config = KernelConfig { namespace: self.pin("overlay"), host_namespace: Some(net.path()) };
        let facts = Facts::open(Some(&net.path())).unwrap();
        Host { kernel: open(&config).await, facts, net, config }
    }

    /// Joins two hosts by a wire.
    #[allow(clippy::unused_self, reason = "the lab's own business")]
    pub(crate) fn wire(&self, a: &Host, b: &Host) {
        a.net.sh(&format!("ip link add wire type veth peer name wire netns {}", b.net.path().display()));
        for (host, n) in [(a, 1), (b, 2)] {
            host.net.sh(&format!(
                "ip addr add 192.0.2.{n}/24 dev wire && ip addr add 2001:db8::{n}/64 dev wire nodad && ip link set wire up"
            ));
        }
    }

    /// Joins hosts, numbered from 1, by a switch, which is answered.
    pub(crate) fn switch(&self, hosts: &[&Host]) -> Net {
        let net = self.namespace("switch");
        net.sh("ip link add switch mtu 9000 type bridge mcast_snooping 0 && ip link set switch up");
        for (host, n) in hosts.iter().zip(1..) {
            host.net
                .sh(&format!("ip link add wire type veth peer name wire{n} netns {}", net.path().display()));
            net.sh(&format!("ip link set wire{n} master switch up"));
            host.net.sh(&format!(
                "ip addr add 192.0.2.{n}/24 dev wire && ip addr add 2001:db8::{n}/64 dev wire nodad && ip link set wire up"
            ));
        }
        net
    }

    /// Takes a container's link out of the host's namespace into one of its own, as an engine does.
    pub(crate) fn container(&self, host: &Host, id: &EndpointId, addresses: &[&str]) -> Net {
        let net = self.namespace("container");
        let path = net.path();
        host.net.sh(&format!("ip link set {} netns {} name eth0", container_link(id), path.display()));
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            net.sh(&format!("ip addr add {address} dev eth0 {nodad}"));
        }
        net.sh("ip link set eth0 up");
        net
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pin in self.pins.borrow_mut().drain(..) {
            let _ = Namespace::unpin(&pin);
        }
    }
}

pub(crate) async fn open(config: &KernelConfig) -> Kernel {
    let kernel = Kernel::open(config.clone()).await.unwrap();
    let mode = if is_fast() { FastPathMode::On } else { FastPathMode::Off };
    kernel.choose_path(mode).await.unwrap();
    kernel
}

pub(crate) struct Host {
    pub(crate) net: Net,
    pub(crate) kernel: Kernel,
    pub(crate) facts: Facts,
    pub(crate) config: KernelConfig,
}

impl Host {
    /// One round of the reconciler; every step must succeed and the result must be what was wanted.
    pub(crate) async fn make(&self, wanted: &Overlay) -> Vec<Op> {
        let steps = self.apply(wanted).await;
        self.assert_is(wanted, &format!("after {steps:#?}")).await;
        steps
    }

    /// The kernel is what was wanted.
    pub(crate) async fn assert_is(&self, wanted: &Overlay, about: &str) {
        assert_eq!(self.kernel.observe().await.unwrap(), self.can(wanted), "{about}");
    }

    /// What this kernel is asked for: a test describes the fast path, and one without it has the bridge.
    pub(crate) fn can(&self, wanted: &Overlay) -> Overlay {
        let mut wanted = wanted.clone();
        for segment in wanted.segments.values_mut().filter(|_| !self.kernel.has_fast_path()) {
            segment.fast = false;
            segment.ports.values_mut().for_each(|port| port.fast = false);
        }
        wanted
    }

    /// The same without a look at the result.
    pub(crate) async fn apply(&self, wanted: &Overlay) -> Vec<Op> {
        let found = self.kernel.observe().await.unwrap();
        let steps = diff(&found, &self.can(wanted));
        for (step, result) in steps.iter().zip(self.kernel.apply(&steps).await) {
            assert!(result.is_ok(), "{step}: {}", result.unwrap_err());
        }
        steps
    }

    /// The namespace of the bridges.
    pub(crate) fn overlay(&self) -> Net {
        Net(Namespace::open(&self.config.namespace).unwrap())
    }
}

/// A network namespace to run commands in.
pub(crate) struct Net(Namespace);

impl Net {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// What `f` answers inside.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.0.run(f).unwrap()
    }

    /// Output of a shell command that must succeed.
    pub(crate) fn sh(&self, command: &str) -> String {
        self.try_sh(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Output of a shell command, or what it complained about.
    pub(crate) fn try_sh(&self, command: &str) -> Result<String, String> {
        let output = self
            .0
            .run(|| Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output())
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(text) } else { Err(format!("{text}{complaint}")) }
    }

    /// Whether `ip` answers at least once in ten tries, with packets of `size` bytes of payload.
    pub(crate) fn ping(&self, ip: &str, size: u32) -> Result<String, String> {
        let command = format!("ping -n -c 1 -W 1 -M do -s {size} {ip}");
        let mut last = Err(String::new());
        for _ in 0..10 {
            last = self.try_sh(&command);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Packets that were given to a link to send: those that left and those that it had no way for.
    pub(crate) fn sent(&self, link: &str) -> u64 {
        let text = self.sh(&format!("ip -j -s link show {link}"));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let count = |what: &str| json[0]["stats64"]["tx"][what].as_u64().unwrap();
        count("packets") + count("dropped")
    }
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

pub(crate) fn network(c: char) -> NetworkId {
    NetworkId::new(c.to_string().repeat(64)).unwrap()
}

pub(crate) fn endpoint(c: char) -> EndpointId {
    EndpointId::new(c.to_string().repeat(64)).unwrap()
}

pub(crate) fn mac(n: u8) -> MacAddr {
    MacAddr::new([2, 0x42, 10, 9, 0, n]).unwrap()
}
