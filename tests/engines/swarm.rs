//! A swarm with the managed plugin on every host, and what is asked of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use netns_harness::{Host, Lab, wait_until};

use crate::kit::{SOON, store_keys, store_values};

/// What the engine calls our driver.
pub(crate) const PLUGIN: &str = "rs-overlay:latest";
/// The image of all containers. An engine asks the image's registry for it before it takes its own, and is refused the
/// connection at once.
pub(crate) const IMAGE: &str = "127.0.0.1:5000/busybox:latest";
/// Longest wait for the swarm: a drained host's tasks, or the next manager, take it some seconds.
const LONG: Duration = Duration::from_mins(2);

/// Whether everything is tried that would take too long in every run.
pub(crate) fn in_full() -> bool {
    std::env::var("RS_OVERLAY_TEST_ALL").is_ok_and(|value| value == "1")
}

pub(crate) struct Swarm<'a> {
    pub(crate) lab: &'a Lab,
}

impl<'a> Swarm<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        Self { lab }
    }

    /// The same, until it says all of `parts`.
    #[track_caller]
    pub(crate) fn says(&self, host: &Host, args: &[&str], parts: &[&str]) {
        let done = wait(&format!("{args:?} on {} to say {parts:?}", host.name()), || {
            let said = asks(host, args)?;
            ensure!(parts.iter().all(|part| said.contains(part)), "it says: {said}");
            Ok(true)
        });
        done.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    /// Waits until the plugin of a host says that all is well, and under which scope and name its engine has it.
    #[track_caller]
    pub(crate) fn well(&self, host: &Host, scope: &str) {
        let id = host.plugin_id(PLUGIN).unwrap();
        let done = wait(&format!("the plugin of {} to be well", host.name()), || {
            let said = asks(host, &["status", "--format", "json"])?;
            let status: serde_json::Value = serde_json::from_str(&said)?;
            let engine = &status["engine"];
            let known = engine["driver"] == PLUGIN && engine["plugin"] == *id && engine["reachable"] == true;
            let well = status["scope"] == scope && status["problems"] == serde_json::json!([]);
            // The plugin's capabilities allow the fast path where the kernel can.
            let chosen = !said.contains("not been tried yet") && !said.contains("not permitted");
            ensure!(known && well && chosen, "it says: {said}");
            Ok(true)
        });
        done.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    /// The engines' logs, which have the plugins' in them.
    pub(crate) fn logs(&self) -> String {
        let ours = |host: &Host| {
            let log = host.engine_log();
            let lines =
                log.lines().filter(|line| line.contains("rs_overlay") || line.contains("level=error"));
            format!("--- engine of {}\n{}\n", host.name(), lines.collect::<Vec<_>>().join("\n"))
        };
        self.lab.hosts().iter().map(ours).collect()
    }

    /// A command of `docker` at some manager.
    fn manager(&self, args: &[&str]) -> Result<String> {
        self.lab.host(1).docker(args)
    }

    pub(crate) fn network(&self, name: &str, options: &[&str]) {
        let line = ["network", "create", "-d", PLUGIN, "--attachable"];
        self.manager(&[&line[..], options, &[name]].concat()).unwrap();
        // The swarm allocates it after the command has returned.
        let told = wait(&format!("network {name}"), || {
            let records = store_values(self.lab, "v1/networks/")?;
            Ok::<_, anyhow::Error>(records.iter().any(|record| record["name"] == name))
        });
        told.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    pub(crate) fn service(&self, name: &str, network: &str, replicas: usize) {
        let line = ["service", "create", "-d", "--no-resolve-image", "--endpoint-mode", "dnsrr"];
        let more = ["--stop-grace-period", "1s", "--name", name, "--network", network];
        let count = ["--replicas", &replicas.to_string(), IMAGE, "sleep", "36000"];
        self.manager(&[&line[..], &more, &count].concat()).unwrap();
        self.settled(name, replicas);
    }

    pub(crate) fn scale(&self, service: &str, replicas: usize) {
        self.manager(&["service", "scale", "-d", &format!("{service}={replicas}")]).unwrap();
        self.settled(service, replicas);
    }

    /// Waits until as many tasks of the service run as it should have, and no other containers of it do.
    pub(crate) fn settled(&self, service: &str, replicas: usize) {
        let done = wait(&format!("{replicas} replicas of {service}"), || {
            let listed = self.manager(&[
                "service",
                "ps",
                service,
                "--no-trunc",
                "--format",
                "{{.DesiredState}} {{.CurrentState}}",
            ])?;
            let running = listed.lines().filter(|line| line.starts_with("Running Running")).count();
            let containers: usize = self.lab.hosts().iter().map(|host| tasks_on(host, service).len()).sum();
            ensure!(running == replicas && containers == replicas, "{running} run, {containers} containers");
            Ok(true)
        });
        done.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    /// Addresses of all tasks.
    pub(crate) fn addresses(&self, service: &str, network: &str) -> BTreeSet<IpAddr> {
        let mut found = BTreeSet::new();
        for host in self.lab.hosts() {
            for task in tasks_on(host, service) {
                let ip = host.address(&task, network).unwrap();
                assert!(found.insert(ip), "{ip} is held twice");
            }
        }
        found
    }

    /// A container that is no task, on the attachable network.
    pub(crate) fn plain(&self, host: &Host, network: &str) {
        let name = plain_name(host, network);
        let line = ["run", "-d", "--name", &name, "--network", network, IMAGE, "sleep", "36000"];
        let run = wait(&format!("container {name}"), || {
            host.docker_output(&["rm", "-f", &name])?;
            host.docker(&line).map(|_| true)
        });
        run.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
    }

    /// Makes those anew that an engine or the swarm has ended.
    pub(crate) fn plain_again(&self, host: &Host, networks: &[&str]) {
        for network in networks {
            self.plain(host, network);
        }
    }

    /// Every task reaches every other, and so do the plain containers of all hosts, which find all of them under the
    /// service's name.
    pub(crate) fn all_reach_all(&self, service: &str, network: &str, replicas: usize) {
        let addresses = self.addresses(service, network);
        assert_eq!(addresses.len(), replicas);
        for host in self.lab.hosts() {
            let plain = plain_name(host, network);
            let named = wait(&format!("all names of {service} in {plain}"), || {
                let found = names(host, &plain, service)?;
                ensure!(found == addresses, "{found:?} instead of {addresses:?}");
                Ok(true)
            });
            named.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
            for from in tasks_on(host, service).into_iter().chain([plain]) {
                let targets: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let script = "for ip; do ping -c 1 -W 1 $ip >/dev/null || { echo $ip; exit 1; }; done";
                let line =
                    [&["sh", "-c", script, "sh"], &*targets.iter().map(String::as_str).collect::<Vec<_>>()];
                let reached = wait_until(&format!("{from} on {} to reach all", host.name()), SOON, || {
                    host.in_container(&from, &line.concat()).map(|_| true)
                });
                reached.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
            }
        }
    }

    pub(crate) fn drain(&self, host: &Host, drain: bool) {
        let how = if drain { "drain" } else { "active" };
        self.manager(&["node", "update", "--availability", how, &host.name()]).unwrap();
    }

    /// The host whose engine leads the swarm.
    pub(crate) fn leader(&self) -> &'a Host {
        let found = wait("a leader", || self.find_leader());
        let number = found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        self.lab.host(number)
    }

    pub(crate) fn leader_other_than(&self, other: &Host) -> &'a Host {
        let found = wait("another leader", || {
            Ok::<_, anyhow::Error>(self.find_leader()?.filter(|number| *number != other.number()))
        });
        let number = found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        self.lab.host(number)
    }

    fn find_leader(&self) -> Result<Option<usize>> {
        for host in self.lab.hosts().iter().filter(|host| host.engine_running()) {
            let format = "{{.Hostname}} {{.ManagerStatus}}";
            let Ok(listed) = host.docker(&["node", "ls", "--format", format]) else { continue };
            let leader = listed.lines().find_map(|line| line.strip_suffix(" Leader"));
            return Ok(leader.and_then(|name| name.strip_prefix("host")?.parse().ok()));
        }
        bail!("no manager answers")
    }

    /// The id of a host in the cluster.
    pub(crate) fn node_id(&self, host: &Host) -> String {
        let found = wait(&format!("the plugin of {}", host.name()), || -> Result<Option<String>> {
            let status: serde_json::Value =
                serde_json::from_str(&asks(host, &["status", "--format", "json"])?)?;
            Ok(status["node"].as_str().map(str::to_owned))
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()))
    }

    /// Addresses of containers that the store has as claimed in a network, each with the host that claimed it.
    pub(crate) fn claims_of(&self, network: &str) -> BTreeMap<IpAddr, String> {
        self.read_claims(network).unwrap()
    }

    pub(crate) fn claims(&self, network: &str) -> BTreeSet<IpAddr> {
        self.claims_of(network).into_keys().collect()
    }

    fn read_claims(&self, network: &str) -> Result<BTreeMap<IpAddr, String>> {
        let records = store_values(self.lab, "v1/networks/")?;
        let record = records.iter().find(|record| record["name"] == network).context("no such network")?;
        let pool = record["subnets"][0]["cidr"].as_str().context("no subnet")?.replace('/', "_");
        let mut claims = BTreeMap::new();
        for key in store_keys(self.lab)? {
            let Some(ip) = key.strip_prefix(&format!("v1/addresses/{pool}/")) else { continue };
            // One of them may go meanwhile; and a prefix may be that of several.
            let Some(claim) = store_values(self.lab, &key)?.into_iter().next() else { continue };
            if claim["kind"] == "container" {
                claims.insert(ip.parse()?, claim["node"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(claims)
    }

    /// Removes all services, containers and networks.
    pub(crate) fn clear(&self, services: &[&str], networks: &[&str]) {
        self.manager(&[&["service", "rm"], services].concat()).unwrap();
        for service in services {
            let gone = wait(&format!("the end of {service}"), || {
                self.lab.hosts().iter().all(|host| tasks_on(host, service).is_empty())
            });
            gone.unwrap();
        }
        for host in self.lab.hosts() {
            let all = host.docker(&["ps", "-aq"]).unwrap();
            host.docker_output(&[&["rm", "-f"], &*all.lines().collect::<Vec<_>>()].concat()).unwrap();
        }
        for network in networks {
            let removed = wait(&format!("the removal of {network}"), || {
                self.manager(&["network", "rm", network]).map(|_| true)
            });
            removed.unwrap_or_else(|error| panic!("{error:#}\n{}", self.logs()));
        }
    }
}

/// A command of `rs-overlay` on a host, which finds the plugin by itself.
pub(crate) fn asks(host: &Host, args: &[&str]) -> Result<String> {
    host.exec(&[&[env!("CARGO_BIN_EXE_rs-overlay")], args].concat())
}

fn wait<T: netns_harness::Outcome>(what: &str, done: impl FnMut() -> T) -> Result<T::Value> {
    wait_until(what, LONG, done)
}

/// Containers of a service that run on a host.
pub(crate) fn tasks_on(host: &Host, service: &str) -> Vec<String> {
    let label = format!("label=com.docker.swarm.service.name={service}");
    let listed = host.docker(&["ps", "-q", "--no-trunc", "--filter", &label]).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

pub(crate) fn plain_name(host: &Host, network: &str) -> String {
    format!("{network}-on-{}", host.name())
}

/// Addresses that the engine's resolver has for a name.
fn names(host: &Host, container: &str, name: &str) -> Result<BTreeSet<IpAddr>> {
    let said = host.in_container(container, &["nslookup", "-type=a", name])?;
    let (_, answers) = said.split_once("answer").context("no answer")?;
    let words = answers.lines().filter_map(|line| line.strip_prefix("Address: "));
    words.map(|word| Ok(word.trim().parse()?)).collect()
}
