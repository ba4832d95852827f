//! The tables at the end: networks, hosts, names, pings, and what is left.

use super::super::status::table;
use super::asking::Ping;
use super::left::Left;
use super::picture::Place;
use super::project::{Network, Replica, SERVICES};

/// All that the show has found out.
#[derive(Debug)]
pub(super) struct Findings {
    /// The network when all replicas were there.
    pub(super) network: Network,
    /// Every host with all its replicas.
    pub(super) places: Vec<Place>,
    /// Pings across, by container name, alias and service name, of one replica of each service per host.
    pub(super) few: Vec<Ping>,
    /// One ping across to every replica.
    pub(super) every: Vec<Ping>,
    /// A ping by alias on a host that stayed, after the project had left the first one.
    pub(super) after: Ping,
    pub(super) left: Vec<Left>,
}

/// All tables, with a blank line between them.
pub(super) fn tables(findings: &Findings) -> String {
    let [networks, hosts, names, pings, left] =
        [networks(findings), hosts(findings), names(findings), pings(findings), left(findings)];
    format!("{networks}\n{hosts}\n{names}\n{pings}\n{left}")
}

fn networks(findings: &Findings) -> String {
    let Network { name, subnets, vni, mtu, hosts, endpoints } = &findings.network;
    table(
        ["NETWORK", "SUBNET", "VNI", "MTU", "HOSTS", "CONTAINERS"],
        [[
            name.clone().unwrap_or_default(),
            subnets.join(", "),
            vni.to_string(),
            mtu.to_string(),
            hosts.join(", "),
            endpoints.to_string(),
        ]],
    )
}

fn hosts(findings: &Findings) -> String {
    let rows = findings.places.iter().map(|place| {
        let count = |service: &&str| place.replicas.iter().filter(|one| one.service == *service).count();
        let counts = SERVICES.iter().map(|service| format!("{} {service}", count(service)));
        let replicas = counts.collect::<Vec<_>>().join(" + ");
        [place.host.clone(), place.engine.clone(), place.compose.clone(), place.vtep.clone(), replicas]
    });
    table(["HOST", "ENGINE", "COMPOSE", "VTEP", "REPLICAS"], rows)
}

fn names(findings: &Findings) -> String {
    let all: Vec<&Replica> = findings.places.iter().flat_map(|place| &place.replicas).collect();
    let shared = SERVICES.iter().map(|service| {
        let count = all.iter().filter(|one| one.service == *service).count();
        let hosts: Vec<&str> = findings.places.iter().map(|place| &*place.host).collect();
        [(*service).to_owned(), hosts.join(", "), format!("{count} addresses"), "-".into(), "-".into()]
    });
    let own = all.iter().map(|one| {
        let ping = findings.every.iter().find(|ping| ping.answer.address == one.address);
        let by = ping.map_or_else(|| "-".to_owned(), |ping| format!("{} of {}", ping.from, ping.from_host));
        let millis = ping.map_or_else(|| "-".to_owned(), millis);
        [one.name.clone(), one.host.clone(), one.address.to_string(), by, millis]
    });
    table(["NAME", "HOST", "ADDRESS", "ANSWERED", "ROUND TRIP"], shared.chain(own))
}

fn pings(findings: &Findings) -> String {
    let row = |when: &str, ping: &Ping| {
        [
            when.to_owned(),
            format!("{} of {}", ping.from, ping.from_host),
            format!("{} of {}", ping.by, ping.by_host),
            ping.asked.clone(),
            ping.answer.address.to_string(),
            millis(ping),
        ]
    };
    let gone = findings.places.first().map_or_else(String::new, |place| format!("{} down", place.host));
    let few = findings.few.iter().map(|ping| row("1 + 1 up", ping));
    let rows = few.chain([row(&gone, &findings.after)]);
    table(["WHEN", "PING FROM", "TO", "NAME ASKED", "ANSWER", "ROUND TRIP"], rows)
}

fn left(findings: &Findings) -> String {
    let rows = findings.left.iter().map(|left| {
        let counts = left.found.iter().map(|(what, found)| format!("{} {what}", found.len()));
        [left.place.clone(), counts.collect::<Vec<_>>().join(", ")]
    });
    table(["AFTER DOWN", "LEFT"], rows)
}

fn millis(ping: &Ping) -> String {
    format!("{:.3} ms", ping.answer.millis)
}

#[cfg(test)]
mod tests {
    use super::super::asking::Answer;
    use super::super::picture;
    use super::super::project;
    use super::*;

    fn ping(from: &Replica, by: &Replica, asked: &str) -> Ping {
        Ping {
            from: from.name.clone(),
            from_host: from.host.clone(),
            asked: asked.to_owned(),
            by: by.name.clone(),
            by_host: by.host.clone(),
            answer: Answer { address: by.address, millis: 0.1234 },
        }
    }

    #[test]
    fn the_tables_hold_what_was_found() {
        let all = project::examples(1);
        let findings = Findings {
            network: project::example_network(),
            places: picture::places(2),
            few: vec![ping(&all[1], &all[2], "nginx")],
            every: vec![ping(&all[1], &all[2], "shop-nginx-1")],
            after: ping(&all[3], &all[2], "nginx"),
            left: vec![
                Left { place: "host1".into(), found: vec![("containers", vec![]), ("networks", vec![])] },
                Left { place: "etcd".into(), found: vec![("records", vec!["x".into()])] },
            ],
        };
        let text = tables(&findings);
        let flat: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "shop_default 172.18.0.0/16 4096 1450 host1, host2 4",
            "host1 20.10.24 1.29.2 192.0.2.1 1 nginx + 1 php",
            "nginx host1, host2 2 addresses - -",
            "shop_nginx_1 host1 172.18.0.2 - -",
            "shop-nginx-1 host2 172.18.255.4 shop_php_1 of host1 0.123 ms",
            "1 + 1 up shop_php_1 of host1 shop-nginx-1 of host2 nginx 172.18.255.4 0.123 ms",
            "host1 down shop-php-1 of host2 shop-nginx-1 of host2 nginx 172.18.255.4 0.123 ms",
            "host1 0 containers, 0 networks",
            "etcd 1 records",
        ] {
            assert!(flat.iter().any(|found| found == line), "no {line:?} in\n{text}");
        }
    }
}
