//! The compose project: its file, its containers.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use netns_harness::{Host, Lab};
use serde::Deserialize;

use super::engines::compose;
use super::stage::Stage;

/// Its name, the same on all hosts: that alone makes it one project.
const NAME: &str = "shop";

/// Compose's name for the network `default` of a project.
pub(super) const NETWORK: &str = "shop_default";

/// Services of the project.
pub(super) const SERVICES: [&str; 2] = ["nginx", "php"];

/// The image is the only one that hosts of a lab have. Without `init`, a container would take ten seconds to stop.
pub(super) const FILE: &str = "\
services:
  nginx:
    image: busybox
    command: sh -c 'mkdir /www; hostname > /www/index.html; exec httpd -f -h /www'
    init: true
    networks:
      default:
        aliases: [nginx]
  php:
    image: busybox
    command: sleep 1h
    init: true
networks:
  default:
    driver: rs-overlay
";

/// Where the project's file is: compose is run there, on all hosts.
pub(super) fn directory(lab: &Lab) -> PathBuf {
    lab.dir().join(NAME)
}

/// Write the project's file.
pub(super) fn write(lab: &Lab) -> Result<()> {
    let directory = directory(lab);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let file = directory.join("docker-compose.yml");
    fs::write(&file, FILE).with_context(|| format!("cannot write {}", file.display()))
}

/// A compose command on the project, as `host` has it.
pub(super) fn line(host: &Host, arguments: &str) -> String {
    format!("{} -p {NAME} {arguments}", compose(host.engine_version()))
}

/// Arguments of `up` for this many replicas of every service.
pub(super) fn up(replicas: usize) -> String {
    let scales: Vec<String> =
        SERVICES.iter().map(|service| format!(" --scale {service}={replicas}")).collect();
    format!("up -d{}", scales.concat())
}

/// One container of the project.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replica {
    pub(super) host: String,
    pub(super) name: String,
    /// The first 12 digits, which are also its host name.
    pub(super) id: String,
    pub(super) service: String,
    pub(super) address: IpAddr,
}

/// A network as `rs-overlay network ls --format json` has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Network {
    pub(super) name: Option<String>,
    pub(super) subnets: Vec<String>,
    pub(super) vni: u32,
    pub(super) mtu: u32,
    /// Hosts that have containers in it.
    pub(super) hosts: Vec<String>,
    pub(super) endpoints: u32,
}

/// The project's containers on a host, by service and number.
pub(super) fn replicas(stage: &Stage, host: &Host) -> Result<Vec<Replica>> {
    let format = format!(
        "{{{{.Name}}}} {{{{.Id}}}} {{{{index .Config.Labels \"com.docker.compose.service\"}}}} \
         {{{{with index .NetworkSettings.Networks \"{NETWORK}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}"
    );
    let said = stage.quietly(host, &format!("docker ps -q | xargs -r docker inspect -f '{format}'"))?;
    let mut all = said.lines().map(|line| parse(&host.name(), line)).collect::<Result<Vec<_>>>()?;
    // By length first, so that 10 comes after 9.
    all.sort_by_cached_key(|one| (one.service.clone(), one.name.len(), one.name.clone()));
    Ok(all)
}

fn parse(host: &str, line: &str) -> Result<Replica> {
    let [name, id, service, address] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("cannot read what the engine of {host} says of a container of {NETWORK}: {line:?}");
    };
    Ok(Replica {
        host: host.to_owned(),
        name: name.trim_start_matches('/').to_owned(),
        id: id.chars().take(12).collect(),
        service: service.to_owned(),
        address: address.parse().with_context(|| format!("{name} on {host} has no address: {line:?}"))?,
    })
}

/// The network as the daemon of `host` knows it; also an error when it knows another one besides.
pub(super) fn network(stage: &Stage, host: &Host) -> Result<Network> {
    let said = stage.quietly(host, "rs-overlay network ls --format json")?;
    let mut all: Vec<Network> =
        serde_json::from_str(&said).with_context(|| format!("cannot read the list of networks: {said}"))?;
    match (all.pop(), all.is_empty()) {
        (Some(network), true) if network.name.as_deref() == Some(NETWORK) => Ok(network),
        _ => bail!("{} should know {NETWORK} and no other network: {said}", host.name()),
    }
}

/// A name that only this container answers to. On hosts with the same compose, containers of the same number have the
/// same name; ids always differ.
pub(super) fn own_name<'a>(one: &'a Replica, all: &[Replica]) -> &'a str {
    if all.iter().filter(|other| other.name == one.name).count() == 1 { &one.name } else { &one.id }
}

/// The addresses of those that `bears` a name.
pub(super) fn addresses<'a>(
    all: impl IntoIterator<Item = &'a Replica>,
    bears: impl Fn(&Replica) -> bool,
) -> BTreeSet<IpAddr> {
    all.into_iter().filter(|one| bears(one)).map(|one| one.address).collect()
}

/// Replicas of a service on two hosts, as compose v1 and v2 name them.
#[cfg(test)]
pub(super) fn examples(per_service: usize) -> Vec<Replica> {
    let mut all = Vec::new();
    for (host, separator, third) in [("host1", '_', 0), ("host2", '-', 255)] {
        for service in SERVICES {
            for number in 1..=per_service {
                let last = all.len() + 2;
                all.push(Replica {
                    host: host.to_owned(),
                    name: format!("shop{separator}{service}{separator}{number}"),
                    id: format!("{last:012x}"),
                    service: service.to_owned(),
                    address: format!("172.18.{third}.{last}").parse().unwrap(),
                });
            }
        }
    }
    all
}

/// A network with all of [`examples`] in it.
#[cfg(test)]
pub(super) fn example_network() -> Network {
    Network {
        name: Some(NETWORK.to_owned()),
        subnets: vec!["172.18.0.0/16".to_owned()],
        vni: 4096,
        mtu: 1450,
        hosts: vec!["host1".to_owned(), "host2".to_owned()],
        endpoints: 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_read_as_inspect_tells_it() {
        let id = "f53cfe3293279c50990e780d6f254768b8b61dfc7780f4c8e83de18f97037146";
        let one = parse("host1", &format!("/shop_php_1 {id} php 172.18.0.3")).unwrap();
        assert_eq!((&*one.name, &*one.id, &*one.service), ("shop_php_1", "f53cfe329327", "php"));
        assert_eq!(one.address.to_string(), "172.18.0.3");
        let error = parse("host1", &format!("/shop_php_1 {id} php ")).unwrap_err().to_string();
        assert!(error.contains("host1") && error.contains("shop_php_1"), "{error}");
    }

    #[test]
    fn a_name_that_two_bear_is_nobodys_own() {
        let mut all = examples(1);
        assert_eq!(own_name(&all[3], &all), "shop-php-1");
        all[1].name = all[3].name.clone();
        assert_eq!(own_name(&all[3], &all), all[3].id);
    }
}
