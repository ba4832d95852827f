//! A compose project of the same name on two hosts, from its first `up` to its last `down`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where it fails, and tells what it measured"
)]

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use netns_harness::{EngineVersion, Host, Lab, wait_until};

use crate::kit::{SOON, appears, logs, vanishes};

const NETWORK: &str = "shop_default";

const SERVICES: [&str; 2] = ["nginx", "php"];

/// Without `init`, each replica would take its full time to stop.
const FILE: &str = r#"version: "3.5"
services:
  nginx:
    image: busybox
    command: sleep 3600
    init: true
    networks:
      default:
        aliases: [nginx]
  php:
    image: busybox
    command: sleep 3600
    init: true
networks:
  default:
    driver: rs-overlay
"#;

/// The same on a network of both families, in a file without a version: those of version 3 cannot say it.
const SIX: &str = r"
    enable_ipv6: true
    ipam:
      driver: rs-overlay
";

/// One container of the project.
#[derive(Debug)]
struct Replica<'a> {
    host: &'a Host,
    name: String,
    id: String,
    service: String,
    ip: IpAddr,
    /// In networks that have both families.
    six: Option<IpAddr>,
}

/// The project as it is on one host.
struct Project<'a> {
    lab: &'a Lab,
    host: &'a Host,
    file: PathBuf,
}

impl<'a> Project<'a> {
    fn new(lab: &'a Lab, host: &'a Host, six: bool) -> Self {
        let file = lab.dir().join("shop.yml");
        let text =
            if six { FILE.split_once('\n').unwrap().1.trim_end().to_owned() + SIX } else { FILE.to_owned() };
        fs::write(&file, text).unwrap();
        Self { lab, host, file }
    }

    fn compose(&self, args: &[&str]) {
        self.try_compose(args).unwrap_or_else(|error| panic!("{error:#}\n{}", logs(self.lab)));
    }

    /// Runs compose: version 1 is a program of its own, version 2 a part of `docker`.
    fn try_compose(&self, args: &[&str]) -> anyhow::Result<()> {
        let program: &[&str] = match self.host.engine_version() {
            EngineVersion::V20_10_24 | EngineVersion::V20_10_5 => &["docker-compose"],
            EngineVersion::V26_1 | EngineVersion::V28_5 => &["docker", "compose"],
        };
        let file = self.file.to_string_lossy();
        let line = [program, &["-p", "shop", "-f", &file], args].concat();
        let start = Instant::now();
        self.host.run(&line).limit(Duration::from_mins(3)).text()?;
        eprintln!(
            "{}: {} {} took {:?}",
            self.host.name(),
            program.join(" "),
            args.join(" "),
            start.elapsed()
        );
        Ok(())
    }

    fn up(&self, replicas: usize) {
        let scales = SERVICES.map(|service| format!("{service}={replicas}"));
        self.compose(&["up", "-d", "--scale", &scales[0], "--scale", &scales[1]]);
        assert_eq!(self.replicas().len(), replicas * SERVICES.len(), "replicas on {}", self.host.name());
    }

    /// `up` of a project that was left, while it goes on elsewhere. The engine gives the network a subnet of
    /// its own choice, and containers come at once: some may be refused until the cluster's has replaced it.
    fn up_again(&self) {
        let start = Instant::now();
        let mut refusals = 0;
        let up = wait_until("the project to come back", SOON, || {
            let Err(error) = self.try_compose(&["up", "-d"]) else { return anyhow::Ok(true) };
            let said = format!("{error:#}");
            let known = ["being taken over here", "not found", "No such network", "does not know"];
            assert!(known.iter().any(|part| said.contains(part)), "{said}\n{}", logs(self.lab));
            eprintln!("{}", said.lines().last().unwrap_or_default());
            refusals += 1;
            Ok(false)
        });
        up.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(self.lab)));
        eprintln!("back on {} after {:?}, {refusals} refusals", self.host.name(), start.elapsed());
    }

    /// The project's containers, and nothing but them, are ended here.
    fn down(&self) {
        self.compose(&["down", "-t", "0"]);
        assert!(self.replicas().is_empty(), "replicas left on {}", self.host.name());
    }

    fn replicas(&self) -> Vec<Replica<'a>> {
        let format = "{{.Names}} {{.ID}} {{.Label \"com.docker.compose.service\"}}";
        let said = self.host.docker(&["ps", "--format", format]).unwrap();
        let one = |line: &str| {
            let [name, id, service] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("a line of docker ps: {line:?}");
            };
            let ip = self.host.address(name, NETWORK).unwrap();
            let six = self.host.address6(name, NETWORK).ok();
            Replica { host: self.host, name: name.into(), id: id.into(), service: service.into(), ip, six }
        };
        said.lines().map(one).collect()
    }

    fn network_id(&self) -> String {
        self.host.docker(&["network", "inspect", "-f", "{{.Id}}", NETWORK]).unwrap()
    }
}

