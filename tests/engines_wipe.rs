//! Stores that lose what they had under real engines: emptied, begun anew, set back to a backup.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

#[path = "engines/kit.rs"]
mod kit;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use kit::{SOON, assert_clean, has_network, logs, ping, run, steady_ping, try_run};
use netns_harness::{
    EngineVersion::{V20_10_24, V26_1, V28_5},
    Host, Lab, Signal, StoreKind, wait_until,
};
use serde_json::Value;

/// Pings over each loss: a quarter of a minute of them.
const PINGS: u32 = 300;

#[test]
fn an_etcd_that_is_emptied_or_set_back_is_filled_again() {
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(StoreKind::Etcd);
    scene.lose("keys deleted", || {
        etcdctl(&scene.lab, &["del", "--prefix", "rs-overlay/"]);
    });
    scene.lose("data directory deleted", || scene.lab.store().wipe().unwrap());
    let backup = scene.lab.dir().join("backup.db");
    let saved = backup.to_str().unwrap();
    etcdctl(&scene.lab, &["snapshot", "save", saved]);
    scene.change();
    scene.lose("set back to a snapshot", || {
        scene.lab.store().kill().unwrap();
        let data = data(&scene.lab);
        std::fs::remove_dir_all(&data).unwrap();
        etcdctl(&scene.lab, &["snapshot", "restore", saved, "--data-dir", data.to_str().unwrap()]);
        scene.lab.store().start().unwrap();
    });
    scene.end();
}

#[test]
fn a_consul_that_is_emptied_or_set_back_is_filled_again() {
    if !kit::allowed() {
        return;
    }
    let scene = Scene::new(StoreKind::Consul);
    let server = scene.lab.store_url().split_once("://").unwrap().1.to_owned();
    let url = |path: &str| format!("http://{server}/v1/{path}");
    let curl = |args: &[&str]| scene.lab.fabric_exec(&[&["curl", "-sS", "--fail"], args].concat()).unwrap();
    scene.lose("keys deleted", || {
        curl(&["-X", "DELETE", &url("kv/rs-overlay/?recurse")]);
    });
    scene.lose("data directory deleted", || scene.lab.store().wipe().unwrap());
    let backup = scene.lab.dir().join("backup.tgz");
    let saved = backup.to_str().unwrap();
    curl(&["-o", saved, &url("snapshot")]);
    scene.change();
    // While it runs: its index goes backwards, and no connection breaks.
    scene.lose("set back to a snapshot", || {
        curl(&["-X", "PUT", "--data-binary", &format!("@{saved}"), &url("snapshot")]);
    });
    scene.end();
}

/// Two hosts with a container each, and a third one without our daemon.
struct Scene {
    lab: Lab,
}

impl Scene {
    fn new(store: StoreKind) -> Self {
        let lab = kit::lab(&[V20_10_24, V28_5, V26_1], store);
        // It never was there.
        lab.host(3).daemon_kill(Signal::SIGTERM).unwrap();
        lab.host(3).exec(&["sh", "-c", "rm -rf /var/lib/rs-overlay/*"]).unwrap();
        let scene = Self { lab };
        scene.create("blue", &["--subnet", "10.61.0.0/24"]);
        scene.create("red", &[]);
        for host in scene.hosts() {
            run(host, &format!("c{}", host.number()), "blue", &[]);
        }
        run(scene.lab.host(2), "gone", "blue", &[]);
        ping(scene.lab.host(1), "c1", scene.address(2));
        scene
    }

    fn hosts(&self) -> [&Host; 2] {
        [self.lab.host(1), self.lab.host(2)]
    }

    fn address(&self, host: usize) -> IpAddr {
        self.lab.host(host).address(&format!("c{host}"), "blue").unwrap()
    }

    fn create(&self, name: &str, options: &[&str]) {
        self.lab
            .host(1)
            .docker(&[&["network", "create"], &kit::OURS[..], options, &[name]].concat())
            .unwrap();
        for host in self.hosts() {
            self.wait(&format!("network {name} on {}", host.name()), || has_network(host, name));
        }
    }

    fn wait(&self, what: &str, look: impl FnMut() -> anyhow::Result<bool>) {
        wait_until(what, SOON, look).unwrap_or_else(|error| panic!("{error:#}\n{}", logs(&self.lab)));
    }

    /// What a backup does not know: a network that is gone, a new one, a container that is gone, new ones,
    /// one of them at its address.
    fn change(&self) {
        let [one, two] = self.hosts();
        let free = two.address("gone", "blue").unwrap();
        kit::remove(two, &["gone"]);
        let ip = free.to_string();
        // The address is given back in the background.
        self.wait("the address to be free", || {
            one.docker_output(&["rm", "-f", "heir"])?;
            try_run(one, "heir", "blue", &["--ip", &ip]).map(|_| true)
        });
        self.wait("the removal of a network", || {
            two.docker_output(&["network", "rm", "red"])?;
            Ok(!has_network(one, "red")? && !has_network(two, "red")?)
        });
        self.create("green", &[]);
        for host in self.hosts() {
            run(host, &format!("g{}", host.number()), "green", &[]);
        }
        ping(one, "g1", two.address("g2", "green").unwrap());
        ping(two, "c2", free);
    }

