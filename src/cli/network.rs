//! `network create` and `network rm`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use clap::Args;
use ipnet::IpNet;

use super::{client, output};
use crate::admin::{
    CREATE_PATH, NETWORKS_PATH, NetworkEnd, NetworkEnded, NetworkMade, NetworkOrder, NetworkRow, REMOVE_PATH,
    SubnetOrder,
};

/// How often the daemon is asked which hosts have a network.
const LOOK: Duration = Duration::from_millis(100);

/// What `docker network create` takes, as far as it makes sense here.
#[derive(Debug, Args)]
#[group(skip)]
#[allow(clippy::doc_markdown, reason = "these docstrings are help texts, where backticks would be noise")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of docker's")]
pub(super) struct Create {
    /// Name of the network
    name: String,
    /// Subnet in CIDR format that represents a network segment; may be repeated
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<IpNet>,
    /// IPv4 or IPv6 gateway of a subnet; may be repeated
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Allocate container addresses from a sub-range; may be repeated
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<IpNet>,
    /// Auxiliary address that no container gets; may be repeated
    #[arg(long, value_name = "NAME=IP", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Give containers IPv4 addresses; --ipv4=false takes Docker 28 on every host that is to have the network
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    ipv4: bool,
    /// Enable IPv6
    #[arg(long)]
    ipv6: bool,
    /// Let containers be attached by hand in swarm mode
    #[arg(long)]
    attachable: bool,
    /// Label of the network; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Driver option; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    opt: Vec<(String, String)>,
    /// Leave the choice of addresses on this host to the engine's own IPAM
    #[arg(long)]
    default_ipam: bool,
    /// How long to wait until all live hosts have it, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

/// Creates the network, waits until all live hosts have it, and prints its id.
pub(super) fn create(socket: &Path, wanted: Create) -> anyhow::Result<()> {
    let wait = Duration::from_secs(wanted.wait);
    let name = wanted.name.clone();
    let order = wanted.order()?;
    let made: NetworkMade = client::post(socket, CREATE_PATH, &order)?;
    let end = Instant::now() + wait;
    loop {
        let rows: Vec<NetworkRow> = client::get(socket, NETWORKS_PATH)?;
        // By its name as well: two hosts that create one name at once end with one of the two networks.
        let row = rows.iter().find(|row| row.name.as_deref() == Some(&name));
        let late = Instant::now() >= end;
        match row {
            Some(row) if row.missing.is_empty() => {
                output::progress("")?;
                if !row.unable.is_empty() {
                    output::complain(&format!("network {name} is not on {}", row.unable.join(", ")));
                }
                return output::print(&row.id);
            }
            Some(row) if late => {
                output::progress("")?;
                bail!(
                    "network {name} ({}) is there, but after {} s not on {}; `rs-overlay status` there tells why",
                    row.id,
                    wait.as_secs(),
                    row.missing.join(", ")
                );
            }
            None if late => {
                output::progress("")?;
                bail!(
                    "network {name} ({}) is created on this host, but not told to the others after {} s; see `rs-overlay status`",
                    made.docker_id,
                    wait.as_secs()
                );
            }
            Some(row) => output::progress(&format!("waiting for {}", row.missing.join(", ")))?,
            None => output::progress("telling the cluster")?,
        }
        std::thread::sleep(LOOK);
    }
}

/// Removes the networks and says of each what that meant.
pub(super) fn remove(socket: &Path, names: &[String]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for name in names {
        let end = NetworkEnd { name: name.clone() };
        match client::post::<NetworkEnded>(socket, REMOVE_PATH, &end) {
            Ok(ended) if !ended.still_on.is_empty() => {
                failed.push(format!(
                    "{name}: gone from the cluster, but not yet removed on {}; `rs-overlay status` there tells why",
                    ended.still_on.join(", ")
                ));
            }
            Ok(ended) if ended.lives_on.is_empty() => output::print(&format!("{name}: gone everywhere"))?,
            Ok(ended) => output::print(&format!(
                "{name}: left this host alone, lives on {}; `rs-overlay network create {name}` joins it again",
                ended.lives_on.join(", ")
            ))?,
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("; "))) }
}