impl Replica<'_> {
    /// Addresses that this container finds for a name.
    fn finds(&self, kind: &str, name: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
        let kind = format!("-type={kind}");
        let said = self.host.in_container(&self.name, &["nslookup", &kind, name])?;
        // The resolver's own address comes first, with its port.
        let addresses = said.lines().filter_map(|line| line.strip_prefix("Address:"));
        Ok(addresses.filter_map(|text| text.trim().parse().ok()).collect())
    }

    /// Every one of `names` answers a ping of this container.
    fn reaches(&self, names: &[&str]) -> anyhow::Result<bool> {
        let script = "for name; do ping -c 1 -W 2 $name >/dev/null || echo $name; done";
        let line = [&["sh", "-c", script, "sh"], names].concat();
        let silent = self.host.in_container(&self.name, &line)?;
        anyhow::ensure!(silent.is_empty(), "no answer of {silent:?}");
        Ok(true)
    }
}

/// Waits until each of these containers finds all of them: a service's name and alias lead to all its
/// replicas on all hosts and nowhere else, an id to the one that bears it, a container's name to all that
/// bear it, since compose counts from 1 on each host; and all of them answer.
fn all_find_all(lab: &Lab, all: &[Replica<'_>]) {
    let start = Instant::now();
    let holders = |bears: &dyn Fn(&Replica<'_>) -> bool| -> BTreeSet<IpAddr> {
        all.iter().filter(|replica| bears(replica)).map(|replica| replica.ip).collect()
    };
    let mut questions: Vec<(&str, BTreeSet<IpAddr>)> = Vec::new();
    for service in SERVICES {
        questions.push((service, holders(&|replica| replica.service == service)));
    }
    for one in all {
        questions.push((&one.id, BTreeSet::from([one.ip])));
        questions.push((&one.name, holders(&|replica| replica.name == one.name)));
    }
    assert_eq!(holders(&|_| true).len(), all.len(), "an address twice: {all:?}");
    for from in all {
        // Not its own: engine 28 writes what any IPAM driver gave to its `/etc/hosts` as `::ffff:10.0.0.2`,
        // to which no ping can be sent. No resolver is asked for it.
        let names: Vec<&str> =
            questions.iter().map(|(name, _)| *name).filter(|name| *name != from.id).collect();
        let what = format!("an answer of all to {} on {}", from.name, from.host.name());
        let reached = wait_until(&what, SOON, || from.reaches(&names));
        reached.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
    // One on each host asks for every name, all for those of the services.
    for (number, from) in all.iter().enumerate() {
        let thorough = number == 0 || all[number - 1].host.name() != from.host.name();
        let asked = if thorough { &questions[..] } else { &questions[..SERVICES.len()] };
        for (name, wanted) in asked {
            let what = format!("all of {name} for {} on {}", from.name, from.host.name());
            let found = wait_until(&what, SOON, || {
                let found = from.finds("a", name)?;
                anyhow::ensure!(found == *wanted, "{found:?}, not {wanted:?}");
                Ok(true)
            });
            found.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
        }
    }
    let six: BTreeSet<_> =
        all.iter().filter(|one| one.service == SERVICES[0]).filter_map(|one| one.six).collect();
    for from in all.iter().filter(|one| one.six.is_some()) {
        let found = wait_until(&format!("IPv6 addresses for {}", from.name), SOON, || {
            let found = from.finds("aaaa", SERVICES[0])?;
            anyhow::ensure!(found == six, "{found:?}, not {six:?}");
            Ok(true)
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{}", logs(lab)));
    }
    eprintln!("{} containers find each other by {} names, {:?}", all.len(), questions.len(), start.elapsed());
}

/// On a network of both families if `six`: `up` on both hosts, this many replicas of both services on each, `down` and `up` again on the first, `down` on both.
pub(crate) fn whole_life(lab: &Lab, order: [usize; 2], replicas: usize, six: bool) {
    let [first, second] = order.map(|number| Project::new(lab, lab.host(number), six));
    let both = || [first.replicas(), second.replicas()].into_iter().flatten().collect::<Vec<_>>();
    first.up(1);
    appears(lab, NETWORK);
    let found = second.network_id();
    second.up(1);
    assert_eq!(second.network_id(), found, "compose made a network of its own on {}", second.host.name());
    all_find_all(lab, &both());
    assert_eq!(both().iter().filter(|one| one.six.is_some()).count(), if six { 4 } else { 0 });

    first.up(replicas);
    second.up(replicas);
    assert_eq!(second.network_id(), found);
    all_find_all(lab, &both());

    first.down();
    assert_eq!(second.network_id(), found, "the network of {} is another", second.host.name());
    all_find_all(lab, &second.replicas());
    first.up_again();
    all_find_all(lab, &both());

    first.down();
    second.down();
    eprintln!("gone from all hosts {:?} after the last `down`", vanishes(lab, NETWORK));
    for host in lab.hosts() {
        assert_eq!(host.docker(&["ps", "-aq"]).unwrap(), "", "containers on {}", host.name());
    }
}