    /// Loses the store in some way: nothing that lives may notice, and the store has it all again.
    fn lose(&self, how: &str, fault: impl FnOnce()) {
        let [one, two] = self.hosts();
        let before = self.records().unwrap();
        let addresses = self.addresses();
        let lost = steady_ping(one, "c1", self.address(2), PINGS, || {
            fault();
            self.wait(&format!("the store to be filled after: {how}"), || {
                let now = self.records()?;
                let missing: Vec<_> = before.difference(&now).collect();
                let surplus: Vec<_> = now.difference(&before).collect();
                anyhow::ensure!(
                    missing.is_empty() && surplus.is_empty(),
                    "missing {missing:?}, too many {surplus:?}"
                );
                Ok(true)
            });
        });
        assert_eq!(lost, 0, "packets lost: {how}\n{}", logs(&self.lab));
        assert_eq!(self.addresses(), addresses, "{how}");
        // New ones get what nobody has, as soon as the hosts are done.
        for host in [one, two] {
            self.wait("a new container", || {
                host.docker_output(&["rm", "-f", "new"])?;
                try_run(host, "new", "blue", &[]).map(|_| true)
            });
            let new = host.address("new", "blue").unwrap();
            assert!(addresses.iter().all(|(_, ip)| *ip != new), "{new} is given twice: {addresses:?}");
            ping(one, "c1", new);
            ping(two, "c2", new);
            kit::remove(host, &["new"]);
        }
        self.wait("the new containers to be forgotten", || Ok(self.records()? == before));
        eprintln!("filled again: {how}");
    }

    /// Keys of all that lives, without what changes by itself.
    fn records(&self) -> anyhow::Result<BTreeSet<String>> {
        let lasting = ["v1/meta", "v1/marks/", "v1/nodes/", "v1/removed/", "v1/wanted/"];
        let records = records(&self.lab)?.into_iter();
        let lives = |key: &str, value: &Value| {
            lasting.iter().all(|beginning| !key.starts_with(beginning)) && value["kind"] != "reserve"
        };
        Ok(records.filter(|(key, value)| lives(key, value)).map(|(key, _)| key).collect())
    }

    fn addresses(&self) -> Vec<(String, IpAddr)> {
        let of = |host: &Host| {
            let names = host.docker(&["ps", "--format", "{{.Names}}"]).unwrap();
            let network =
                |name: &str| if name.starts_with('g') && name.len() == 2 { "green" } else { "blue" };
            let all = names.lines().map(|name| (name.to_owned(), host.address(name, network(name)).unwrap()));
            all.collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.hosts().into_iter().flat_map(of).collect();
        all.sort();
        all
    }

    /// A host that comes now gets everything, and in the end nothing is left.
    fn end(&self) {
        let three = self.lab.host(3);
        three.daemon_start().unwrap();
        kit::appears(&self.lab, "blue");
        kit::appears(&self.lab, "green");
        assert!(!has_network(three, "red").unwrap());
        self.wait("a container on the third host", || {
            three.docker_output(&["rm", "-f", "c3"])?;
            try_run(three, "c3", "blue", &[]).map(|_| true)
        });
        for host in self.hosts() {
            ping(three, "c3", self.address(host.number()));
            ping(host, &format!("c{}", host.number()), self.address(3));
        }
        assert_clean(&self.lab);
    }
}

fn data(lab: &Lab) -> PathBuf {
    lab.dir().join("store")
}

/// All records of the daemons' in the store, by key without the prefix.
fn records(lab: &Lab) -> anyhow::Result<Vec<(String, Value)>> {
    let url = lab.store_url();
    let server = url.split_once("://").unwrap().1;
    // A key's line, then its record's, which has no line ends.
    let text = if lab.store_kind() == StoreKind::Etcd {
        let line = ["get", "--prefix", "rs-overlay/", "--endpoints", server];
        lab.fabric_exec(&[&["env", "ETCDCTL_API=3", "etcdctl"], &line[..]].concat())?
    } else {
        let kv = format!("http://{server}/v1/kv");
        let each = format!("echo $key; curl -sS --fail '{kv}/'$key'?raw'; echo");
        let keys = format!("curl -sS --fail '{kv}/rs-overlay/?keys' | tr -d '[]\" ' | tr ',' ' '");
        lab.fabric_exec(&["sh", "-c", &format!("for key in $({keys}); do {each}; done")])?
    };
    let lines: Vec<_> = text.lines().collect();
    // One that was deleted since the keys were listed has none.
    let there = lines.chunks(2).filter(|pair| pair.get(1).is_none_or(|value| !value.is_empty()));
    let record = |pair: &[&str]| {
        let [key, value] = pair else { anyhow::bail!("a key without a record: {pair:?}") };
        Ok((key.strip_prefix("rs-overlay/").unwrap_or(key).to_owned(), serde_json::from_str(value)?))
    };
    there.map(record).collect()
}

fn etcdctl(lab: &Lab, args: &[&str]) {
    let url = lab.store_url();
    let server = url.split_once("://").unwrap().1;
    let restore = args.contains(&"restore");
    let to: &[&str] = if restore { &[] } else { &["--endpoints", server] };
    let line = [&["env", "ETCDCTL_API=3", "etcdctl"], to, args].concat();
    lab.fabric_exec(&line).unwrap();
}