impl Create {
    /// Sorts gateways, ranges and auxiliary addresses to the subnets that they lie in, as docker does.
    fn order(self) -> anyhow::Result<NetworkOrder> {
        let mut subnets: Vec<SubnetOrder> = Vec::new();
        for subnet in self.subnet {
            let subnet = subnet.trunc();
            if let Some(other) = subnets.iter().find(|other| {
                other.subnet.contains(&subnet.network()) || subnet.contains(&other.subnet.network())
            }) {
                bail!("--subnet {subnet} overlaps --subnet {}", other.subnet);
            }
            subnets.push(SubnetOrder { subnet, gateway: None, ip_range: None, aux: BTreeMap::new() });
        }
        for range in self.ip_range {
            let subnet = subnets.iter_mut().find(|subnet| subnet.subnet.contains(&range));
            let subnet = subnet.ok_or_else(|| anyhow!("--ip-range {range} lies in no --subnet"))?;
            if subnet.ip_range.replace(range.trunc()).is_some() {
                bail!("--subnet {} has more than one --ip-range", subnet.subnet);
            }
        }
        for gateway in self.gateway {
            let subnet = around(&mut subnets, "--gateway", gateway)?;
            if subnet.gateway.replace(gateway).is_some() {
                bail!("--subnet {} has more than one --gateway", subnet.subnet);
            }
        }
        for (name, text) in self.aux_address {
            let ip = text.parse().map_err(|_| anyhow!("--aux-address {name}={text} is no IP address"))?;
            around(&mut subnets, "--aux-address", ip)?.aux.insert(name, ip);
        }
        Ok(NetworkOrder {
            name: self.name,
            subnets,
            internal: self.internal,
            attachable: self.attachable,
            without_ipv4: !self.ipv4,
            ipv6: self.ipv6,
            labels: self.label.into_iter().collect(),
            options: self.opt.into_iter().collect(),
            default_ipam: self.default_ipam,
        })
    }
}

fn around<'a>(subnets: &'a mut [SubnetOrder], flag: &str, ip: IpAddr) -> anyhow::Result<&'a mut SubnetOrder> {
    let subnet = subnets.iter_mut().find(|subnet| subnet.subnet.contains(&ip));
    subnet.ok_or_else(|| anyhow!("{flag} {ip} lies in no --subnet"))
}

/// `KEY=VALUE`; without a value it is empty, as docker has it.
#[allow(clippy::unnecessary_wraps, reason = "clap's signature")]
fn pair(text: &str) -> Result<(String, String), std::convert::Infallible> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn order(line: &str) -> Result<NetworkOrder, String> {
        let line = Line::try_parse_from(std::iter::once("create").chain(line.split(' ')));
        line.map_err(|error| error.to_string())?.create.order().map_err(|error| error.to_string())
    }

    #[test]
    fn everything_lands_at_the_subnet_that_it_lies_in() {
        let order = order(
            "--subnet 2001:db8::/64 --subnet 10.9.0.0/16 --gateway 10.9.0.1 --gateway 2001:db8::1 \
             --ip-range 10.9.3.0/24 --aux-address printer=10.9.0.9 --label a=b=c --label bare -o vni=7 \
             --internal --ipv6 --attachable blue",
        )
        .unwrap();
        assert_eq!(order.name, "blue");
        assert_eq!(order.subnets[0].gateway, "2001:db8::1".parse().ok());
        assert_eq!(order.subnets[1].gateway, "10.9.0.1".parse().ok());
        assert_eq!(order.subnets[1].ip_range, "10.9.3.0/24".parse().ok());
        assert_eq!(order.subnets[1].aux["printer"], "10.9.0.9".parse::<IpAddr>().unwrap());
        assert_eq!((order.labels["a"].as_str(), order.labels["bare"].as_str()), ("b=c", ""));
        assert_eq!(order.options["vni"], "7");
        assert!(order.internal && order.ipv6 && order.attachable && !order.default_ipam);
    }

    #[test]
    fn what_lies_nowhere_is_refused_by_name() {
        for (line, part) in [
            ("--gateway 10.9.0.1 blue", "--gateway 10.9.0.1"),
            ("--subnet 10.9.0.0/24 --ip-range 10.8.0.0/25 blue", "--ip-range 10.8.0.0/25"),
            ("--subnet 10.9.0.0/24 --aux-address a=b blue", "a=b"),
            ("--subnet 10.9.0.0/24 --subnet 10.9.0.0/16 blue", "overlaps"),
            ("--subnet 10.9.0.0/24 --gateway 10.9.0.1 --gateway 10.9.0.2 blue", "more than one --gateway"),
            ("--subnet nonsense blue", "nonsense"),
        ] {
            let said = order(line).unwrap_err();
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}
